"""Tasks one after another, by several methods: no row of an earlier task is read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from mpt.adaptation.draws import held_out, training_rows
from mpt.catalog.digests import digests_of
from mpt.config.continual import ContinualConfig, ContinualMethod
from mpt.continual_learning.methods import checked_methods
from mpt.continual_learning.results import Outcome, Results, read_results, write_report
from mpt.continual_learning.scoring import Scorer
from mpt.continual_learning.sequence import Course, learn, save_outcome
from mpt.continual_learning.setup import beginners
from mpt.continual_learning.task_identity import TaskStatistics, features, plain_text
from mpt.data.task import Task
from mpt.errors import warnings_once
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.models.backbone import check_positions
from mpt.prompts.source import SavedSource, as_trained
from mpt.recipes.checks import check_continual
from mpt.report.run_report import finish
from mpt.rundir.directory import RunDir
from mpt.rundir.found import REPORT
from mpt.sharding import on_mesh

STATISTICS = "keys.safetensors"
TEXTS = 1000  # the most training texts of a task that its statistics are made of


@warnings_once()
@on_mesh
def continual(config: ContinualConfig, pretrained: Pretrained | None = None) -> Results:
    """Learns the tasks in order by every method, and scores each method on all of them.

    A run that was interrupted resumes where it was; a finished one is read back.
    """
    tasks, methods = check_continual(config), checked_methods(config)
    run = RunDir.look(config.out, config, digests=digests_of(tasks))
    if results := read_results(run.path):
        if not (run.path / REPORT).is_file():  # it was interrupted after them
            finish(run.path)
        return results
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(config.model))
    pretrained = as_trained(pretrained, config.prompt, config.model.bos)
    backbone = pretrained.backbone
    for task in tasks:
        pretrained.check_words(task)
    check_positions(backbone, config.vectors.length, config.max_length)
    tests = [held_out(task, "test", config.test_rows, config.max_length, pretrained) for task in tasks]
    scorer = Scorer(pretrained, tasks, tests, config.max_length)
    source = SavedSource(config.prompt, pretrained) if config.prompt else None
    starts = beginners(methods, tasks, config.vectors, config.seed, pretrained, source)
    run.begin()
    courses = [
        Course(method, config, pretrained, _own_run(run, method, config), tasks, learner)
        for method, learner in zip(methods, starts)
    ]
    before = [scorer.figures(learner) for learner in starts]
    statistics = _statistics(run, pretrained)

    for index, task in enumerate(tasks):
        (indices,), (rows,) = training_rows(task, config.shots, [config.seed], config.max_length, pretrained)
        if len(statistics.means) == index:
            statistics = statistics.learned(_features(task, indices, config, pretrained))
            statistics.save(run.path / STATISTICS)
        courses = [learn(course, rows, scorer) for course in courses]

    inferred = scorer.inferred_tasks(statistics)
    results = Results(
        tasks=[task.name for task in tasks],
        metrics=[task.metric for task in tasks],
        rows=[len(test.examples) for test in tests],
        identified=[float(np.mean(taken_for == index)) for index, taken_for in enumerate(inferred)],
        outcomes={
            course.method: _concluded(course, first, scorer, inferred, config.seed)
            for course, first in zip(courses, before)
        },
    )
    write_report(run.path, results)
    finish(run.path)
    return results


def _concluded(
    course: Course,
    before: Mapping[str, float],
    scorer: Scorer,
    inferred: Sequence[Int[np.ndarray, " _"]],
    seed: int,
) -> Outcome:
    """A method's outcome, written into its own run with its prompts, answers and report.

    Args:
        before: the figures of the learner before the first task.
        inferred: the inferred task of each test row.
    """
    outcome = Outcome(
        before=list(before.values()),
        matrix=[[lesson.card.metrics[name] for name in before] for lesson in course.lessons],
        guessed=scorer.task_agnostic(course.learner, inferred),
        parameters=[lesson.parameters for lesson in course.lessons],
        seconds=sum(lesson.card.metrics["training seconds"] for lesson in course.lessons),
    )
    save_outcome(course, outcome)
    scorer.keep(course.run.path, course.learner, seed)
    course.run.conclude(outcome.figures)
    finish(course.run.path)
    return outcome


def _own_run(run: RunDir, method: ContinualMethod, config: ContinualConfig) -> RunDir:
    """A method's folder, which is a run of that method alone."""
    folder = run.path / method
    return RunDir.open(folder, dataclasses.replace(config, out=str(folder), methods=(method,)))


def _statistics(run: RunDir, pretrained: Pretrained) -> TaskStatistics:
    """The statistics of the tasks that an interrupted run has learned."""
    file, width = run.path / STATISTICS, pretrained.backbone.embedding.shape[1]
    return TaskStatistics.load(file) if file.exists() else TaskStatistics.empty(width)


def _features(
    task: Task, indices: Sequence[int], config: ContinualConfig, pretrained: Pretrained
) -> Float[np.ndarray, "B D"]:
    """The features of a task's training texts, without the words of its template."""
    drawn = set(np.random.default_rng(config.seed).permutation(np.asarray(indices))[:TEXTS].tolist())
    texts = [plain_text(example) for i, example in enumerate(task.examples("train")) if i in drawn]
    return features(pretrained, texts, config.max_length)
