"""Tasks one after another, by several methods: no row of an earlier task is read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mpt.adaptation.draws import held_out, warn_of_few
from mpt.config.options import ContinualConfig, ContinualMethod
from mpt.continual_learning.results import Outcome, Results, read_results, write_report
from mpt.continual_learning.scoring import Exam
from mpt.continual_learning.sequence import Course, learn, save_outcome
from mpt.continual_learning.setup import beginners, checked_methods, checked_tasks
from mpt.continual_learning.task_identity import Keys, features, plain_text
from mpt.data.mixture import few_shot
from mpt.data.stored import stored_rows
from mpt.data.task import Task
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.prompts.source import SavedSource
from mpt.report.run_report import finish
from mpt.rundir.directory import RunDir
from mpt.sharding import on_mesh
from mpt.types import Row

KEYS = "keys.safetensors"
KEY_ROWS = 1000  # most training rows that a task's key is made of


@on_mesh
def continual(config: ContinualConfig, pretrained: Pretrained | None = None) -> Results:
    """Learns the tasks in order by every method, and writes what each then knows of all of them.

    A run that was interrupted goes on where it was; a finished one is read back.
    """
    tasks, methods = checked_tasks(config), checked_methods(config)
    run = RunDir.open(config.out, config)
    if found := read_results(run.path):
        return found
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(config.model))
    tests = [held_out(task, "test", config.test_rows, config.max_length, pretrained) for task in tasks]
    exam = Exam(pretrained, tasks, tests, config.max_length)
    source = SavedSource(config.prompt, pretrained) if config.prompt else None
    starting = beginners(methods, tasks, config.vectors, config.seed, pretrained, source)
    courses = [
        Course(method, config, pretrained, _own_run(run, method, config), tasks, learner)
        for method, learner in zip(methods, starting)
    ]
    before = [exam.figures(learner) for learner in starting]
    keys = _keys(run, pretrained)

    for place, task in enumerate(tasks):
        places, rows = _training_rows(task, config, pretrained)
        if len(keys.means) == place:
            keys = keys.learned(_features(task, places, config, pretrained))
            keys.save(run.path / KEYS)
        courses = [learn(course, rows, exam) for course in courses]

    guesses = exam.guesses(keys)
    outcomes: dict[ContinualMethod, Outcome] = {}
    for course, start in zip(courses, before):
        outcomes[course.method] = Outcome(
            before=list(start.values()),
            matrix=[[lesson.card.metrics[name] for name in start] for lesson in course.lessons],
            guessed=exam.scores_of_guesses(course.learner, guesses),
            parameters=[lesson.parameters for lesson in course.lessons],
            seconds=sum(lesson.card.metrics["training seconds"] for lesson in course.lessons),
        )
        save_outcome(course, outcomes[course.method])
        exam.keep(course.run.path, course.learner, config.seed)
        course.run.conclude(outcomes[course.method].figures)
        finish(course.run.path)
    results = Results(
        tasks=[task.name for task in tasks],
        metrics=[task.metric for task in tasks],
        rows=[len(test.examples) for test in tests],
        identified=[float(np.mean(found == place)) for place, found in enumerate(guesses)],
        outcomes=outcomes,
    )
    write_report(run.path, results)
    finish(run.path)
    return results


def _own_run(run: RunDir, method: ContinualMethod, config: ContinualConfig) -> RunDir:
    """A method's folder, which is a run of that method alone."""
    folder = run.path / method
    return RunDir.open(folder, dataclasses.replace(config, out=str(folder), methods=(method,)))


def _training_rows(
    task: Task, config: ContinualConfig, pretrained: Pretrained
) -> tuple[Sequence[int], Sequence[Row]]:
    """A task's training rows, behind their places among all that it has."""
    layout = pretrained.backbone.layout
    whole = stored_rows(task, "train", pretrained.tokenizer, config.max_length, layout)
    warn_of_few(task, whole.labels, config.shots)
    if not config.shots:
        return range(len(whole)), whole
    places = few_shot(whole.labels, config.shots, config.seed)
    return places, [whole[i] for i in places]


def _keys(run: RunDir, pretrained: Pretrained) -> Keys:
    """The keys of the tasks that an interrupted run has learned."""
    file = run.path / KEYS
    return Keys.load(file) if file.exists() else Keys.none(pretrained.backbone.embedding.shape[1])


def _features(
    task: Task, places: Sequence[int], config: ContinualConfig, pretrained: Pretrained
) -> Float[np.ndarray, "B D"]:
    """What a task's key is made of: its training rows, without the words of its template."""
    drawn = set(np.random.default_rng(config.seed).permutation(np.asarray(places))[:KEY_ROWS].tolist())
    texts = [plain_text(example) for i, example in enumerate(task.examples("train")) if i in drawn]
    return features(pretrained, texts, config.max_length)
