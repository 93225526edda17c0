"""An inspection on the screen, in a few tables."""

from __future__ import annotations

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpt.insight.findings import Findings, Study, Transfer

WIDEST = 52  # letters of a prompt's nearest tokens


def print_summary(found: Findings) -> None:
    console = Console(highlight=False)
    console.print(_prompts(found))
    for file, share in found.parts.items():
        console.print(f"{file}: {100 * share.common:.1f} % of the prompts is common to all of them")
    if len(found.subjects) > 1:
        console.print(_likest(found), markup=False)
    for study in found.studies:
        console.print(_study(found, study), markup=False)
    if found.transfer:
        console.print(_transfer(found, found.transfer))
    for text in found.missing:
        console.print(text, markup=False, style="yellow")


def _prompts(found: Findings) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, caption="norm and its 5 %, 95 %: in that of a typical token")
    table.add_column("prompt")
    table.add_column("norm", justify="right")
    table.add_column("nearest token of each vector, by cosine")
    for subject, words in zip(found.subjects, found.words):
        reading = " ".join(near[0] for near in words.near)
        reading = reading if len(reading) <= WIDEST else reading[: WIDEST - 1] + "…"
        table.add_row(Text(subject.name), f"{np.median(found.lengths(subject)):.2f}", Text(reading))
    low, high = np.quantile(found.norms / np.median(found.norms), (0.05, 0.95))
    table.add_row("vocabulary", "1.00", f"({low:.2f} to {high:.2f})", style="dim")
    return table


def _likest(found: Findings) -> str:
    cosines = found.similarity.cosines + np.diag([np.nan] * len(found.subjects))

    def pair(place: int) -> str:
        i, k = divmod(place, len(cosines))
        return f"{found.subjects[i].name} and {found.subjects[k].name} ({cosines[i, k]:.3f})"

    return f"Most alike: {pair(int(np.nanargmax(cosines)))}; least: {pair(int(np.nanargmin(cosines)))}"


def _study(found: Findings, study: Study) -> str:
    """A prompt's most useful vectors, and how much labels look at it."""
    rise, words = study.ablation.rise, found.words[study.subject]
    best = np.argsort(-rise, kind="stable")[:3]
    vectors = ", ".join(f"{place} '{words.near[place][0]}' {rise[place]:+.3f}" for place in best)
    shares = ", ".join(
        f"{100 * mass.sum(axis=1).mean():.0f} % of attention from {source}"
        for source, mass in study.attention.items()
    )
    name = found.subjects[study.subject].name
    loss = f"loss {study.ablation.loss:.3f} nats on {study.rows}"
    return f"{name}: {loss}; without vector {vectors}; {shares} goes to it"


def _transfer(found: Findings, transfer: Transfer) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, caption="each prompt, as it is, on each task; times 100")
    table.add_column("prompt")
    for target in transfer.targets:
        table.add_column(target.replace(" ", "\n"), justify="right")
    for subject, scores in zip(found.subjects, transfer.scores):
        table.add_row(Text(subject.name), *(f"{100 * score:.1f}" for score in scores))
    return table
