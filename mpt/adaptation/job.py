"""One job of an adaptation: the prompts, or the model, that train side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mpt.adaptation.budget import with_budget
from mpt.adaptation.draws import Drawn
from mpt.adaptation.start import start
from mpt.adaptation.time_limit import Limit
from mpt.baselines import States
from mpt.config.adapt import SearchConfig
from mpt.data.task import Example, Task
from mpt.data.text.labelled import Labelled
from mpt.inference.answers import keep_answers
from mpt.inference.evaluate import Answers, answers, grade
from mpt.methods import METHODS, Setting, Start
from mpt.metrics.interval import pseudo_values
from mpt.prompts.class_head import headed
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import describe, save_prompt
from mpt.rundir.directory import RunDir
from mpt.training.loop import Evaluation, train_stage
from mpt.training.stage import Lengths, Stage


@dataclass(frozen=True)
class Scoring:
    """How prompts are evaluated.

    Attributes:
        split: the split for the final score.
        calibrate: predictions are calibrated by batch, see ``mpt.inference.evaluate.calibrated``.
        validate_every: steps between evaluations on the validation split; 0: there are none.
        best: the prompt of the best evaluation is scored, not the last step's.
    """

    split: str = "test"
    calibrate: bool = False
    validate_every: int = 0
    best: bool = False


class Job(NamedTuple):
    """The result of a job.

    Attributes:
        scores: each task's, one per prompt.
        parts: the pseudo-values of the scores, see ``pseudo_values``.
        curves: the mean of each task at each evaluation on validation rows, with the step.
        parameters: trained numbers per prompt.
        seconds: spent in training steps.
        checked: each task's scores on the rows for the comparison with baselines; see ``Drawn``.
        remarks: sentences on the learning rate and the steps, if there was a search.
    """

    scores: dict[str, list[float]]
    parts: dict[str, list[list[float]]]
    curves: dict[str, list[tuple[int, float]]]
    parameters: int
    steps: int
    seconds: float
    checked: Mapping[str, list[float]] = MappingProxyType({})
    remarks: Sequence[str] = ()


def jobs(setting: Setting) -> dict[str, Setting]:
    """An adaptation's jobs, by the suffix of the names of their files.

    Prompts of all seeds train side by side in one job, if the method allows it and no prompts of a seed share
    a part; else each seed has a job, with its share of the rows of a step. If the number of steps is to be
    found, each seed has a job too.
    """
    method, width = METHODS[setting.method], len({task.name for task in setting.tasks})
    count = len(setting.tasks) // width
    if method.side_by_side and not setting.joint and (not setting.train.is_open or count == 1):
        return {"": setting}
    train = setting.train
    if not train.is_open:
        train = replace(train, batch_size=max(train.batch_size // count, 1))
    if not method.trained:
        train = replace(train, steps=0, epochs=0.0)

    def of_seed(first: int) -> Setting:
        tasks, seeds, rows = (
            each[first : first + width] for each in (setting.tasks, setting.seeds, setting.rows)
        )
        return replace(setting, tasks=tasks, seeds=seeds, rows=rows, train=train)

    return {f"-{place}": of_seed(place * width) for place in range(count)}


def training(setting: Setting, begun: Start, name: str = "", factor: float = 1.0) -> Stage:
    """The stage that trains a job's model; without steps, nothing is trained."""
    return Stage(
        f"adapt{name}",
        begun.model,
        [rows if isinstance(rows, Lengths) else headed(begun.model.prompt, rows) for rows in setting.rows],
        setting.train,
        tasks=[task.name for task in setting.tasks],
        trainable=begun.trainable,
        weight_rate=begun.weight_rate,
        rate_scale=() if factor == 1.0 else [factor] * len(setting.tasks),
    )


def run_job(
    setting: Setting,
    name: str,
    drawn: Mapping[str, Drawn],
    run: RunDir,
    scoring: Scoring,
    search_options: SearchConfig,
    limit: Limit,
    states: States,
) -> Job:
    """Trains, scores and saves what trains side by side.

    Args:
        name: the suffix of the names of its files.
        drawn: each task's rows.
        search_options: how the number of steps is found if it is not given.
        limit: when the job must be finished.
        states: the frozen model's hidden states of texts, which baselines use too.
    """
    setting, budget = with_budget(setting, drawn, run, name, search_options, limit, states)
    begun = budget.begun(start(setting))
    stage = training(setting, begun, name, budget.factor)
    model, seconds = begun.model, 0.0
    if stage.steps:
        model, seconds = train_stage(stage, run, _evaluation(setting, drawn, scoring))
    model = budget.kept(model, begun.trainable)
    scores, parts = _scored(model, setting, drawn, scoring.calibrate, run)
    checked = _on_checked(model, setting, drawn, scores, scoring.calibrate)
    save(setting, f"adapted{name}", model, begun.origin, scores, run, scoring.split)
    steps, searching = budget.spent
    return Job(
        scores,
        parts,
        _curves(run.metrics(stage.name).read(), drawn),
        stage.trained // len(setting.tasks),
        steps + (stage.steps or 0),
        seconds + searching,
        checked,
        budget.told(),
    )


