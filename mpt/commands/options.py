"""The options of commands: types that several share, their names, and the errors for mistyped ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

import tyro

from mpt.errors import UserError

# A folder, or a URL such as gs://bucket/run, which a `Path` would shorten to gs:/bucket/run.
RunArgument = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
RunArguments = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR...")]
TaskArgument = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
OutOption = Annotated[str, tyro.conf.arg(metavar="PATH")]


def names(kind: Callable[..., Any], prefix: str = "") -> Iterator[str]:
    """The names of the options of a function, or of a dataclass with its sections.

    >>> from mpt.config.pretrain import PretrainConfig
    >>> [name for name in names(PretrainConfig) if "balanced" in name]
    ['--teachers.balanced', '--teachers.no-balanced', '--universal.balanced', '--universal.no-balanced']
    """
    for name, hint in get_type_hints(kind, include_extras=True).items():
        own, *marks = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if name == "return" or tyro.conf.Positional in marks:
            continue
        if is_dataclass(own):
            nameless = any(getattr(mark, "name", None) == "" for mark in marks)
            yield from names(own, prefix if nameless else f"{prefix}{name}.")  # type: ignore[arg-type]
            continue
        plain = name.replace("_", "-")
        yield f"--{prefix}{plain}".replace("_", "-")
        if own is bool:
            yield f"--{prefix}no-{plain}".replace("_", "-")


def nameless(function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters that a command is given without their names."""
    hints = get_type_hints(function, include_extras=True)
    return [name for name, hint in hints.items() if tyro.conf.Positional in get_args(hint)]


def check_names(
    arguments: Sequence[str], known: Sequence[str], prog: str, nameless: Sequence[str] = ()
) -> None:
    """Refuses an option that a command does not have, with those that may be meant.

    Args:
        known: its options.
        nameless: the arguments that it is given without their names.

    >>> check_names(["--stepz", "3"], ["--train.steps", "--train.warmup", "--search.steps"], "mpt adapt")
    Traceback (most recent call last):
        ...
    mpt.errors.UserError: adapt: no option --stepz; did you mean --train.steps or --search.steps?
    """
    taken = {*known, "--help", "--help-all"}
    for argument in arguments:
        name = argument.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in taken:
            command, given = prog.removeprefix("mpt "), argument.partition("=")[0]
            plain = name.removeprefix("--")
            hint = f"leave the name out: {prog} {plain.upper()}" if plain in nameless else ""
            raise UserError(f"{command}: no option {given}; {hint or _meant(name, known, prog)}")


def _meant(name: str, known: Sequence[str], prog: str) -> str:
    """The hint of an error about an unknown option."""
    within = [each for each in known if each.startswith(f"{name}.")]
    whole = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    last = {each.rpartition(".")[2].removeprefix("--") for each in known}
    ending = difflib.get_close_matches(name.rpartition(".")[2].removeprefix("--"), last, n=1, cutoff=0.7)
    alike = [each for each in known if ending and each.rpartition(".")[2].removeprefix("--") == ending[0]]
    if found := within or whole or alike:
        return f"did you mean {_either(found[:4])}?"
    return f"`{prog} --help` lists them"


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
