"""Boolean options with or without a value: `--train.balanced yes` as well as `--train.balanced`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import is_dataclass
from typing import get_type_hints

from mpt.errors import UserError

WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def booleans(kind: type, prefix: str = "") -> Iterator[str]:
    """The dotted names of a dataclass's booleans, those of its sections too.

    >>> from mpt.config.pretrain import PretrainConfig
    >>> list(booleans(PretrainConfig))
    ['vectors.every_layer', 'teachers.balanced', 'universal.balanced', 'universal.cache_teachers']
    """
    for name, option in get_type_hints(kind).items():
        if option is bool:
            yield prefix + name
        elif is_dataclass(option):
            yield from booleans(option, f"{prefix}{name}.")  # type: ignore[arg-type]


def as_flags(arguments: Sequence[str], names: Collection[str]) -> list[str]:
    """Arguments in which no flag is followed by its value: it stands for true, with ``no-`` for false.

    Args:
        names: the dotted names of all flags, with ``_`` or ``-`` between their words.

    Raises:
        UserError: a flag is followed by a word that is neither true nor false.

    >>> as_flags(["--a.wide", "False", "--deep=yes", "--size", "1"], ["a.wide", "deep"])
    ['--a.no-wide', '--deep', '--size', '1']
    """
    known, flags, left = {_plain(name) for name in names}, [], list(arguments)
    while left:
        argument = left.pop(0)
        option, given, word = argument.partition("=")
        name = _plain(option.removeprefix("--"))
        if not option.startswith("--") or name not in known:
            flags.append(argument)
            continue
        if not given and left and not left[0].startswith("-"):
            given, word = " ", left.pop(0)
        if given and word.lower() not in WORDS:
            raise UserError(f"{option}: it must be true or false, not '{word}'")
        flags.append(f"--{name if not given or WORDS[word.lower()] else _negated(name)}")
    return flags


def _negated(name: str) -> str:
    section, dot, last = name.rpartition(".")
    return f"{section}{dot}no-{last}"


def _plain(name: str) -> str:
    return name.replace("_", "-")