def _evaluation(setting: Setting, drawn: Mapping[str, Drawn], scoring: Scoring) -> Evaluation | None:
    """The evaluations on validation rows while a job trains; None if there are none."""
    titles, validated = _titles(drawn), {task: rows.validated for task, rows in drawn.items()}

    def validate(model: Prompted) -> dict[str, float]:
        scores: dict[str, list[float]] = {title: [] for title in titles.values()}
        for task, _, (examples, _), said in answered(model, setting, validated, scoring.calibrate):
            scores[titles[task.name]].append(score(task, examples, said.texts))
        return {title: float(np.mean(each)) for title, each in scores.items()}

    return Evaluation(validate, scoring.validate_every, scoring.best) if scoring.validate_every else None


def _titles(tasks: Collection[str]) -> dict[str, str]:
    """The name of each task's figure in the metrics of a training stage."""
    return {task: f"validation {task}" if len(tasks) > 1 else "validation" for task in tasks}


def _curves(
    lines: Sequence[Mapping[str, float]], tasks: Collection[str]
) -> dict[str, list[tuple[int, float]]]:
    """The evaluations of each task among the lines of a stage's metrics, with their steps."""
    return {
        task: [(int(line["step"]), line[title]) for line in lines if title in line]
        for task, title in _titles(tasks).items()
    }


def _scored(
    model: Prompted, setting: Setting, drawn: Mapping[str, Drawn], calibrate: bool, run: RunDir
) -> tuple[dict[str, list[float]], dict[str, list[list[float]]]]:
    """Each task's scores, one per prompt, and their pseudo-values; the predictions are kept in the run."""
    scores: dict[str, list[float]] = {task: [] for task in drawn}
    parts: dict[str, list[list[float]]] = {task: [] for task in drawn}
    scored = {task: rows.scored for task, rows in drawn.items()}
    for task, seed, (examples, _), said in answered(model, setting, scored, calibrate):
        scores[task.name].append(score(task, examples, said.texts))
        parts[task.name].append(score_in_parts(task, examples, said.texts))
        keep_answers(run.path, task, seed, examples, said)
    return scores, parts


def _on_checked(
    model: Prompted,
    setting: Setting,
    drawn: Mapping[str, Drawn],
    scores: dict[str, list[float]],
    calibrate: bool,
) -> dict[str, list[float]]:
    """The scores on the rows for the comparison with baselines; ``scores`` if those are the same rows."""
    checked = {task: list(scores[task]) for task, rows in drawn.items() if rows.checked is rows.scored}
    asked = {
        task: rows.checked
        for task, rows in drawn.items()
        if task not in checked and rows.checked and rows.checked.rows
    }
    for task, _, (examples, _), said in answered(model, setting, asked, calibrate):
        checked.setdefault(task.name, []).append(score(task, examples, said.texts))
    return checked


def answered(
    model: Prompted, setting: Setting, held_out: Mapping[str, Labelled], calibrate: bool
) -> Iterator[tuple[Task, int, Labelled, Answers]]:
    """Each prompt's predictions for its task's rows: the task, the seed, the rows and the predictions.

    Tasks without rows are left out.
    """
    for index, (task, seed) in enumerate(zip(setting.tasks, setting.seeds)):
        if task.name not in held_out:
            continue
        asked = held_out[task.name]
        yield (
            task,
            seed,
            asked,
            answers(model, task, asked.rows, setting.pretrained.tokenizer, index, calibrate),
        )


def score(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> float:
    """The metric that tables show, and no other."""
    return grade(replace(task, metrics=(task.metric,)), examples, texts)[task.metric]


def score_in_parts(task: Task, examples: Sequence[Example], texts: Sequence[str]) -> list[float]:
    """The metric's pseudo-values."""
    groups = [example.group or row for row, example in enumerate(examples)]

    def of(rows: Sequence[int]) -> float:
        return score(task, [examples[row] for row in rows], [texts[row] for row in rows])

    return pseudo_values(of, groups)


def save(
    setting: Setting,
    name: str,
    model: Prompted,
    origin: str,
    scores: Mapping[str, Sequence[float]],
    run: RunDir,
    split: str,
) -> None:
    """Saves the part of a trained model that the method keeps, with its card."""
    method, tasks = METHODS[setting.method], {task.name: task for task in setting.tasks}
    if method.keep is None:
        return
    kept = method.keep(model)
    prefix = {task: f"{task} " if len(tasks) > 1 else "" for task in tasks}
    card = describe(
        kept,
        setting.pretrained,
        prompts=[task.name for task in setting.tasks],
        tasks=list(tasks.values()),
        rows={task.name: len(rows) for task, rows in zip(setting.tasks, setting.rows)},  # type: ignore
        method=f"{method.title[0].upper()}{method.title[1:]} for {', '.join(tasks)}, started from {origin}",
        seeds=list(dict.fromkeys(setting.seeds)),
        max_length=setting.max_length,
        metrics={
            f"{prefix[task]}{split} {tasks[task].metric}": float(np.mean(each))
            for task, each in scores.items()
        },
    )
    save_prompt(run.path, name, kept, card)
