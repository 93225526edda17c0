"""What `mpt COMMAND` can do: each command reads its options and hands them to a recipe.

Recipes are imported by the commands that run them, so that `mpt --help` answers at once.
"""

from collections.abc import Callable

# A command takes the words behind its name.
Command = Callable[[list[str]], None]
