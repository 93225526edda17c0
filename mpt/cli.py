"""The `mpt` command: finds what the user asks for, and tells what went wrong in one line."""

from __future__ import annotations

import os
import sys

from mpt.system.interrupts import STATUS as INTERRUPTED
from mpt.system.interrupts import end_on_interrupt, quiet_on_interrupt

# As a program, Ctrl-C is taken care of before anything else is imported.
if __name__ == "__main__" or os.path.basename(sys.argv[0]) in ("mpt", "mpt.exe"):
    quiet_on_interrupt()

import errno
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from mpt.errors import UserError, nearest, tell
from mpt.system.signals import STOPPED, Stopped, stops_on_sigterm

if TYPE_CHECKING:
    from mpt.commands import Command

GOES_ON = "; the same command resumes from the last checkpoint"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 2 for a mistake to mend, 1 where the rest was done.

    Args:
        arguments: the command's name and what follows it; where left out, those of this process, which is
            then the command's own.
    """
    if arguments is not None:
        return _status(lambda: _obey(list(arguments)))
    quiet_on_interrupt()
    status = _status(lambda: _obey(sys.argv[1:], alone=True))
    if status in (INTERRUPTED, STOPPED):
        os._exit(status)  # at a normal exit, threads that are amid something are waited for, or are loud
    end_on_interrupt()
    return status


@cache
def commands() -> Mapping[str, Command]:
    """All commands by name. They are not imported before Ctrl-C is taken care of."""
    from mpt.commands import look, train, use

    return train.COMMANDS | use.COMMANDS | look.COMMANDS


def _obey(given: list[str], alone: bool = False) -> int:
    """Does what a command line says, and returns the exit status.

    Args:
        alone: the process is the command's own: it says what it does, and joins the others of its cluster.
    """
    name, *rest = given or ["--help"]
    if name in ("-h", "--help", "--help-all", "help"):
        print(_overview())
        return 0
    if name in ("-V", "--version", "version"):
        from mpt.version import __version__

        print(f"mpt {__version__}")
        return 0
    if name not in commands():
        raise UserError(f"no command '{name}'; {nearest(name, commands())}")
    work = commands()[name](rest)
    from mpt.commands.train import TRAINING
    from mpt.system.quiet import keep_torch_out, quiet
    from mpt.system.said import say, speak

    if alone:
        speak()
    if work.about:
        say(f"{work.about}; loading the libraries")
    quiet()
    if alone and work.about:
        keep_torch_out()
    if name not in TRAINING:
        work.run()
        return 0
    with stops_on_sigterm():
        if not alone:
            work.run()
            return 0
        from mpt.system.processes import run_distributed

        return run_distributed(lambda: _status(work.run, GOES_ON))


def _status(run: Callable[[], object], interrupted: str = "") -> int:
    """The exit status of some work; what goes wrong in it is told in one line.

    Args:
        interrupted: what Ctrl-C has not spoilt.
    """
    try:
        try:
            status = run()
            return status if isinstance(status, int) else 0
        finally:
            sys.stdout.flush()  # here, so that a reader who has gone away is noticed
    except UserError as error:
        tell(str(error))
        return error.status
    except KeyboardInterrupt:
        end_on_interrupt()
        print(file=sys.stderr)
        tell(f"interrupted{interrupted}")
        return INTERRUPTED
    except Stopped as stopped:
        tell(str(stopped))
        return STOPPED
    except BrokenPipeError:
        # Whoever read our output has closed it: `mpt predict | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # Of a file or folder, it is the user's to mend: a full disk, a folder below a file, no permission.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and not error.filename:
            raise
        place = f"{error.filename}: " if error.filename else ""
        remedy = "with more free space, the same command resumes" if full else "check the path"
        tell(f"{place}{error.strerror}; {remedy}")
        return 2
    return 0


def _overview() -> str:
    from mpt.commands.help import table

    return "\n".join(
        [
            "usage: mpt COMMAND [CONFIG] [OPTIONS]",
            "",
            "Multitask prompt tuning: universal soft prompts that transfer to new tasks.",
            "",
            table(commands()),
            "",
            "CONFIG is a YAML file, or the name of a packaged one. `mpt COMMAND --help` lists",
            "the options, `--help-all` explains each. One of a config has a dotted name,",
            "such as --train.steps 40.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
