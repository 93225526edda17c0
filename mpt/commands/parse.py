"""Parses arguments with tyro, and turns its errors, boxes of several lines, into one line."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial, wraps
from textwrap import dedent
from typing import Any, TypeVar

import tyro

from mpt.commands.details import details
from mpt.commands.options import check_names, nameless, names
from mpt.config.ranges import refuse_outside
from mpt.errors import UserError

HELP = {"-h", "--help", "--help-all"}
# Python's errors for values of the wrong type, in plain words.
CLEARER = {
    r"^Error parsing (\S+): ": r"\1: ",
    r"invalid literal for int\(\) with base 10: ('.*')": r"\1 is not a whole number",
    r"could not convert string to float: ('.*')": r"\1 is not a number",
    r"^Unrecognized options: (.*)": r"no option takes '\1'; write an option's name before it",
    r"^invalid choice ('.*') for argument '(.*)'\. Expected one of \((.*)\)": r"\2 is one of \3, not \1",
}

Read = TypeVar("Read")


def read(function: Callable[..., Read], arguments: Sequence[str], prog: str) -> Read:
    """Calls a function with the options that arguments give; its parameters and docstring are the help.

    Raises:
        UserError: there is no such option, or it has a value of another kind or out of its range.
    """
    if HELP & {*arguments}:
        print(details(function, prog))
        raise SystemExit(0)
    check_names(arguments, list(names(function)), prog, nameless(function))

    @wraps(function)
    def later(*given, **named) -> Callable[[], Read]:
        for name, value in named.items():
            if type(value) in (int, float):
                refuse_outside(name, value)
        return partial(function, *given, **named)

    return parsed(later, arguments, prog)()


def parsed(kind: Callable[..., Any], arguments: Sequence[str], prog: str, **more: Any) -> Any:
    """The values that tyro parses from arguments without --help.

    Raises:
        UserError: they cannot be read.
    """
    said = io.StringIO()
    try:
        # Where standard output is a terminal, tyro colours its errors.
        with redirect_stderr(said), redirect_stdout(said), _in_one_line():
            return tyro.cli(kind, args=arguments, prog=prog, **more)
    except SystemExit:
        command = prog.removeprefix("mpt ").removesuffix(" [CONFIG]")
        raise UserError(f"{command}: {_sentence(said.getvalue())}; see `mpt {command} --help`") from None


@contextmanager
def _in_one_line() -> Iterator[None]:
    """A context in which a paragraph that tyro prints is a line."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def _sentence(box: str) -> str:
    """An error of tyro's without its box, its title and what stands below its rule.

    >>> _sentence("╭─ Value error ──╮\\n│ Error parsing --n: wrong │\\n│ ──── │\\n│ more │\\n╰──╯")
    '--n: wrong'
    """
    below_title = "\n".join(line.strip("│").rstrip() for line in box.splitlines()[1:])
    text = next(filter(str.strip, re.split(r"^ *[─-]{4,} *$", below_title, flags=re.M)), "")
    if missing := re.findall(r"^ {4}(\S+)", dedent(text), re.M):
        verb = "is" if len(missing) == 1 else "are"
        return f"{' and '.join(missing)} {verb} missing"
    sentence = " ".join(text.split()).removesuffix(".")
    for said, clearer in CLEARER.items():
        sentence = re.sub(said, clearer, sentence)
    return sentence
