"""Prints the results of an inspection as a few tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpt.insight.findings import Findings, Transfer
from mpt.render.console import print_table


def print_summary(findings: Findings) -> None:
    """Prints the results of an inspection."""
    console = Console(highlight=False)
    print_table(console, _prompts(findings))
    for file, share in findings.variance_shares.items():
        console.print(f"{file}: {100 * share.common:.1f} % of the prompts is common to all of them")
    if len(findings.subjects) > 1:
        console.print(_likest(findings), markup=False)
    if findings.studies:
        print_table(console, _studies(findings))
    if findings.transfer:
        print_table(console, _transfer(findings, findings.transfer))
    for text in findings.missing:
        console.print(text, markup=False, style="yellow")


def _prompts(findings: Findings) -> Table:
    table = _table("norm: the median of a prompt's vectors, relative to the median token's")
    table.add_column("prompt")
    table.add_column("norm", justify="right")
    table.add_column("nearest token of each vector, by cosine")
    for name, norm, reading in alike(
        (
            subject.name,
            f"{np.median(findings.lengths(subject)):.2f}",
            " ".join(near[0] for near in words.near),
        )
        for subject, words in zip(findings.subjects, findings.words)
    ):
        table.add_row(Text(name), norm, Text(reading))
    low, high = np.quantile(findings.norms / np.median(findings.norms), (0.05, 0.95))
    table.add_row("vocabulary", "1.00", f"90 % are within {low:.2f} to {high:.2f}", style="dim")
    return table


def _likest(findings: Findings) -> str:
    cosines = findings.similarity.cosines + np.diag([np.nan] * len(findings.subjects))

    def pair(index: int) -> str:
        i, k = divmod(index, len(cosines))
        return f"{findings.subjects[i].name} and {findings.subjects[k].name} ({cosines[i, k]:.3f})"

    return f"Most alike: {pair(int(np.nanargmax(cosines)))}; least: {pair(int(np.nanargmin(cosines)))}"


def _studies(findings: Findings) -> Table:
    """The most useful vectors of each prompt, and the attention from labels to it."""
    table = _table(
        f"loss in nats on {findings.studies[0].rows}, and its rise where a vector is left out, with the "
        "vector's place; attention to the prompt: the mean over layers"
    )
    table.add_column("prompt")
    table.add_column("loss", justify="right")
    table.add_column("its best vectors")
    for source in findings.studies[0].attention:
        table.add_column(f"attention\nfrom {source}", justify="right")
    lines = []
    for study in findings.studies:
        rise, words = study.ablation.rise, findings.words[study.subject]
        best = np.argsort(-rise, kind="stable")[:2]
        worth = ", ".join(
            f"{rise[position]:+.3f} {words.near[position][0]} ({position})" for position in best
        )
        shares = (f"{100 * mass.sum(axis=1).mean():.0f} %" for mass in study.attention.values())
        name = findings.subjects[study.subject].name
        lines.append((name, f"{study.ablation.loss:.3f}", worth, *shares))
    for cells in alike(lines):
        table.add_row(*map(Text, cells))
    return table


def _transfer(findings: Findings, transfer: Transfer) -> Table:
    table = _table("the score of each prompt on each task, without training, times 100")
    table.add_column("prompt")
    for target in transfer.targets:
        table.add_column(target.replace(" ", "\n"), justify="right")
    lines = (
        (subject.name, *(f"{100 * score:.1f}" for score in scores))
        for subject, scores in zip(findings.subjects, transfer.scores)
    )
    for cells in alike(lines):
        table.add_row(*map(Text, cells))
    return table


def _table(caption: str) -> Table:
    return Table(box=SIMPLE, pad_edge=False, caption=caption)


def alike(lines: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """Lines that say the same of several names as one, with all of their names.

    >>> alike([("a", "1.0"), ("b", "2.0"), ("c", "1.0")])
    [('a; c', '1.0'), ('b', '2.0')]
    """
    names: dict[tuple[str, ...], list[str]] = {}
    for name, *cells in lines:
        names.setdefault(tuple(cells), []).append(name)
    return [("; ".join(names[cells]), *cells) for cells in names]
