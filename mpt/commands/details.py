"""Help in plain lines of a command that is a function: what its parameters and docstring tell."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import docstring_parser
import tyro

from mpt.commands.help import WIDTH, sentences

WIDEST = 24  # columns of names beside which what is said of them begins


class Argument(NamedTuple):
    """An argument of a command.

    Attributes:
        shown: its name and what follows it, such as ``--rows N``.
        text: what it is for.
    """

    shown: str
    text: str
    is_option: bool
    is_required: bool


def details(function: Callable[..., Any], command: str) -> str:
    """What a command without a config prints for --help: its arguments, those without a name first.

    Args:
        function: whose parameters and docstring tell of them.
        command: its name, such as ``mpt tasks check``.
    """
    said = docstring_parser.parse(inspect.getdoc(function) or "")
    texts = {one.arg_name: one.description or "" for one in said.params}
    arguments = sorted(_arguments(function, texts), key=lambda one: (one.is_option, not one.is_required))
    needed = [one.shown for one in arguments if one.is_required or not one.is_option]
    usage = " ".join([command, *needed, *["[OPTIONS]"] * (len(needed) < len(arguments))])
    abouts = [textwrap.fill(text, WIDTH) for text in (said.short_description, said.long_description) if text]
    width = max((len(one.shown) for one in arguments if len(one.shown) <= WIDEST), default=0) + 4
    lines = (_paragraph(one, width) for one in arguments)
    return "\n\n".join([f"usage: {usage}", *abouts, *["\n".join(lines)] * bool(arguments)])


def _paragraph(argument: Argument, width: int) -> str:
    beside = f"  {argument.shown:<{width - 2}}"
    text = f"{beside}\n{' ' * width}" if len(beside) > width else beside
    filled = textwrap.fill(argument.text, WIDTH, initial_indent=" " * width, subsequent_indent=" " * width)
    return text + filled[width:]


def _arguments(kind: Callable[..., Any], texts: Mapping[str, str]) -> Iterator[Argument]:
    """The arguments that a function's parameters, or a dataclass's fields, stand for."""
    hints = get_type_hints(kind, include_extras=True)
    for name, parameter in inspect.signature(kind).parameters.items():
        own, *marks = get_args(hints[name]) if hasattr(hints[name], "__metadata__") else (hints[name],)
        if is_dataclass(own):
            yield from _arguments(own, sentences(own))  # type: ignore[arg-type]
            continue
        is_option = tyro.conf.Positional not in marks
        named = next((mark.metavar for mark in marks if getattr(mark, "metavar", None)), _metavar(name, own))
        option = f"--{name.replace('_', '-')} " if is_option else ""
        required = parameter.default is inspect.Parameter.empty
        says_more = not (required or parameter.default is False or parameter.default in ("", (), None))
        text = " ".join(texts.get(name, "").split()) + f" (default: {parameter.default})" * says_more
        yield Argument(f"{option}{named}".rstrip(), text, is_option, required)


def _metavar(name: str, kind: Any) -> str:
    """What stands for an option's value."""
    if kind is bool:
        return ""
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, get_args(kind)))}}}"
    if kind in (int, float):
        return "N"
    return name.upper().replace("_", "-") + " ..." * (get_origin(kind) is tuple)
