"""Messages for users: mistakes to correct, in one clear line each, never a traceback.

On a terminal, lines break between words; elsewhere they stay whole.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from textwrap import TextWrapper
from typing import Any


class UserError(Exception):
    """A mistake of the user. Its text names the place and the remedy.

    Attributes:
        status: the exit status of a command that it ends.
    """

    status = 2


class PartlyDone(UserError):
    """A mistake in a part of the user's input; the rest has been done."""

    status = 1


class _Words(TextWrapper):
    """Keeps whole what stands between backquotes, a command to paste."""

    wordsep_re = re.compile(r"(\s+|(?:[^\s`]|`[^`]*`)+)")


def tell(text: str) -> None:
    """Prints a line on standard error."""
    print(broken(f"mpt: {text}", sys.stderr), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Prints a line."""
    print(broken(text, sys.stdout))


def broken(text: str, stream: Any) -> str:
    """Lines as they go to a stream: where that is a terminal, none is wider, unless a word is."""
    columns = columns_of(stream)
    if not columns:
        return text
    words = _Words(columns, break_long_words=False)
    return "\n".join("\n".join(words.wrap(line)) for line in text.split("\n"))


def columns_of(stream: Any) -> int:
    """The width of a terminal; 0 where the stream is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):  # it is a file, closed, or an object of Python's
        return 0


_said: ContextVar[set[str] | None] = ContextVar("said", default=None)


def warn(text: str) -> None:
    """Warns, in one line, of something that may not be intended; the run continues."""
    said = _said.get()
    if said is None or text not in said:
        tell(f"warning: {text}")
    if said is not None:
        said.add(text)


@contextmanager
def warnings_once() -> Iterator[None]:
    """A context, or a decorator, in which each warning is printed once, however often it is given."""
    token = _said.set(set() if _said.get() is None else _said.get())
    try:
        yield
    finally:
        _said.reset(token)


def first_line(error: Exception) -> str:
    """The first line of a library's error.

    >>> first_line(OSError("no route\\nto the host")), first_line(TimeoutError())
    ('no route', 'TimeoutError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def one_line(error: BaseException, limit: int = 300) -> str:
    """The whole text of a library's error, as one line of at most ``limit`` letters.

    >>> one_line(ValueError("field 'size':\\n    expected int"))
    "field 'size': expected int"
    """
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= limit else words[: limit - 1] + "…"


def install(extra: str) -> str:
    """The command that installs one of mpt's extras, for the end of an error.

    >>> install("gcs")
    "in mpt's source folder, `python -m pip install -e '.[gcs]'`"
    """
    return f"in mpt's source folder, `python -m pip install -e '.[{extra}]'`"


def require(package: str, extra: str, what: str) -> None:
    """Refuses something that needs a package of an extra which is not installed; the package is not
    imported."""
    if find_spec(package) is None:
        raise UserError(f"{what} needs the package {package}: {install(extra)}")


SHORTEST = 3  # letters of a name that is taken for the beginning of another


def nearest(name: str, known: Iterable[str], all_of_them: str = "") -> str:
    """The hint of an error about an unknown name: the nearest known one, or all of them.

    Args:
        all_of_them: where to look them up, if they are too many to list.

    >>> nearest("bach_size", ["batch_size", "seed"])
    "did you mean 'batch_size'?"
    >>> nearest("promtp", ["prompt tuning", "spot"])
    "did you mean 'prompt tuning'?"
    >>> nearest("zzz", ["batch_size", "seed"])
    'known: batch_size, seed'
    """
    given, names = name.casefold(), {name.casefold(): name for name in sorted(known)}
    begun = {whole[: len(given)]: name for whole, name in reversed(names.items()) if len(given) >= SHORTEST}
    alike = difflib.get_close_matches
    close = alike(given, names, 1, 0.75) or alike(given, begun, 1, 0.75) or alike(given, names, 1)
    if close:
        return f"did you mean '{(begun | names)[close[0]]}'?"
    return all_of_them or f"known: {', '.join(names.values())}"
