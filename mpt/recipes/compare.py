"""Runs every method on every held-out task with every number of examples; writes tables and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import jax
import numpy as np
from rich.console import Console

from mpt.adaptation.result import Result
from mpt.catalog.library import name_of
from mpt.comparison import tables, tuning
from mpt.comparison.config import SHOWN, CompareConfig, without
from mpt.comparison.entries import ENTRIES, Cell, cells, slug
from mpt.comparison.estimates import Comparison, interval, pretraining_seconds
from mpt.comparison.figures import figures
from mpt.errors import show, warnings_once
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.models.cost import parameter_count
from mpt.recipes.adapt import adapt
from mpt.recipes.checks import check_compare
from mpt.recipes.pretrain import pretrain
from mpt.render.console import print_table
from mpt.render.plots import save
from mpt.report.run_report import finish
from mpt.rundir.directory import RunDir, write_atomic
from mpt.rundir.found import in_bank
from mpt.sharding import on_mesh
from mpt.system.paths import AnyPath


@warnings_once()
@on_mesh
def compare(config: CompareConfig, pretrained: Pretrained | None = None) -> AnyPath:
    """Pretrains if need be, tunes, adapts by every method, and returns the run directory.

    A comparison that was interrupted resumes where it was; with other methods, targets or numbers of shots,
    it reuses the results that exist. Its tables are written again after each adaptation, so that they can be
    read before it has finished.
    """
    check_compare(config)
    run, console = RunDir.look(config.out, config, SHOWN), Console()
    source = replace(config.pretrain, out=config.source or str(run.path / "pretrain"), track=config.track)
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(source.model))
    run.begin()
    # Trials need the universal prompt at once; else what needs none comes first, and is shown in seconds.
    at_once = config.tune.factors and any(ENTRIES[name].universal for name in config.methods)

    def universal() -> tuple[str, float | None]:
        """The universal prompt, and its seconds of training where it is trained here."""
        if in_bank(config.source):
            return config.source, None
        made = pretrain(source, pretrained)
        return str(made), pretraining_seconds(made)

    prompt, spent = universal() if at_once else ("", None)
    tuned = _tune(config, pretrained, run.path / "tuning", prompt) if config.tune.factors else {}
    if tuned:
        write_atomic(run.path / "tuning.json", tuning.as_json(config, tuned))

    results: dict[Cell, Result] = {}
    comparison = Comparison.of(config, parameter_count(pretrained.backbone), results)
    rates = tuning.in_words(config, tuned) if tuned else ""

    def notes() -> list[str]:
        return [tables.caption(comparison, spent), rates]

    for _, of_target in groupby(cells(config), key=lambda cell: cell.target):
        # Programs have the shapes of one target's texts and classes; those of all would fill the memory.
        jax.clear_caches()
        for cell in of_target:
            if cell.entry.universal and not prompt:
                prompt, spent = universal()
            base = replace(cell.base(config), out=str(run.path / cell.folder(config)))
            factor = tuned[cell.method].factor if cell.method in tuned else 1.0
            entry = cell.entry.config(base, prompt, config.scratch_rate, factor)
            results[cell] = adapt(entry, pretrained)
            console.print(_line(config, cell, results[cell]), markup=False, soft_wrap=True)
            _write(run.path, comparison, notes())
    _write(run.path, comparison, [*notes(), *_draw(run.path, comparison)])
    finish(run.path)
    _print(console, config, comparison, caption=notes()[0])
    show(f"Written to {run.path}/results.md and report.html; each method's run is in that folder.")
    return run.path


def _line(config: CompareConfig, cell: Cell, result: Result) -> str:
    """The line about a finished adaptation."""
    at = f" at {tables.k(cell.shots)}" if config.shots and cell.shots is not None else ""
    return f"{result.task}, {cell.method}: {tables.in_percent(interval(result))} {result.metric}{at}"


def _print(console: Console, config: CompareConfig, comparison: Comparison, caption: str) -> None:
    """Prints a table for each number of shots, and the caption below the last one."""
    for shots in comparison.shots:
        shown = tables.printed(
            tables.table(comparison, shots, short=True),
            title=tables.k(shots) if config.shots else "",
            caption=caption if shots == comparison.shots[-1] else "",
        )
        print_table(console, shown)


def _write(folder: AnyPath, comparison: Comparison, notes: Sequence[str]) -> None:
    """The results so far, as Markdown, CSV and JSON."""
    write_atomic(folder / "results.json", tables.as_json(comparison))
    write_atomic(folder / "results.csv", tables.as_csv(comparison))
    write_atomic(folder / "results.md", tables.as_markdown(comparison, notes))


def _draw(folder: AnyPath, comparison: Comparison) -> list[str]:
    """Draws the figures, and returns the Markdown that shows them."""
    shown = []
    for name, title, drawn in figures(comparison):
        save(drawn, folder / "figures" / f"{name}.svg")
        shown.append(f"{title}:\n\n![{title}](figures/{name}.svg)")
    return shown


def _tune(
    config: CompareConfig, pretrained: Pretrained, folder: AnyPath, prompt: str
) -> dict[str, tuning.Tuned]:
    """Runs the trials of every method that has a rate, each of every factor on every tune task.

    A universal prompt that was trained on a trial's task would need little adaptation: if one of them is a
    source task, the trials have another prompt, trained without it. Test rows are not read.

    Args:
        folder: for the runs, each of which resumes or is read back.
        prompt: run directory of the comparison's universal prompt, if it has one.
    """
    methods, source = tuning.tuned_methods(config), without(config.pretrain, config.tune.tasks)
    if source != config.pretrain and any(ENTRIES[method].universal for method in methods):
        prompt = str(pretrain(replace(source, out=str(folder / "pretrain")), pretrained))

    def trial(method: str, factor: float, task: str) -> float:
        cell = Cell(method, task, config.tune.shots)
        out = folder / name_of(task) / slug(method) / f"x{factor:g}"
        base = replace(tuning.trial_base(config, cell), out=str(out))
        result = adapt(cell.entry.config(base, prompt, config.scratch_rate, factor), pretrained)
        return float(np.mean(result.scores))

    return {
        method: tuning.Tuned(
            {
                factor: {task: trial(method, factor, task) for task in config.tune.tasks}
                for factor in config.tune.factors
            }
        )
        for method in methods
    }
