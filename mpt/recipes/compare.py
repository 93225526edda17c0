"""Every method on every held-out task, in one table."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mpt.config import AdaptConfig, CompareConfig
from mpt.data.library import find_task
from mpt.errors import UserError, nearest
from mpt.method_config import Method
from mpt.models.hf import load_pretrained
from mpt.prompts.saved import load_prompt
from mpt.recipes.adapt import Result, adapt
from mpt.recipes.pretrain import pretrain
from mpt.rundir import RunDir, write_whole
from mpt.sharding import on_mesh


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        universal: it starts from the universal prompt, or from its teachers.
        trained: it learns from the target's examples.
        start: where it starts otherwise.
        length: vectors of the prompt, where they are not the config's.
        method: see ``AdaptConfig``; with the next.
        freeze_shared: trains a universal prompt's factors alone.
    """

    name: str
    universal: bool = False
    trained: bool = True
    start: Literal["instruction", "vocabulary"] = "instruction"
    length: int | None = None
    method: Method = "prompt"
    freeze_shared: bool = False

    def config(self, base: AdaptConfig, prompt: str, scratch_rate: float) -> AdaptConfig:
        """``base`` as this row would run it; an untrained one needs no more than one seed."""
        base = replace(base, method=self.method, freeze_shared=self.freeze_shared)
        if self.universal:
            base = replace(base, prompt=prompt)
        if not self.universal or self.method == "attempt":  # which has a prompt of its own as well
            length = base.vectors.length if self.length is None else self.length
            vectors = replace(base.vectors, start=self.start, length=length)
            base = replace(base, vectors=vectors, train=replace(base.train, learning_rate=scratch_rate))
        if self.trained:
            return base
        return replace(base, seeds=base.seeds[:1], train=replace(base.train, steps=0, epochs=0.0))


ROWS = {
    row.name: row
    for row in (
        Row("hard prompt", trained=False, length=0),
        Row("in-context examples", method="examples"),
        Row("universal prompt, not adapted", universal=True, trained=False),
        Row("universal prompt, adapted", universal=True),
        Row("universal prompt, factors adapted", universal=True, freeze_shared=True),
        Row("prompt tuning from vocabulary", start="vocabulary"),
        Row("prompt tuning from instruction"),
        Row("SPoT", universal=True, method="spot"),
        Row("ATTEMPT", universal=True, method="attempt"),
        Row("ULPT", method="ulpt"),
        Row("DePT", method="dept"),
        Row("LoRA", method="lora"),
        Row("full fine-tuning", method="full"),
    )
}


@on_mesh
def compare(config: CompareConfig) -> Path:
    """Pretrains if need be, adapts by every method, prints the table, returns the run directory."""
    if not config.targets:
        raise UserError("compare: targets: name at least one held-out task, see `mpt tasks`")
    if config.held_out and (shared := set(config.targets) & set(config.pretrain.tasks)):
        raise UserError(f"compare: '{min(shared)}' is a source and a target; a target must be held out")
    for name in config.targets:
        find_task(name)
    if unknown := [name for name in config.methods if name not in ROWS]:
        raise UserError(f"compare: methods: no method '{unknown[0]}'; {nearest(unknown[0], ROWS)}")
    if not config.methods:
        raise UserError(f"compare: methods: name at least one; known: {', '.join(ROWS)}")
    run, console = RunDir.open(config.out, config), Console()
    source = replace(config.pretrain, out=config.source or str(run.path / "pretrain"))
    pretrained = load_pretrained(**dataclasses.asdict(source.model))
    results: dict[str, list[Result]] = {}
    for name in config.methods:
        row = ROWS[name]
        prompt = str(pretrain(source, pretrained)) if row.universal else ""
        results[name] = []
        for target in config.targets:
            folder = run.path / Path(target).stem / name.replace(", ", "_").replace(" ", "_")
            base = replace(config.adapt, task=target, model=source.model, mesh=source.mesh, out=str(folder))
            result = adapt(row.config(base, prompt, config.scratch_rate), pretrained)
            results[name].append(result)
            console.print(f"{result.task}, {name}: {_share(result)} {result.metric}")
    universal = any(ROWS[name].universal for name in config.methods)
    caption = _caption(results, pretraining_seconds(Path(source.out)) if universal else None)
    header, lines = _header(results, config.goal), _lines(results, config.goal)
    write_whole(run.path / "results.json", _json(results))
    write_whole(run.path / "results.md", _markdown(header, lines, caption))
    console.print(_table(header, lines, caption))
    console.print(f"Written to {run.path}/results.md; each method's run is beside it.")
    return run.path


def _share(result: Result) -> str:
    """Mean and standard deviation over seeds, in percent."""
    mean = f"{100 * np.mean(result.scores):.1f}"
    return f"{mean} ± {100 * np.std(result.scores, ddof=1):.1f}" if len(result.scores) > 1 else mean


def first_step(result: Result, goal: float) -> str:
    """The first step at which the validation rows' mean reached ``goal``."""
    reached = [step for step, value in result.curve if value >= goal]
    return str(reached[0]) if reached else "–"


def _header(results: dict[str, list[Result]], goal: float) -> list[str]:
    targets = next(iter(results.values()))
    goal_at = f"steps to {100 * goal:.0f}%"
    header = ["method"]
    for result in targets:
        header += [f"{result.task} {result.metric} (n={result.rows})", goal_at]
    return [*header, "trained parameters", "steps", "seconds"]


def _lines(results: dict[str, list[Result]], goal: float) -> list[list[str]]:
    lines = []
    for name, row in results.items():
        # A prompt per seed trains in one job: its share of the job's time is what one would take.
        seconds = np.mean([result.seconds / len(result.scores) for result in row])
        trained = row[0].parameters if row[0].steps else 0
        line = [name]
        for result in row:
            line += [_share(result), first_step(result, goal)]
        lines.append([*line, f"{trained:,}", str(row[0].steps), f"{seconds:.0f}"])
    return lines


def _table(header: list[str], lines: list[list[str]], caption: str) -> Table:
    table = Table(caption=caption, box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column(header[0], min_width=12)  # so that it all fits 80 columns
    for name in header[1:]:
        table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def _markdown(header: list[str], lines: list[list[str]], caption: str) -> str:
    table = "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])
    return f"{table}\n\n{caption}\n"


def _caption(results: dict[str, list[Result]], pretraining: float | None) -> str:
    seeds = max(len(result.scores) for row in results.values() for result in row)
    return (
        f"In percent, mean ± standard deviation over {seeds} seeds; seconds per seed. Steps to the goal "
        "are read off validation rows, 0 being before training; – means never within the budget."
        + ("" if pretraining is None else f" Training the universal prompt took {pretraining:.0f} s, once.")
    )


def pretraining_seconds(run: Path) -> float:
    """Seconds in the training steps of a pretraining run, both stages."""
    cards = [load_prompt(run, name)[1] for name in ("teachers", "universal")]
    return sum(card.metrics["training seconds"] for card in cards)


def _json(results: dict[str, list[Result]]) -> str:
    plain = {name: [dataclasses.asdict(result) for result in row] for name, row in results.items()}
    return json.dumps(plain, indent=2) + "\n"
