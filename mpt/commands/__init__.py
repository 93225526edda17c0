"""The commands of `mpt COMMAND`: each reads its options, and returns the work to be done with them.

Options are read and checked without JAX, which takes seconds to load, so that mistakes and `mpt --help` are
answered at once. The work imports what it needs when it runs.
"""

from collections.abc import Callable
from typing import NamedTuple


class Work(NamedTuple):
    """What a command is to do.

    Attributes:
        run: does it.
        about: its description, printed before the libraries load; empty if it is done at once.
    """

    run: Callable[[], object]
    about: str = ""


# A command takes the arguments after its name.
Command = Callable[[list[str]], Work]
