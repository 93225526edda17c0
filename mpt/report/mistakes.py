"""What went wrong on the scored rows: confusion matrices, and examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mpt.inference.answers import KEPT, Answered
from mpt.render.html import Html, Section, drawing, faint, folded, grid, heading, paragraph, quote, table
from mpt.render.plots import figure, heat_map, inline

BySeed = Mapping[int, Sequence[Answered]]

MANY = 12  # more classes than these have no place for a picture
SHOWN, MORE = 6, 20  # mistakes of a task
LONGEST = 600  # characters of an input


def answer_sections(answers: Mapping[str, BySeed], of: str = "") -> Iterator[Section]:
    """Confusion matrices and mistakes.

    Args:
        answers: by task and seed.
        of: whose answers they are, where a run has several methods'.
    """
    classes = [_confusion(task, by_seed) for task, by_seed in answers.items() if _words(by_seed)]
    behind = f" Answers of: {of}." if of else ""
    if classes:
        words = (
            "Of the rows of each class (down), the share that was taken for each class (across), in percent; "
            f"all seeds' rows together, the first {KEPT} of each.{behind}"
        )
        yield Section("Confusion", [paragraph(words), grid(classes)])
    if answers:
        words = (
            "Rows that were answered wrongly by the most seeds first, and among them those of which the "
            f"model was surest.{behind}"
        )
        parts = [part for task, by_seed in answers.items() for part in _mistakes(task, by_seed)]
        yield Section("Mistakes", [paragraph(words), *parts])


def counts(rows: Sequence[Answered], words: Sequence[str]) -> Int[np.ndarray, "C C"]:
    """How many rows of each class were taken for each."""
    places = {word: place for place, word in enumerate(words)}
    found = np.zeros((len(words), len(words)), np.int64)
    for row in rows:
        found[places[row.targets[0]], places[row.prediction]] += 1
    return found


def _words(by_seed: BySeed) -> list[str]:
    """The class words; none of free text."""
    return list(next(iter(by_seed.values()))[0].probabilities)


def _confusion(task: str, by_seed: BySeed) -> Html:
    words = _words(by_seed)
    found = counts([row for rows in by_seed.values() for row in rows], words)
    of_class = found.sum(axis=1)
    right = f"{task}: {100 * np.trace(found) / found.sum():.1f} % of {found.sum():,} answers are right."
    if len(words) > MANY:
        return _confused(right, found, words)
    with np.errstate(invalid="ignore"):
        shares = 100 * found / of_class[:, None]  # a class without rows has an empty line
    drawn, axes = figure(2.0 + 0.55 * len(words), 1.3 + 0.36 * len(words))
    heat_map(axes, shares, [f"{word} ({count:,})" for word, count in zip(words, of_class)], words)
    axes.set_xlabel("answered")
    return drawing(inline(drawn, f"Confusion matrix of {task}"), right)


def _confused(right: str, found: Int[np.ndarray, "C C"], words: Sequence[str]) -> Html:
    """The pairs that are taken for one another most often, of too many classes for a picture."""
    wrong = found - np.diag(np.diag(found))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MANY]
    pairs = [divmod(int(place), len(words)) for place in order if wrong.flat[place]]
    lines = [(words[i], words[k], f"{wrong[i, k]:,}", f"{found[i].sum():,}") for i, k in pairs]
    head = ("right", "answered", "times", "of")
    return Html(f"<div>{paragraph(right)}{table(head, lines, texts=2)}</div>")


class _Missed(NamedTuple):
    """A row that some seeds got wrong: what they said, the most frequent answer first, and how surely."""

    row: Answered
    wrong: int
    share: float


def _mistakes(task: str, by_seed: BySeed) -> Iterator[Html]:
    """The task's worst mistakes; all seeds were scored on the same rows."""
    missed = []
    for seeds in zip(*by_seed.values()):
        wrong = [row for row in seeds if not row.is_correct]
        if wrong:
            surest = max(wrong, key=lambda row: row.confidence)
            missed.append(_Missed(surest, len(wrong), surest.confidence))
    rows = min(map(len, by_seed.values()))
    told = f"{task}: {len(missed):,} of {rows:,} rows were missed"
    told += f" by at least one of {len(by_seed)} seeds" if len(by_seed) > 1 else ""
    missed.sort(key=lambda one: (-one.wrong, -one.share))
    if not missed:
        yield paragraph(f"{task}: none of {rows:,} rows was missed.")
        return
    shown = [_shown(one, len(by_seed)) for one in missed[: SHOWN + MORE]]
    yield heading(f"{told}.")
    yield grid(shown[:SHOWN])
    if len(shown) > SHOWN:
        yield folded(f"{len(shown) - SHOWN} more of {task}", [grid(shown[SHOWN:])])


def _shown(missed: _Missed, seeds: int) -> Html:
    row = missed.row
    text = row.input if len(row.input) <= LONGEST else f"{row.input[:LONGEST]} …"
    right = " or ".join(f"“{target}”" for target in row.targets[:3])
    said = f"Right: {right}. Answered: “{row.prediction}”"
    if row.probabilities:
        said += f", with {100 * row.confidence:.0f} %"
        said += f" ({100 * row.probabilities[row.targets[0]]:.0f} % for the right one)"
    said += f"; wrong for {missed.wrong} of {seeds} seeds." if seeds > 1 else "."
    return quote(text, faint(said))
