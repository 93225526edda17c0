"""What a run would do and take: nothing is trained, fetched or written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from mpt.comparison.config import AnyConfig
from mpt.loading.hf import Pretrained
from mpt.models.cost import parameter_count
from mpt.plan.here.machine import READING, Machine, this_machine
from mpt.plan.here.programs import programs
from mpt.plan.here.refusals import refuse
from mpt.plan.here.work import evaluation_flops
from mpt.plan.reading import Reading, outline
from mpt.plan.stages import Planned, stages
from mpt.render.console import UNKNOWN, PathText, number, print_table, table
from mpt.system.quantities import duration, short
from mpt.system.said import say
from mpt.training.stage import SAMPLE


def dry_run(config: AnyConfig, tflops: Sequence[float] = ()) -> None:
    """Prints the tasks and stages of a run, with FLOPs and times.

    Args:
        tflops: rates of other machines, in TFLOP/s, for which to print the times too.

    Raises:
        UserError: the run itself would be refused.
    """
    importing = time.process_time()
    say(f"reading the shape of the model {config.model.name}")
    pretrained, console = outline(config.model), Console(highlight=False)
    tasks, planned = stages(config, pretrained)
    refuse(config, tasks, pretrained)
    for part, reads in tasks.items():
        if reads:
            print_table(console, _task_table(part, reads))
    machine = this_machine(config.model.dtype)
    print_table(console, _stage_table(planned, machine, tflops))
    print_table(console, _time_table(_seconds(config, tasks, planned, pretrained, machine, importing)))
    for line in _notes(tasks, planned, pretrained, machine, tflops):
        console.print(line, markup=False)


def _task_table(part: str, reads: Sequence[Reading]) -> Table:
    shown = table(f"{part} tasks", ["train", "valid-\nation", "test", "tokens"])
    shown.add_column("metric", min_width=10)
    shown.add_column("data", min_width=13)
    for read in reads:
        task = read.task
        shown.add_row(
            task.name,
            *(number(count) for count in read.rows.values()),
            f"{'' if read.counted else '≤ '}{read.inputs:.0f} + {read.labels:.0f}",
            f"{task.metric} of {f'{len(task.choices)} classes' if task.choices else 'text'}",
            PathText(str(task.source)),
        )
    return shown


def _stage_table(planned: Sequence[Planned], machine: Machine, tflops: Sequence[float]) -> Table:
    rates = {"time\nhere": machine.speed} | {f"at {rate:g}\nTFLOP/s": rate * 1e12 for rate in tflops}
    shown = table("training stages", ["steps", "rows", "trained", "TFLOP\na step", "PFLOP", *rates])
    totals = []
    for one in planned:
        stage = one.stage
        totals.append(_of_stage(one))
        shown.add_row(
            one.name + (f" × {one.runs}" if one.runs > 1 else ""),
            number(stage.steps),
            f"{stage.train.batch_size:,}",
            f"{stage.trained:,}",
            short(stage.flops / 1e12),
            *_whole(totals[-1], rates),
        )
    shown.add_section()
    shown.add_row("all", *[""] * 4, *_whole(_sum(totals), rates))
    return shown


def _of_stage(one: Planned) -> float | None:
    """The FLOPs of all runs of a stage."""
    return None if one.stage.steps is None else one.runs * one.stage.steps * one.stage.flops


def _whole(flops: float | None, rates: Mapping[str, float]) -> list[str]:
    """FLOPs in all, and the times that they take."""
    if flops is None:
        return [UNKNOWN] * (1 + len(rates))
    return [short(flops / 1e15), *(duration(flops / rate) for rate in rates.values())]


def _sum(parts: Sequence[float | None]) -> float | None:
    """The sum; None where a part is unknown."""
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _seconds(
    config: AnyConfig,
    tasks: Mapping[str, Sequence[Reading]],
    planned: Sequence[Planned],
    pretrained: Pretrained,
    machine: Machine,
    importing: float,
) -> dict[str, float | None]:
    """The seconds of each part of the run on this machine."""
    backbone = pretrained.backbone
    length = planned[0].stage.model.prompt.extent(1)[1] if planned else 0
    evaluated = evaluation_flops(config, tasks, backbone, length)
    compiled = programs(planned, evaluated)
    flops = {
        "search for rates and steps, at most": _sum(
            [None if one.searched is None else one.runs * one.searched for one in planned]
        ),
        "training": _sum([_of_stage(one) for one in planned]),
        "evaluation": _sum(evaluated),
    }
    return {
        "loading": importing + 4 * parameter_count(backbone) / READING,
        f"compiling, about {sum(compiled)} programs": compiled.steps * machine.compiling,
        **{name: None if each is None else each / machine.speed for name, each in flops.items() if each != 0},
    }


def _time_table(seconds: Mapping[str, float | None]) -> Table:
    shown = table("time on this machine", [""])
    shown.show_header = False
    for name, each in seconds.items():
        shown.add_row(name, UNKNOWN if each is None else duration(each))
    shown.add_section()
    known = [each for each in seconds.values() if each is not None]
    about = "about" if len(known) == len(seconds) else "more than"
    shown.add_row("the whole run", f"{about} {duration(sum(known))}")
    return shown


def _notes(
    tasks: Mapping[str, Sequence[Reading]],
    planned: Sequence[Planned],
    pretrained: Pretrained,
    machine: Machine,
    tflops: Sequence[float],
) -> Iterator[str]:
    parameters = parameter_count(pretrained.backbone)
    if planned:
        each = [one.stage.trained / len(one.stage.rows) for one in planned]
        least, most = min(each), max(each)
        span = f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
        yield (
            f"{pretrained.name}: {parameters:,} frozen parameters. A prompt trains {span} numbers, "
            f"{100 * most / parameters:.2g} % of them at most."
        )
        yield "Rows are those of a step, over all prompts that train side by side."
    else:
        yield "Nothing is trained."
    yield (
        f"Times are those of this machine as measured: {machine.rate / 1e9:,.0f} GFLOP/s in a large matrix "
        f"product, of which a step reaches {100 * machine.share:.0f} %, and {duration(machine.compiling)} to "
        "compile it. Programs that an earlier run has compiled take none; a busy machine takes longer."
    )
    if tflops:
        yield "Times at other speeds are those of the training steps at that full rate: no run takes less."
    reads = [read for part in tasks.values() for read in part]
    if any(read.counted for read in reads):
        yield f"Tokens, of input + target, are means of {SAMPLE} training rows."
    if not all(read.counted for read in reads):
        yield "Tokens with ≤ are max_length and an estimate: the model's tokenizer or the rows are not here."
