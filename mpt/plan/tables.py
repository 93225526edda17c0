"""A plan on the screen."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from mpt.plan.plans import Plan, mesh_name, rows_of
from mpt.plan.search import Try, best
from mpt.render.console import UNKNOWN, number, print_table, table
from mpt.system.quantities import short

GIB = 2**30
BASES = {
    "cycles": "the compiler's own count of cycles, loops multiplied out",
    "roofline": "a roofline of FLOPs and bytes: this compiler gives no cycles",
}


def print_plan(plan: Plan, console: Console) -> None:
    """Prints what was tried, what the best takes of each chip, and what the whole run takes."""
    print_table(console, _tried(plan))
    if suggested := best(plan.tried):
        print_table(console, _best(suggested))
        print_table(console, _whole(plan))
    for line in _notes(plan):
        console.print(line, markup=False)


def _tried(plan: Plan) -> Table:
    where = f"{plan.where or 'the devices here'}: {plan.devices} × {_gib(plan.chip.memory)} GiB"
    headings = ["rows\na step", "GiB\na chip", "ms\na step", "tokens\na second", "of peak\n%"]
    shown = table(f"{plan.model} on {where}, {short(plan.chip.flops / 1e12)} TFLOP/s each", headings)
    shown.columns[0].header = "data × fsdp\n× tensor"
    shown.columns[0].no_wrap = True
    shown.add_column("")
    for one in plan.tried:
        name, rows = mesh_name(one.job.mesh), rows_of(one.job.train)
        if one.found.fault:
            size = _gib(one.found.memory) if one.found.memory else ""
            shown.add_row(name, rows, size, *[""] * 3, one.found.fault)
            continue
        remark = "" if one.fits else "does not fit"
        remark = "the best" if one is best(plan.tried) else remark
        figures = _gib(one.found.memory), short(1e3 * one.found.seconds)
        speed = (number(round(one.tokens_per_second)), short(100 * one.share)) if one.fits else ("", "")
        shown.add_row(name, rows, *figures, *speed, remark)
    return shown


def _best(one: Try) -> Table:
    estimate = one.found
    shown = table("the best, a step of each chip", ["", "of a chip's"])
    memory = one.job.chip.memory
    for name, size in (
        ("weights", estimate.weights),
        ("activations kept", estimate.activations),
        ("temporaries", estimate.temporaries),
        ("all memory", estimate.memory),
    ):
        shown.add_row(name, f"{_gib(size)} GiB", f"{short(100 * size / memory)} %")
    shown.add_section()
    shown.add_row("FLOPs", f"{short(estimate.flops / 1e9)} G", f"{short(100 * one.share)} %")
    shown.add_row("bytes", f"{short(estimate.traffic / 1e9)} GB")
    for kind, size in estimate.collectives.items():
        shown.add_row(kind, f"{short(size / 1e6)} MB")
    shown.add_row("time", f"{short(1e3 * estimate.seconds)} ms")
    return shown


def _whole(plan: Plan) -> Table:
    shown = table("the whole run on this mesh", ["rows\na step", "rows\nin all", "ms\na step", "hours"])
    for stage in plan.stages:
        hours = UNKNOWN if stage.hours is None else short(stage.hours)
        found = stage.step.found
        milliseconds = UNKNOWN if found.fault else short(1e3 * found.seconds)
        shown.add_row(stage.name, rows_of(stage.step.job.train), number(stage.rows), milliseconds, hours)
    hours = [stage.hours for stage in plan.stages]
    shown.add_section()
    shown.add_row("all", "", "", "", UNKNOWN if None in hours else short(sum(filter(None, hours))))
    return shown


def _notes(plan: Plan) -> Iterator[str]:
    if plan.left_out:
        yield f"Not compiled, as they train more than a prompt's vectors: {', '.join(plan.left_out)}."
    yield f"The largest stage was tried, {plan.stage}: {plan.parameters:,} frozen parameters."
    if (suggested := best(plan.tried)) is None:
        yield "Nothing fits: use more chips or microbatches, --model.dtype bfloat16 or --model.weights int8."
        return
    for stage in plan.stages:
        if stage.step.found.fault:
            yield f"{stage.name}: {stage.step.found.fault}."
    if any(one.step.job.train.microbatches > 1 for one in plan.stages):
        yield "Rows in parts: with the stage's `microbatches` set so, the same step takes less memory."
    yield f"Time is {BASES[suggested.found.basis]}; communication between chips is added, at full speed."
    yield "Every row is counted at max_length, so that nothing can take more memory; shorter rows are faster."
    yield "FLOPs are the necessary ones, without recomputation. Evaluation is not counted."


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}" if size < GIB else f"{size / GIB:.1f}"
