"""A new task from few examples, by one of many methods: every seed draws its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
from etils import epath

from mpt.adaptation.draws import Drawn, draw
from mpt.adaptation.job import Job, run_job
from mpt.adaptation.result import Result, read_results
from mpt.catalog.library import find_task
from mpt.config.options import AdaptConfig
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.methods.starts import ONE_BY_ONE, Setting
from mpt.report.run_report import finish
from mpt.rundir.directory import RunDir, write_whole
from mpt.sharding import on_mesh
from mpt.system.processes import one_writes


def adapt(config: AdaptConfig, pretrained: Pretrained | None = None) -> Result:
    """The outcome of ``adapt_all`` for the config's ``task``."""
    return adapt_all(config, pretrained)[0]


@on_mesh
def adapt_all(config: AdaptConfig, pretrained: Pretrained | None = None) -> list[Result]:
    """Trains the method's model for the target tasks, once per seed, and scores it on held-out rows.

    A run that was interrupted goes on where it was; a finished one is read back.
    """
    tasks = [find_task(name) for name in (config.task, *config.also)]
    if len({task.name for task in tasks}) < len(tasks):
        raise UserError("adapt: also: it names a target twice; name each once")
    run = RunDir.open(config.out, config)
    if found := read_results(run.path, bool(config.also)):
        return found
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(config.model))
    drawn = {task.name: draw(config, task, pretrained) for task in tasks}
    if config.shots:
        draws = {name: dict(zip(config.seeds, rows.places)) for name, rows in drawn.items()}
        write_whole(run.path / "draws.json", json.dumps(draws) + "\n")
    pairs = [(place, task) for place in range(len(config.seeds)) for task in tasks]
    setting = Setting(
        config,
        pretrained,
        run,
        tasks=[task for _, task in pairs],
        seeds=[config.seeds[place] for place, _ in pairs],
        rows=[drawn[task.name].train[place] for place, task in pairs],
    )
    jobs = [run_job(part, name, drawn) for name, part in _parts(setting, len(tasks)).items()]
    results = [_result(task, drawn[task.name], jobs) for task in tasks]
    plain = [dataclasses.asdict(result) for result in results]
    write_whole(
        run.path / ("results.json" if config.also else "result.json"),
        json.dumps(plain if config.also else plain[0], indent=2) + "\n",
    )
    if config.method == "full":  # whole models, that nothing goes on from
        for checkpoints in run.path.glob("adapt-*/checkpoints"):
            with one_writes() as mine:
                if mine:
                    epath.Path(checkpoints).rmtree()
    run.conclude(
        {f"{config.scored} {each.metric} of {each.task}": float(np.mean(each.scores)) for each in results}
    )
    finish(run.path)
    return results


def _parts(setting: Setting, width: int) -> dict[str, Setting]:
    """What trains by itself, by the ending of its names: all seeds, or one seed with its share of rows.

    Args:
        width: prompts of a seed.
    """
    config, count = setting.config, len(setting.config.seeds)
    if config.method not in ONE_BY_ONE and width == 1:
        return {"": setting}
    steps = 0 if config.method == "examples" else config.train.steps
    epochs = 0.0 if config.method == "examples" else config.train.epochs
    train = dataclasses.replace(
        config.train, steps=steps, epochs=epochs, batch_size=max(config.train.batch_size // count, 1)
    )
    tasks, seeds, rows = (
        [part[i : i + width] for i in range(0, len(part), width)]
        for part in (setting.tasks, setting.seeds, setting.rows)
    )
    whole = setting._replace(config=dataclasses.replace(config, train=train))
    return {
        f"-{place}": whole._replace(tasks=tasks[place], seeds=seeds[place], rows=rows[place])
        for place in range(count)
    }


def _result(task: Task, drawn: Drawn, jobs: Sequence[Job]) -> Result:
    looks = zip(*(job.curves[task.name] for job in jobs))
    return Result(
        task=task.name,
        metric=task.metric,
        scores=[score for job in jobs for score in job.scores[task.name]],
        rows=len(drawn.scored.examples),
        parameters=jobs[0].parameters,
        steps=jobs[0].steps,
        seconds=sum(job.seconds for job in jobs),
        curve=[(look[0][0], float(np.mean([value for _, value in look]))) for look in looks],
        parts=[part for job in jobs for part in job.parts[task.name]],
    )
