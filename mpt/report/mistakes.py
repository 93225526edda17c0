"""Mistakes on the scored examples: confusion matrices, and the worst mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mpt.inference.answers import KEPT, Answered
from mpt.render.html import Html, Section, drawing, faint, folded, grid, heading, paragraph, quote, table
from mpt.render.plots import figure, heat_map, inline

BySeed = Mapping[int, Sequence[Answered]]

MANY = 12  # with more classes than these, a list of pairs replaces the matrix
SHOWN, MORE = 6, 20  # mistakes per task that are visible, and that are folded away
LONGEST = 600  # characters after which an input is cut


def answer_sections(answers: Mapping[str, BySeed], of: str = "") -> Iterator[Section]:
    """The sections with confusion matrices and mistakes.

    Args:
        answers: the answers by task and seed.
        of: the name of the method that gave them, if the run has several.
    """
    classes = [_confusion(task, by_seed) for task, by_seed in answers.items() if _words(by_seed)]
    method_note = f" Answers of: {of}." if of else ""
    if classes:
        words = (
            "Of the rows of each class (down), the share that was predicted as each class (across), in "
            f"percent; all seeds' rows together, the first {KEPT} of each.{method_note}"
        )
        yield Section("Confusion", [paragraph(words), grid(classes)])
    if answers:
        words = (
            "Wrong predictions: first the rows that most seeds get wrong, and among them those with the "
            f"highest confidence.{method_note}"
        )
        blocks = [part for task, by_seed in answers.items() for part in _mistakes(task, by_seed)]
        yield Section("Mistakes", [paragraph(words), *blocks])


def counts(rows: Sequence[Answered], words: Sequence[str]) -> Int[np.ndarray, "C C"]:
    """The confusion matrix: entry [i, k] is the number of rows of class i that were predicted as class k."""
    index = {word: i for i, word in enumerate(words)}
    confusion = np.zeros((len(words), len(words)), np.int64)
    for row in rows:
        confusion[index[row.targets[0]], index[row.prediction]] += 1
    return confusion


def _words(by_seed: BySeed) -> list[str]:
    """The class words; empty for free text."""
    return list(next(iter(by_seed.values()))[0].probabilities)


def _confusion(task: str, by_seed: BySeed) -> Html:
    words = _words(by_seed)
    confusion = counts([row for rows in by_seed.values() for row in rows], words)
    of_class, total = confusion.sum(axis=1), confusion.sum()
    caption = f"{task}: {100 * np.trace(confusion) / total:.1f} % of {total:,} predictions are correct."
    if len(words) > MANY:
        return _confused(caption, confusion, words)
    with np.errstate(invalid="ignore"):
        percent = 100 * confusion / of_class[:, None]  # a class without rows has an empty line
    drawn, axes = figure(2.0 + 0.55 * len(words), 1.3 + 0.36 * len(words))
    heat_map(axes, percent, [f"{word} ({count:,})" for word, count in zip(words, of_class)], words)
    axes.set_xlabel("answered")
    return drawing(inline(drawn, f"Confusion matrix of {task}"), caption)


def _confused(caption: str, confusion: Int[np.ndarray, "C C"], words: Sequence[str]) -> Html:
    """A table of the pairs of classes that are confused most often, for too many classes for a matrix."""
    wrong = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MANY]
    pairs = [divmod(int(index), len(words)) for index in order if wrong.flat[index]]
    lines = [(words[i], words[k], f"{wrong[i, k]:,}", f"{confusion[i].sum():,}") for i, k in pairs]
    head = ("right", "answered", "times", "of")
    return Html(f"<div>{paragraph(caption)}{table(head, lines, texts=2)}</div>")


class _Missed(NamedTuple):
    """An example that some seeds got wrong.

    Attributes:
        row: the wrong answer with the highest confidence.
        wrong: number of seeds that got it wrong.
        confidence: the probability of that answer.
    """

    row: Answered
    wrong: int
    confidence: float


def _mistakes(task: str, by_seed: BySeed) -> Iterator[Html]:
    """The worst mistakes of a task; all seeds were scored on the same examples."""
    missed = []
    for seeds in zip(*by_seed.values()):
        wrong = [row for row in seeds if not row.is_correct]
        if wrong:
            surest = max(wrong, key=lambda row: row.confidence)
            missed.append(_Missed(surest, len(wrong), surest.confidence))
    rows = min(map(len, by_seed.values()))
    summary = f"{task}: {len(missed):,} of {rows:,} rows were predicted wrongly"
    summary += f" by at least one of {len(by_seed)} seeds" if len(by_seed) > 1 else ""
    missed.sort(key=lambda one: (-one.wrong, -one.confidence))
    if not missed:
        yield paragraph(f"{task}: no wrong prediction in {rows:,} rows.")
        return
    shown = [_shown(one, len(by_seed)) for one in missed[: SHOWN + MORE]]
    yield heading(f"{summary}.")
    yield grid(shown[:SHOWN])
    if len(shown) > SHOWN:
        yield folded(f"{len(shown) - SHOWN} more of {task}", [grid(shown[SHOWN:])])


def _shown(missed: _Missed, seeds: int) -> Html:
    row = missed.row
    text = row.input if len(row.input) <= LONGEST else f"{row.input[:LONGEST]} …"
    targets = " or ".join(f"“{target}”" for target in row.targets[:3])
    text_below = f"Right: {targets}. Answered: “{row.prediction}”"
    if row.probabilities:
        text_below += f", with {100 * row.confidence:.0f} %"
        text_below += f" ({100 * row.probabilities[row.targets[0]]:.0f} % for the correct class)"
    text_below += f"; wrong for {missed.wrong} of {seeds} seeds." if seeds > 1 else "."
    return quote(text, faint(text_below))
