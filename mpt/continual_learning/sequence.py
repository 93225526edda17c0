"""One method's way through a sequence of tasks, lesson by lesson."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flax import nnx

from mpt.cards.card import Card
from mpt.config.continual import ContinualConfig, ContinualMethod
from mpt.config.options import TrainConfig
from mpt.continual_learning.learners import Learner, Lesson
from mpt.continual_learning.results import TITLES, Outcome
from mpt.continual_learning.scoring import Scorer
from mpt.data.task import Task
from mpt.loading.hf import Pretrained
from mpt.models.backbone import Backbone, check_positions
from mpt.models.cost import parameter_count
from mpt.prompts import MultitaskPrompt, PlainPrompt, SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.prompts.saved import describe, has_prompt, load_prompt, save_prompt
from mpt.rundir.directory import RunDir
from mpt.training.loop import train_stage
from mpt.training.losses import retention_loss, task_loss
from mpt.training.stage import Lengths, Stage
from mpt.types import Row


class Learned(NamedTuple):
    """What came of a lesson: its card, with what was scored then, and how many numbers were trained."""

    card: Card
    parameters: int


class Course(NamedTuple):
    """A method and what it has learned.

    Attributes:
        run: the method's own run directory.
        tasks: the whole sequence.
        learner: what is known by now.
        lessons: what came of each so far.
    """

    method: ContinualMethod
    config: ContinualConfig
    pretrained: Pretrained
    run: RunDir
    tasks: Sequence[Task]
    learner: Learner
    lessons: tuple[Learned, ...] = ()


def learn(course: Course, rows: Sequence[Row], scorer: Scorer) -> Course:
    """The course after its next task; what an earlier, interrupted run has learned is read back."""
    place = len(course.lessons)
    task, lesson = course.tasks[place], course.learner.lesson(place)
    name = f"{place}-{Path(task.name).name}"
    parameters = parameter_count(nnx.state(lesson.prompt, lesson.trainable))
    if not has_prompt(course.run.path, name):
        config = course.config
        retention = Retention(config.kl_weight, config.hidden_weight)
        backbone = course.pretrained.backbone
        stage = lesson_stage(lesson, name, rows, config.train, config.seed, retention, backbone)
        targets = (ids for row in rows for ids in (row.targets, *row.choices))
        check_positions(backbone, stage.model.prompt.extent(1)[1], config.max_length, targets)
        model, seconds = train_stage(stage, course.run)
        trained = model.prompt
        # Behind frozen vectors, new ones are from here on one plain prompt with them.
        kept = trained if isinstance(trained, MultitaskPrompt) else SoftPrompt(trained.compose())
        figures = scorer.figures(course.learner.learned(kept)) | {"training seconds": seconds}
        of = [task, *course.tasks[:place]][: len(kept.compose())]
        _save(course, name, kept, of, {task.name: len(rows)}, figures)
    found, card = load_prompt(course.run.path, name, course.pretrained)
    assert isinstance(found, PlainPrompt)
    lessons = (*course.lessons, Learned(card, parameters))
    return course._replace(learner=course.learner.learned(found), lessons=lessons)


class Retention(NamedTuple):
    """The coefficients of what earlier tasks' prompts are to keep; the task loss has 1.

    Attributes:
        kl: of KL(teacher || student) over the earlier prompts.
        hidden: of the hidden states' mean squared error.
    """

    kl: float
    hidden: float


def lesson_stage(
    lesson: Lesson,
    name: str,
    rows: Sequence[Row] | Lengths,
    train: TrainConfig,
    seed: int,
    retention: Retention,
    backbone: Backbone,
) -> Stage:
    """The stage that trains a lesson.

    Args:
        name: the stage's name.
        rows: the task's training rows.
        seed: draws the batches.
    """
    weights = {"task": 1.0, "kl": retention.kl, "hidden": retention.hidden}
    if lesson.teachers is None or not any(retention):
        model, objective = Prompted(backbone, lesson.prompt), task_loss
    else:
        model, objective = Distilled(backbone, lesson.prompt, lesson.teachers), retention_loss
    return Stage(name, model, [rows], train, objective, weights, trainable=lesson.trainable, seed=seed)


def save_outcome(course: Course, outcome: Outcome) -> None:
    """Saves each task's current prompt, like the seeds of an adaptation: by number, in order."""
    for place, (task, lesson) in enumerate(zip(course.tasks, course.lessons)):
        figures = {
            f"test {task.metric}": outcome.matrix[-1][place],
            f"test {task.metric}, task-agnostic": outcome.guessed[place],
        }
        prompt = SoftPrompt(course.learner.prompt(place)[None])
        _save(course, f"adapted-{place}", prompt, [task], lesson.card.rows, figures)


def _save(
    course: Course,
    name: str,
    prompt: MultitaskPrompt | SoftPrompt,
    tasks: Sequence[Task],
    rows: Mapping[str, int],
    figures: Mapping[str, float],
) -> None:
    """Saves prompts, one for each of ``tasks``, with their card."""
    card = describe(
        prompt,
        course.pretrained,
        tasks,
        prompts=[task.name for task in tasks],
        rows=dict(rows),
        method=f"Continual learning: {TITLES[course.method]}",
        seeds=[course.config.seed],
        max_length=course.config.max_length,
        metrics=dict(figures),
    )
    save_prompt(course.run.path, name, prompt, card)
