"""The commands of `mpt COMMAND`: each reads its options and passes them to a recipe.

Every command imports its recipe when it runs, so that `mpt --help` answers at once.
"""

from collections.abc import Callable

# A command takes the arguments after its name.
Command = Callable[[list[str]], None]
