"""Commands of a command, such as `mpt bank add`."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

from mpt.commands import Command, Work
from mpt.commands.help import WIDTH, table
from mpt.errors import UserError, nearest


def within(
    command: str, about: str, commands: Mapping[str, Command], rest: list[str], default: str = ""
) -> Work:
    """The work of the subcommand that the arguments name.

    Args:
        about: what the outer command does, for its help.
        default: the command where none is named.

    Raises:
        UserError: there is no such command.
    """
    name, *left = rest or [default or "--help"]
    if name in ("-h", "--help", "--help-all"):
        usage = f"usage: mpt {command} {{{','.join(commands)}}} [OPTIONS]"
        return Work(lambda: print(f"{usage}\n\n{fill(about, WIDTH)}\n\n{table(commands)}"))
    if name not in commands:
        raise UserError(f"no command 'mpt {command} {name}'; {nearest(name, commands)}")
    return commands[name](left)
