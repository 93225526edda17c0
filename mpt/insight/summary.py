"""An inspection on the screen, in a few tables."""

from __future__ import annotations

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpt.insight.findings import Findings, Transfer


def print_summary(found: Findings) -> None:
    console = Console(highlight=False)
    console.print(_prompts(found))
    for file, share in found.parts.items():
        console.print(f"{file}: {100 * share.common:.1f} % of the prompts is common to all of them")
    if len(found.subjects) > 1:
        console.print(_likest(found), markup=False)
    if found.studies:
        console.print(_studies(found))
    if found.transfer:
        console.print(_transfer(found, found.transfer))
    for text in found.missing:
        console.print(text, markup=False, style="yellow")


def _prompts(found: Findings) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, expand=True, caption="norms in that of the median token")
    table.add_column("prompt")
    table.add_column("norm", justify="right")
    table.add_column("nearest token of each vector, by cosine", no_wrap=True, overflow="ellipsis", ratio=1)
    for subject, words in zip(found.subjects, found.words):
        reading = Text(" ".join(near[0] for near in words.near))
        table.add_row(Text(subject.name), f"{np.median(found.lengths(subject)):.2f}", reading)
    low, high = np.quantile(found.norms / np.median(found.norms), (0.05, 0.95))
    table.add_row("vocabulary", "1.00", f"90 % are within {low:.2f} to {high:.2f}", style="dim")
    return table


def _likest(found: Findings) -> str:
    cosines = found.similarity.cosines + np.diag([np.nan] * len(found.subjects))

    def pair(place: int) -> str:
        i, k = divmod(place, len(cosines))
        return f"{found.subjects[i].name} and {found.subjects[k].name} ({cosines[i, k]:.3f})"

    return f"Most alike: {pair(int(np.nanargmax(cosines)))}; least: {pair(int(np.nanargmin(cosines)))}"


def _studies(found: Findings) -> Table:
    """Each prompt's most useful vectors, and how much labels look at it."""
    table = Table(
        box=SIMPLE, pad_edge=False, caption=f"nats, on {found.studies[0].rows}; attention: over layers"
    )
    table.add_column("prompt")
    table.add_column("loss", justify="right")
    table.add_column("its best vectors")
    for source in found.studies[0].attention:
        table.add_column(f"attention\nfrom {source}", justify="right")
    for study in found.studies:
        rise, words = study.ablation.rise, found.words[study.subject]
        best = np.argsort(-rise, kind="stable")[:2]
        worth = ", ".join(f"{rise[place]:+.3f} {words.near[place][0]} ({place})" for place in best)
        shares = (f"{100 * mass.sum(axis=1).mean():.0f} %" for mass in study.attention.values())
        name = found.subjects[study.subject].name
        table.add_row(Text(name), f"{study.ablation.loss:.3f}", Text(worth), *shares)
    return table


def _transfer(found: Findings, transfer: Transfer) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, caption="each prompt, as it is, on each task; times 100")
    table.add_column("prompt")
    for target in transfer.targets:
        table.add_column(target.replace(" ", "\n"), justify="right")
    for subject, scores in zip(found.subjects, transfer.scores):
        table.add_row(Text(subject.name), *(f"{100 * score:.1f}" for score in scores))
    return table
