"""The section on what each source task gained from pretraining, and which of them harm others."""

from __future__ import annotations

from collections.abc import Sequence

from mpt.pretraining.gains import Gain
from mpt.render.html import Section, paragraph, table

HEAD = ("source task", "examples", "start", "teacher", "universal", "gain", "pull")
WORDS = (
    "The mean loss, in nats, on examples that no prompt learned from: behind what the task's teacher "
    "starts from, behind that teacher, and behind the universal prompt. The gain is the first less the "
    "last. Pull is the cosine of the task's gradient on the shared vectors, where the universal prompt "
    "starts, with the mean of the other tasks'. Below 0, a step that is good for the task is bad for the "
    "others."
)


def gain_section(gains: Sequence[Gain]) -> Section:
    """The table with a line per task, and a sentence on those that lose or harm."""
    lines = [
        (
            gain.task,
            f"{gain.rows:,}",
            *("–" if loss is None else f"{loss:.2f}" for loss in (gain.start, gain.teacher, gain.universal)),
            f"{gain.start - gain.universal:+.2f}",
            f"{gain.pull:+.2f}",
        )
        for gain in gains
    ]
    told = [paragraph(sentence) for sentence in remarks(gains)]
    return Section("Source tasks", [table(HEAD, lines, texts=1), *told, paragraph(WORDS, faint=True)])


def remarks(gains: Sequence[Gain]) -> list[str]:
    """Which tasks did not gain, and which pull against the others."""
    lost = [gain.task for gain in gains if gain.universal >= gain.start]
    against = [gain.task for gain in gains if gain.pull < 0]
    found = []
    if lost:
        found.append(f"Worse behind the universal prompt than before pretraining: {', '.join(lost)}.")
    if against:
        found.append(f"Pulling against the others: {', '.join(against)}. Try the run without them.")
    return found
