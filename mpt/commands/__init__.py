"""The commands of `mpt COMMAND`: each reads its options, and gives the work to be done with them.

What a command is told is read and looked at without JAX, which takes seconds to load: a mistake is answered
at once, and so is `mpt --help`. The work imports what it needs when it runs.
"""

from collections.abc import Callable
from typing import NamedTuple


class Work(NamedTuple):
    """What a command is to do.

    Attributes:
        run: does it.
        about: what it is, for a line before the libraries load; empty where it is done at once.
    """

    run: Callable[[], object]
    about: str = ""


# A command takes the arguments after its name.
Command = Callable[[list[str]], Work]
