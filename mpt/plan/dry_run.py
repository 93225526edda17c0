"""What a run would do and take: nothing is trained, fetched or written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from mpt.loading.hf import Pretrained
from mpt.models.cost import machine_rate, parameter_count
from mpt.plan.reading import Reading, outline
from mpt.plan.stages import Config, Planned, stages
from mpt.render.console import UNKNOWN, number, print_table, short, table
from mpt.training.stage import SAMPLE


def dry_run(config: Config, tflops: Sequence[float] = ()) -> None:
    """Prints the tasks and stages of a run, with FLOPs and hours.

    Args:
        tflops: rates of other machines, in TFLOP/s, to tell the hours at beside this one's.
    """
    pretrained, console = outline(config.model), Console(highlight=False)
    tasks, planned = stages(config, pretrained)
    rates = {
        "here": machine_rate(config.model.dtype),
        **{f"at {rate:g}\nTFLOP/s": rate * 1e12 for rate in tflops},
    }
    for part, reads in tasks.items():
        print_table(console, _task_table(part, reads))
    print_table(console, _stage_table(planned, rates))
    for line in _notes(tasks, planned, pretrained, rates["here"]):
        console.print(line, markup=False)


def _task_table(part: str, reads: Sequence[Reading]) -> Table:
    shown = table(f"{part} tasks", ["train", "valid-\nation", "test", "tokens"])
    shown.add_column("metric", min_width=10)
    shown.add_column("data", min_width=13, overflow="fold")
    for read in reads:
        task = read.task
        shown.add_row(
            task.name,
            *(number(count) for count in read.rows.values()),
            f"{'' if read.counted else '≤ '}{read.inputs:.0f} + {read.labels:.0f}",
            f"{task.metric} of {f'{len(task.choices)} classes' if task.choices else 'text'}",
            str(task.source),
        )
    return shown


def _stage_table(planned: Sequence[Planned], rates: dict[str, float]) -> Table:
    headings = ["steps", "rows", "trained", "TFLOP\na step", "PFLOP", *(f"hours\n{rate}" for rate in rates)]
    shown, totals = table("training stages", headings), []
    for one in planned:
        stage, steps = one.stage, one.stage.steps
        totals.append(None if steps is None else one.runs * steps * stage.flops)
        shown.add_row(
            one.name + (f" × {one.runs}" if one.runs > 1 else ""),
            number(steps),
            f"{stage.train.batch_size:,}",
            f"{stage.trained:,}",
            short(stage.flops / 1e12),
            *_whole(totals[-1], rates),
        )
    shown.add_section()
    shown.add_row("all", *[""] * 4, *_whole(None if None in totals else sum(totals), rates))
    return shown


def _whole(flops: float | None, rates: dict[str, float]) -> list[str]:
    """FLOPs in all, and the hours that they take."""
    if flops is None:
        return [UNKNOWN] * (1 + len(rates))
    return [short(flops / 1e15), *(short(flops / rate / 3600) for rate in rates.values())]


def _notes(
    tasks: dict[str, list[Reading]], planned: Sequence[Planned], pretrained: Pretrained, rate: float
) -> Iterator[str]:
    parameters = parameter_count(pretrained.backbone)
    if not planned:
        yield "Nothing is trained."
        return
    each = [one.stage.trained / len(one.stage.rows) for one in planned]
    least, most = min(each), max(each)
    span = f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
    yield (
        f"{pretrained.name}: {parameters:,} frozen parameters. A prompt trains {span} numbers, "
        f"{100 * most / parameters:.2g} % of them at most."
    )
    yield "Rows are those of a step, over all prompts that train side by side."
    yield (
        f"Hours are those of the training steps at the full rate of a large matrix product, here "
        f"{rate / 1e9:,.0f} GFLOP/s: no run takes less. Evaluation is not counted."
    )
    reads = [read for part in tasks.values() for read in part]
    if any(read.counted for read in reads):
        yield f"Tokens, of input + target, are means of {SAMPLE} training rows."
    if not all(read.counted for read in reads):
        yield "Tokens with ≤ are max_length and a guess: the model's tokenizer or the rows are not here."
