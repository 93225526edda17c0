"""Help that fits a screen: of a command that takes a config, a line for each option and for each section."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import get_type_hints

from mpt.commands import Command
from mpt.commands.options import names

WIDTH, NAMES = 80, 20  # columns of a terminal, and of the options' names


def overview(kind: type, order: type, command: str, about: str) -> str:
    """What `mpt COMMAND --help` prints.

    Args:
        kind: the config's dataclass.
        order: the dataclass of the command's options apart from the config.
    """
    return "\n".join(
        [
            f"usage: mpt {command} [CONFIG] [OPTIONS]",
            "",
            *textwrap.wrap(about, WIDTH),
            "",
            "CONFIG is a YAML file, or the name of a packaged one.",
            "",
            *_lines(order),
            *_lines(kind),
            "",
            f"`mpt {command} --help-all` explains every option, those of the sections (*) too.",
        ]
    )


def table(commands: Mapping[str, Command]) -> str:
    """The names of commands, each with its description."""
    width = max(map(len, commands)) + 4
    return "\n".join(
        textwrap.fill(f"  {name:<{width - 2}}{command.__doc__}", WIDTH, subsequent_indent=" " * width)
        for name, command in commands.items()
    )


def _lines(kind: type) -> Iterator[str]:
    said, types = sentences(kind), get_type_hints(kind)
    for field in fields(kind):
        if field.name == "config":  # the rest of an order
            continue
        section, name = types[field.name], field.name.replace("_", "-")
        if is_dataclass(section):
            count = sum(not each.rpartition(".")[2].startswith("no-") for each in names(section))  # type: ignore[arg-type]
            text = said.get(field.name) or inspect.getdoc(section) or ""
            yield _line(f"{name}.*", text, f" ({count} option{'s' * (count > 1)})")
        else:
            yield _line(name, said.get(field.name, ""))


def _line(name: str, text: str, end: str = "") -> str:
    """An option with the first sentence of its help, or as many clauses of it as fit."""
    sentence = re.split(r"\.(?:\s+(?=[A-Z])|$)", " ".join(text.split()))[0]
    left = WIDTH - NAMES - 4 - len(end)
    if len(sentence) > left and (clauses := re.match(r"(.{24,})(?:[,;:]| \()", sentence[: left + 1])):
        whole = clauses[1].count("(") == clauses[1].count(")")
        sentence = clauses[1] if whole else clauses[1].partition(" (")[0]
    return f"  --{name:<{NAMES}}{textwrap.shorten(sentence, left, placeholder=' …')}{end}".rstrip()


def sentences(kind: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, and of those that it extends."""
    found: dict[str, str] = {}
    for each in filter(is_dataclass, reversed(kind.__mro__)):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0].body  # type: ignore[attr-defined]
        for field, below in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match below:
                    case ast.Expr(ast.Constant(str(text))):
                        found[field.target.id] = text
    return found
