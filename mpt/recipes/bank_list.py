"""Lists a bank's prompts, without JAX: what a listing tells is in their cards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from mpt.cards.bank import Bank
from mpt.cards.card import Card
from mpt.cards.files import LENGTHS, length
from mpt.render.console import PathText, print_table


def print_list(bank: Bank) -> None:
    """Prints a bank's prompts as a table; values that all of them share are below it."""
    columns = {
        "prompt": Column("prompt", no_wrap=True),
        "tasks": Column("tasks"),
        "method": Column("method"),
        "backbone": Column("backbone"),
        "vectors": Column("vectors", justify="right"),
        "rows": Column("rows", justify="right"),
        "metric": Column("metric"),
        "added": Column("added", no_wrap=True),
    }
    lines = [_line(bank, name, *found) for name, found in bank.each(bank.read) if found[1].kind in LENGTHS]
    shared = {
        column: lines[0][column]
        for column in ("backbone", "vectors", "metric", "added")
        if len(lines) > 1 and len({line[column] for line in lines}) == 1
    }
    shown = [column for name, column in columns.items() if name not in shared]
    table = Table(*shown, title=f"{bank.path}:", box=SIMPLE, pad_edge=False)
    for line in lines:
        table.add_row(*(line[name] for name in columns if name not in shared))
    if shared:
        table.caption = f"all: {', '.join(f'{name} {value}' for name, value in shared.items())}"
    print_table(Console(markup=False, highlight=False), table)


def _line(bank: Bank, name: str, tensors: Mapping[str, np.ndarray], card: Card) -> dict[str, str | PathText]:
    """The cells of a prompt's line, by column."""
    a_layer = " a layer" if card.kind == "universal prefix" else ""
    figures = [f"{figure} {value:.3f}" for figure, value in card.metrics.items() if "seconds" not in figure]
    return {
        "prompt": name,
        "tasks": ", ".join(card.prompts),
        "method": card.method,
        "backbone": PathText(Path(card.backbone).name),
        "vectors": f"{length(tensors, card.kind)}{a_layer}",
        "rows": f"{sum(card.rows.values()):,}",
        "metric": ", ".join(figures) or "–",
        "added": f"{bank.added(name):%Y-%m-%d}",
    }
