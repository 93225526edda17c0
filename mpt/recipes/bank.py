"""Adds prompts to a bank, and lists its prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from mpt.adaptation.result import read_results
from mpt.config.yaml_file import read_yaml
from mpt.errors import UserError, warn
from mpt.inference.run_prompts import trained
from mpt.prompts import MultitaskPrompt, SoftPrompt
from mpt.prompts.bank import Bank
from mpt.prompts.saved import Card, has_prompt, load_prompt
from mpt.prompts.source import Startable
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.render.console import PathText, print_table
from mpt.system.paths import AnyPath


class Entry(NamedTuple):
    """A prompt of a bank: a plain one of one task, or a universal one."""

    name: str
    prompt: Startable
    card: Card


def add(run: AnyPath, bank: Bank) -> Iterator[tuple[str, bool]]:
    """Puts a run's prompts into a bank; each one's name there, and whether it is new.

    Raises:
        UserError: the run has no prompts, or ones that nothing can start from.
    """
    for name, prompt, card in list(_offered(run)):  # all are sound before one is written
        yield bank.add(name, prompt, card)


def _offered(run: AnyPath) -> Iterator[Entry]:
    """A universal prompt of several tasks, whole; and one plain prompt for each task.

    A task's plain prompt is what was trained for it alone: an adaptation's of its first seed, or a
    teacher; of a run without teachers, the universal prompt's alone for that task.
    """
    model, file = trained(run)
    if model.decoder_prompt:
        raise UserError(
            f"{run}: the last vectors of its prompts go to the decoder (model.decoder_prompt is "
            f"{model.decoder_prompt}), which a bank does not support; train without it"
        )
    prompt, card = _plain(run, file)
    if isinstance(prompt, UniversalPrefix):
        yield Entry("universal" if len(card.prompts) > 1 else card.prompts[0], prompt, card)
        return
    if isinstance(prompt, MultitaskPrompt) and len(card.prompts) > 1:
        yield Entry("universal", prompt, card)
        if has_prompt(run, "teachers"):
            prompt, card = _plain(run, "teachers")
    assert not isinstance(prompt, UniversalPrefix)
    several = len(set(card.prompts)) < len(card.prompts)  # seeds
    vectors = prompt.compose()
    for place, task in enumerate(dict.fromkeys(card.prompts)):
        alone = card.alone(task)
        metrics = _first_seeds(run) if several else alone.metrics
        alone = replace(alone, kind="soft", seeds=card.seeds[:1], metrics=metrics)
        yield Entry(task, SoftPrompt(vectors[place : place + 1], prompt.layer), alone)


def _plain(run: AnyPath, file: str) -> tuple[Startable, Card]:
    prompt, card = load_prompt(run, file)
    if not isinstance(prompt, Startable):
        raise UserError(
            f"{run}: what it holds is more than a prompt ({card.kind}), and only vectors in front of a text "
            "are a start for others; add a run of `--method prompt`, spot or ulpt"
        )
    return prompt, card


def _first_seeds(run: AnyPath) -> dict[str, float]:
    """The figure of an adaptation's first prompt: its card has the mean over all."""
    results = read_results(run)
    if not results:
        raise UserError(f"{run}: no results.json in it; let its run finish first")
    result = results[0]
    return {f"{read_yaml(run / 'config.yaml')['scored']} {result.metric}": result.scores[0]}


def entries(bank: Bank) -> Iterator[Entry]:
    """The prompts of a bank; one that cannot be read is reported and left out."""
    for name in bank.names():
        try:
            prompt, card = bank.read(name)
        except UserError as error:
            warn(str(error))
            continue
        if isinstance(prompt, Startable):
            yield Entry(name, prompt, card)


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
    lines = [_line(name, prompt, card, bank) for name, prompt, card in entries(bank)]
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


def _line(name: str, prompt: Startable, card: Card, bank: Bank) -> dict[str, str | PathText]:
    """The cells of a prompt's line, by column."""
    figures = [f"{figure} {value:.3f}" for figure, value in card.metrics.items() if "seconds" not in figure]
    return {
        "prompt": name,
        "tasks": ", ".join(card.prompts),
        "method": card.method,
        "backbone": PathText(Path(card.backbone).name),
        "vectors": f"{prompt.extent(1)[1]}{' a layer' if isinstance(prompt, UniversalPrefix) else ''}",
        "rows": f"{sum(card.rows.values()):,}",
        "metric": ", ".join(figures) or "–",
        "added": f"{bank.added(name):%Y-%m-%d}",
    }
