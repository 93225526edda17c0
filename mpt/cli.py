"""The `mpt` command: finds what the user asks for, and tells what went wrong in one line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from mpt.commands import look, train, use
from mpt.errors import UserError, nearest
from mpt.system.quiet import quiet
from mpt.system.signals import Stopped, stops_on_sigterm

COMMANDS = train.COMMANDS | use.COMMANDS | look.COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 2 for a user's mistake, 1 where the rest was done."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments is None and name in train.TRAINING:
        quiet()
        from mpt.system.processes import run_distributed

        return run_distributed(lambda: _run(name, rest))
    return _run(name, rest)


def _run(name: str, rest: list[str]) -> int:
    try:
        if name not in COMMANDS:
            raise UserError(f"no command '{name}'; {nearest(name, COMMANDS)}")
        quiet()
        with stops_on_sigterm() if name in train.TRAINING else nullcontext():
            COMMANDS[name](rest)
    except UserError as error:
        print(f"mpt: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("\nmpt: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except Stopped as stopped:
        print(f"mpt: {stopped}", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read our output has closed it: `mpt predict | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # Of a file or folder, it is the user's to mend: a full disk, a folder below a file, no permission.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not full and not error.filename:
            raise
        place = f"{error.filename}: " if error.filename else ""
        remedy = "with more room, the same command goes on" if full else "look at the path"
        print(f"mpt: {place}{error.strerror}; {remedy}", file=sys.stderr)
        return 2
    return 0


def _overview() -> str:
    lines = [f"  {name:<12}{command.__doc__}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mpt COMMAND [CONFIG] [OPTIONS]",
            "",
            "Multitask prompt tuning: universal soft prompts that transfer to new tasks.",
            "",
            *lines,
            "",
            "CONFIG is a YAML file, or the name of a packaged one. `mpt COMMAND --help` lists the options;",
            "each option of a config is given by its dotted name, such as --train.steps 40.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
