"""The report's section on what each source task gained from pretraining, and which of them harm others."""

from __future__ import annotations

from collections.abc import Sequence

from mpt.pretraining.gains import Gain
from mpt.render.html import Section, paragraph, table

HEAD = ("source task", "examples", "start", "teacher", "universal", "gain", "gradient cosine")
WORDS = (
    "The mean loss, in nats, on examples that no prompt was trained on: with the initial prompt of the "
    "task's teacher, with that teacher, and with the universal prompt. The gain is the first minus the "
    "last. The gradient cosine is between the task's gradient with respect to the shared vectors, at their "
    "initial values, and the mean of the other tasks' gradients. Below 0, a step that lowers the task's loss "
    "raises the others'."
)


def gain_section(gains: Sequence[Gain]) -> Section:
    """The table with a line per task, and a sentence on those that lose or harm."""
    lines = [
        (
            gain.task,
            f"{gain.rows:,}",
            *("–" if loss is None else f"{loss:.2f}" for loss in (gain.start, gain.teacher, gain.universal)),
            f"{gain.start - gain.universal:+.2f}",
            f"{gain.cosine:+.2f}",
        )
        for gain in gains
    ]
    told = [paragraph(sentence) for sentence in remarks(gains)]
    return Section("Source tasks", [table(HEAD, lines, texts=1), *told, paragraph(WORDS, faint=True)])


def remarks(gains: Sequence[Gain]) -> list[str]:
    """Which tasks did not gain, and whose gradients disagree with those of the others."""
    lost = [gain.task for gain in gains if gain.universal >= gain.start]
    against = [gain.task for gain in gains if gain.cosine < 0]
    found = []
    if lost:
        found.append(f"Worse with the universal prompt than before pretraining: {', '.join(lost)}.")
    if against:
        found.append(
            f"Gradients opposed to the other tasks': {', '.join(against)}. Try the run without them."
        )
    return found
