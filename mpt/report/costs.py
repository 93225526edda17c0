"""The cost of a run, compared with fine-tuning all weights on the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mpt.render.html import Section, paragraph, strong, table
from mpt.report.facts import Facts, Stage
from mpt.training.spending import Spending

NONE = "–"
TRAINED_BYTES = 12  # bytes per trained parameter: its gradient and Adam's two moments
NUMBER_BYTES = 4  # bytes per stored parameter
NOTE = (
    "FLOPs are those that the method needs, by the formulas of mpt.models.cost, for rows of mean "
    "length, without padding, recomputation or evaluation. Fine-tuning is computed, not run: by the same "
    "formulas, on the same rows and steps, without a prompt and with all weights trained, at this run's "
    "FLOP/s; with one float32 model for each prompt. Memory of training is that of the weights, the "
    "gradients and Adam's two moments, without activations."
)
UNKNOWN = "This run has no record of its costs, because an older version of mpt made it."


class Total(NamedTuple):
    """The cost of several stages.

    Attributes:
        flops: FLOPs of training.
        finetuning: FLOPs of fine-tuning all weights on the same rows.
        seconds: seconds in training steps.
        rows: rows read in training.
    """

    flops: float
    finetuning: float
    seconds: float
    rows: int

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> Total:
        """The cost of stages up to their last step so far."""
        known = [(stage, stage.spending) for stage in stages if stage.spending]
        return cls(
            flops=sum(stage.step * spent.flops for stage, spent in known),
            finetuning=sum(stage.step * spent.finetuning for stage, spent in known),
            seconds=sum(stage.seconds for stage, _ in known),
            rows=sum(stage.step * spent.rows for stage, spent in known),
        )

    @property
    def finetuning_seconds(self) -> float:
        """Seconds of fine-tuning all weights, at this run's FLOP/s."""
        return self.seconds * self.finetuning / self.flops if self.flops else 0.0


def cost_sections(run: Facts) -> Iterator[Section]:
    """The section on a run's cost, in total and by stage."""
    spent = [(stage, stage.spending) for stage in run.stages if stage.spending and stage.lines]
    if not spent:
        if run.stages:
            yield Section("Cost", [paragraph(UNKNOWN, faint=True)])
        return
    total, last = Total.of([stage for stage, _ in spent]), spent[-1][1]
    per_prompt, largest = last.trained // last.prompts, max(one.trained for _, one in spent)
    models = last.prompts
    lines = [
        ("numbers trained for a prompt", number(per_prompt), number(last.backbone)),
        ("share of the backbone", f"{100 * per_prompt / last.backbone:.2g} %", "100 %"),
        ("rows read in training", number(total.rows), number(total.rows)),
        ("FLOPs of training", flops(total.flops), flops(total.finetuning)),
        ("seconds in training steps", f"{total.seconds:,.0f}", f"{total.finetuning_seconds:,.0f}"),
        (
            "memory of training",
            size(last.bytes + TRAINED_BYTES * largest),
            size((TRAINED_BYTES + NUMBER_BYTES) * last.backbone),
        ),
        ("kept on disk", size(run.kept), size(models * NUMBER_BYTES * last.backbone)),
        *_measured(run.machine),
    ]
    blocks = [table(("", "this run", "fine-tuning, computed"), lines, named=True)]
    if len(spent) > 1:
        head = ("stage", "prompts", "trained", "steps", "rows", "FLOPs", "seconds", "GFLOP/s")
        blocks.append(table(head, [_of_stage(stage, one) for stage, one in spent], named=True))
    yield Section("Cost", [*blocks, paragraph(NOTE, faint=True)])


def _measured(machine: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    for key, words in (
        ("peak_memory", "peak memory of the process"),
        ("peak_device_memory", "peak memory of its device"),
    ):
        if isinstance(peak := machine.get(key), int):
            yield words, size(peak), "not run"


def _of_stage(stage: Stage, spent: Spending) -> tuple[str, ...]:
    total = Total.of([stage])
    rate = f"{total.flops / total.seconds / 1e9:,.0f}" if total.seconds else NONE
    steps = number(stage.step) if stage.step >= spent.steps else f"{stage.step:,} of {spent.steps:,}"
    numbers = number(spent.prompts), number(spent.trained), steps, number(total.rows)
    return (stage.name, *numbers, flops(total.flops), f"{total.seconds:,.0f}", rate)


def method_costs(methods: Mapping[str, Sequence[Facts]], source: Facts | None, ours: str) -> Section:
    """The section on the costs of a comparison: for each method, the mean cost of one prompt for one target.

    Args:
        methods: the runs of `adapt` of each method.
        source: the run that trained the universal prompt.
        ours: the method whose line is emphasised, and with which fine-tuning is compared.
    """
    lines: list[tuple[str, ...]] = []
    finetuned: tuple[str, ...] = ()
    for method, runs in methods.items():
        stages = [stage for run in runs for stage in run.stages if stage.spending and stage.lines]
        name = strong(method) if method == ours else method
        if not stages or not (spent := stages[-1].spending):
            lines.append((name, *["0" if runs else NONE] * 4))
            continue
        total, prompts = Total.of(stages), sum(len(run.config.seeds) for run in runs)  # type: ignore
        per_prompt, kept = spent.trained // spent.prompts, sum(run.kept for run in runs) / prompts
        lines.append((name, *_numbers(per_prompt, total.flops / prompts, total.seconds / prompts, kept)))
        if method == ours or not finetuned:
            cost = total.finetuning / prompts, total.finetuning_seconds / prompts
            finetuned = (
                "fine-tuning, computed",
                *_numbers(spent.backbone, *cost, NUMBER_BYTES * spent.backbone),
            )
    lines += [finetuned] if finetuned else []
    if source and source.stages and (spent := source.stages[-1].spending):
        total = Total.of(source.stages)
        lines.append(
            ("universal prompt, once", *_numbers(spent.trained, total.flops, total.seconds, source.kept))
        )
    words = "For one prompt: the mean over targets, numbers of examples and seeds."
    head = ("method", "numbers trained", "FLOPs", "seconds", "kept on disk")
    return Section("Cost", [paragraph(words), table(head, lines, named=True), paragraph(NOTE, faint=True)])


def _numbers(trained: int, cost: float, seconds: float, kept: float) -> tuple[str, ...]:
    return number(trained), flops(cost), f"{seconds:,.1f}", size(kept)


def number(value: int) -> str:
    """An integer with thousands separators."""
    return f"{value:,}"


def flops(value: float) -> str:
    """FLOPs in the unit that leaves one to three digits before the decimal point.

    >>> flops(1.234e15), flops(0)
    ('1.23 PFLOP', '0 FLOP')
    """
    return _scaled(value, ("", "K", "M", "G", "T", "P", "E", "Z")) + "FLOP"


def size(value: float) -> str:
    """A number of bytes in decimal units.

    >>> size(538_060_032)
    '538 MB'
    """
    return _scaled(value, ("", "k", "M", "G", "T", "P")) + "B"


def _scaled(value: float, units: Sequence[str]) -> str:
    index = 0
    while value >= 999.5 and index < len(units) - 1:
        value, index = value / 1000, index + 1
    return f"{value:.3g} {units[index]}"
