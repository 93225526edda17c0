"""The full help of a command in plain lines, from its parameters, docstrings and configs."""

from __future__ import annotations

import inspect
import shlex
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
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
    return "\n\n".join([f"usage: {usage}", *abouts, *[_paragraphs(arguments)] * bool(arguments)])


def everything(order: Any, command: str, about: str) -> str:
    """What a command with a config prints for --help-all: each option and its default, by sections.

    Args:
        order: the command's options, with their values where none is given; ``config`` is that of the run.
        about: what the command does.
    """
    texts, values = sentences(type(order)), vars(order)
    hints = get_type_hints(type(order), include_extras=True)
    own = [_argument(name, hints[name], values[name], texts[name]) for name in values if name != "config"]
    return "\n\n".join(
        [
            f"usage: mpt {command} [CONFIG] [OPTIONS]",
            textwrap.fill(about, WIDTH),
            "CONFIG is a YAML file, or the name of a packaged one.",
            _paragraphs(own),
            *_sections(order.config),
        ]
    )


def _sections(config: Any, above: str = "") -> Iterator[str]:
    """The options of a config, then those of its sections below what is said of each.

    Args:
        above: the dotted name of the section that it is, with a dot at its end.
    """
    said, hints, values = sentences(type(config)), get_type_hints(type(config)), vars(config)
    inner = [name for name in values if is_dataclass(hints[name])]
    yield _paragraphs(
        _argument(above + name, *_as_typed(hints[name], value), said.get(name, ""))
        for name, value in values.items()
        if name not in inner
    )
    for name in inner:
        text = said.get(name) or inspect.getdoc(hints[name]) or ""
        yield textwrap.fill(f"{above}{name}: {' '.join(text.split())}", WIDTH)
        yield from _sections(values[name], f"{above}{name}.")


def _as_typed(hint: Any, value: Any) -> tuple[Any, Any]:
    """The type and the value of a config's option; those of one that is true or false are words."""
    return (Literal["yes", "no"], "yes" if value else "no") if hint is bool else (hint, value)


def _paragraphs(arguments: Iterable[Argument]) -> str:
    """Arguments one below the other, and what each is for beside it, or below it where it is long."""
    shown = [*arguments]
    width = max((len(one.shown) for one in shown if len(one.shown) <= WIDEST), default=0) + 4
    return "\n".join(_paragraph(one, width) for one in shown)


def _paragraph(argument: Argument, width: int) -> str:
    below = len(argument.shown) > width - 4
    text = f"  {argument.shown}\n{' ' * width}" if below else f"  {argument.shown:<{width - 2}}"
    filled = textwrap.fill(argument.text, WIDTH, initial_indent=" " * width, subsequent_indent=" " * width)
    return text + filled[width:]


def _arguments(kind: Callable[..., Any], texts: Mapping[str, str]) -> Iterator[Argument]:
    """The arguments that a function's parameters, or a dataclass's fields, stand for."""
    hints = get_type_hints(kind, include_extras=True)
    for name, parameter in inspect.signature(kind).parameters.items():
        own = get_args(hints[name])[0] if hasattr(hints[name], "__metadata__") else hints[name]
        if is_dataclass(own):
            yield from _arguments(own, sentences(own))  # type: ignore[arg-type]
        else:
            yield _argument(name, hints[name], parameter.default, texts.get(name, ""))


def _argument(name: str, hint: Any, default: Any, text: str) -> Argument:
    """An argument by its name, its type, its value where it is left out, and what is said of it."""
    own, *marks = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    is_option, required = tyro.conf.Positional not in marks, default is inspect.Parameter.empty
    last = name.rpartition(".")[2]
    named = next((mark.metavar for mark in marks if getattr(mark, "metavar", None)), _metavar(last, own))
    option, more = f"--{name.replace('_', '-')} " if is_option else "", []
    if len(option + named) > WIDTH - 2:  # so many choices stand in the text
        named, more = _metavar(last, str), [f"one of {', '.join(filter(None, get_args(own)))}"]
    if not (required or default is False or default in ("", (), None)):
        value = shlex.join(map(str, default)) if isinstance(default, tuple) else str(default)
        more.append(f"default: {value}")
    about = f"{text} ({'; '.join(more)})" if more else text
    return Argument(f"{option}{named}".rstrip(), " ".join(about.split()), is_option, required)


def _metavar(name: str, kind: Any) -> str:
    """What stands for an option's value."""
    if kind is bool:
        return ""
    if get_origin(kind) is tuple:
        return f"{_metavar(name, get_args(kind)[0])} ..."
    if get_origin(kind) is Literal:
        return f"{{{','.join(str(choice) for choice in get_args(kind) if choice)}}}"
    return "N" if kind in (int, float) else name.upper().replace("_", "-")
