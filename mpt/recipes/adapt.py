"""A new task from few examples, by one of many methods: every seed draws its own."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from mpt.adaptation.baseline import beside, run_baseline
from mpt.adaptation.draws import Drawn, draw
from mpt.adaptation.job import Job, Scoring, jobs, run_job
from mpt.adaptation.result import Result, read_results, undefined, write_results
from mpt.adaptation.setting import setting_of
from mpt.adaptation.time_limit import Limit
from mpt.baselines import BASELINES, States
from mpt.catalog.digests import digests_of
from mpt.config.methods import idle_options
from mpt.data.task import Task
from mpt.errors import warnings_once
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.methods import METHODS, AdaptConfig, for_tasks
from mpt.models.backbone import check_positions
from mpt.prompts.prompted import Prompted
from mpt.prompts.source import SavedSource, Source, as_trained
from mpt.recipes.checks import check_adapt
from mpt.report.run_report import finish
from mpt.rundir.directory import RunDir, write_atomic
from mpt.rundir.found import REPORT
from mpt.sharding import on_mesh
from mpt.system.processes import one_writes
from mpt.training.loop import train_stage
from mpt.training.stage import Stage


def adapt(config: AdaptConfig, pretrained: Pretrained | None = None) -> Result:
    """The outcome of ``adapt_all`` for the config's ``task``."""
    return adapt_all(config, pretrained)[0]


@warnings_once()
@on_mesh
def adapt_all(config: AdaptConfig, pretrained: Pretrained | None = None) -> list[Result]:
    """Trains the method's model for the target tasks, once per seed, and scores it on held-out rows.

    A run that was interrupted resumes where it was; a finished one is read back.
    """
    began = time.monotonic()
    tasks = check_adapt(config)
    suited = for_tasks(config, tasks)
    run = RunDir.look(config.out, config, free=idle_options(suited.method), digests=digests_of(tasks))
    config = suited
    if results := read_results(run.path):
        if not (run.path / REPORT).is_file():  # it was interrupted after them
            _conclude(config, run, results)
        return results
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(config.model))
    pretrained = as_trained(pretrained, config.prompt, config.model.bos).placing(tasks)
    backbone = pretrained.backbone
    for task in tasks:
        pretrained.check_words(task)
    if config.baseline:  # it reads texts alone; a method's own start knows what it puts in front of them
        check_positions(backbone, 0, config.max_length)
    drawn = {task.name: draw(config, task, pretrained) for task in tasks}
    source = SavedSource(config.prompt, pretrained) if config.prompt else None
    if source and not config.baseline:  # missing prompts are reported before anything is written
        _ = source.teachers() if METHODS[config.method].needs_teachers else source.prompt()
    run.begin()
    if config.shots:
        _keep_draws(run, config.seeds, drawn)

    states = States(pretrained)
    if config.baseline:
        done = [run_baseline(BASELINES[config.baseline], tasks, config.seeds, drawn, states, run)]
    else:
        done = _trained(config, tasks, drawn, pretrained, states, source, run, began)
    results = [_beside(config, task, drawn[task.name], done, pretrained, states) for task in tasks]
    write_results(run.path, results)
    _conclude(config, run, results)
    return results


def _conclude(config: AdaptConfig, run: RunDir, results: Sequence[Result]) -> None:
    """Sends the figures to the trackers and writes the report, which comes last."""
    if METHODS[config.method].keep is None:  # a whole model is large, and nothing resumes from it
        _remove_checkpoints(run)
    run.conclude(
        {f"{config.scored} {each.metric} of {each.task}": float(np.mean(each.scores)) for each in results}
    )
    finish(run.path)


def _trained(
    config: AdaptConfig,
    tasks: Sequence[Task],
    drawn: Mapping[str, Drawn],
    pretrained: Pretrained,
    states: States,
    source: Source | None,
    run: RunDir,
    began: float,
) -> list[Job]:
    """Trains and scores what the method makes.

    Args:
        began: when the adaptation began, by ``time.monotonic()``.
    """

    def train_first(stage: Stage) -> Prompted:
        return train_stage(stage, run).model

    rows = {name: each.train for name, each in drawn.items()}
    setting = setting_of(config, pretrained, tasks, rows, source, train_first)
    scoring = Scoring(config.scored, config.calibrate, config.validate_every, config.keep == "best")
    parts = jobs(setting)
    scored = [rows for each in drawn.values() for rows in (each.scored, each.checked) if rows]
    read = sum(len(each.rows) for each in scored)

    def limit(place: int) -> Limit:
        """Each job must end when its part of the time is over."""
        end = began + 60 * config.minutes * (place + 1) / len(parts)
        return Limit(end, read) if config.minutes else Limit()

    return [
        run_job(part, name, drawn, run, scoring, config.search, limit(place), states)
        for place, (name, part) in enumerate(parts.items())
    ]


def _keep_draws(run: RunDir, seeds: Sequence[int], drawn: Mapping[str, Drawn]) -> None:
    """Writes which training rows each seed has drawn, by task and seed."""
    draws = {name: dict(zip(seeds, rows.places)) for name, rows in drawn.items()}
    write_atomic(run.path / "draws.json", json.dumps(draws) + "\n")


def _remove_checkpoints(run: RunDir) -> None:
    for checkpoints in run.path.glob("*/checkpoints"):
        with one_writes() as mine:
            if mine:
                epath.Path(checkpoints).rmtree()


def _result(task: Task, drawn: Drawn, done: Sequence[Job]) -> Result:
    passes = zip(*(job.curves[task.name] for job in done))
    return Result(
        task=task.name,
        metric=task.metric,
        scores=[score for job in done for score in job.scores[task.name]],
        rows=len(drawn.scored.examples),
        parameters=done[0].parameters,
        steps=done[0].steps,
        seconds=sum(job.seconds for job in done),
        curve=[(each[0][0], float(np.mean([value for _, value in each]))) for each in passes],
        parts=[part for job in done for part in job.parts[task.name]],
    )


def _beside(
    config: AdaptConfig,
    task: Task,
    drawn: Drawn,
    done: Sequence[Job],
    pretrained: Pretrained,
    states: States,
) -> Result:
    """The result of a task, with the scores of baselines on the same rows."""
    result = _result(task, drawn, done)
    checked = [score for job in done for score in job.checked.get(task.name, [])]
    title = "this prompt" if config.method == "prompt" else METHODS[config.method].title
    missing, ours = undefined(task.metric, result.scores), float(np.mean(result.scores))
    baselines, remarks = {}, missing
    if not missing:
        baselines, remarks = beside(task, drawn, title, ours, checked, pretrained, states, config.seeds)
    told = [remark for job in done for remark in job.remarks]
    if not result.steps and not config.baseline and config.train.steps == 0:
        told.append("no step was trained: this is the score of what the prompt started from")
    return dataclasses.replace(result, baselines=baselines, remarks=[*told, *remarks])
