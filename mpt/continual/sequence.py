"""One method's way through a sequence of tasks, lesson by lesson."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flax import nnx

from mpt.config.methods import ContinualMethod
from mpt.config.options import ContinualConfig
from mpt.continual.learners import Learner, Lesson
from mpt.continual.results import TITLES, Outcome
from mpt.continual.scoring import Exam
from mpt.data.mixture import in_steps, training_batches
from mpt.data.task import Task
from mpt.loading.hf import Pretrained
from mpt.models.cost import weights
from mpt.prompts import MultitaskPrompt, PlainPrompt, SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.prompts.saved import Card, has_prompt, load_prompt, save_prompt
from mpt.rundir.directory import RunDir
from mpt.training.loop import fit
from mpt.training.losses import retention_loss, task_loss
from mpt.training.spending import keep_spending
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


def learn(course: Course, rows: Sequence[Row], exam: Exam) -> Course:
    """The course after its next task; what was learned in an earlier run is read back."""
    place = len(course.lessons)
    task, lesson = course.tasks[place], course.learner.lesson(place)
    name = f"{place}-{Path(task.name).name}"
    parameters = weights(nnx.state(lesson.prompt, lesson.trainable))
    if not has_prompt(course.run.path, name):
        trained, seconds = _trained(course, lesson, name, rows)
        # Behind frozen vectors, new ones are from here on one plain prompt with them.
        kept = trained if isinstance(trained, MultitaskPrompt) else SoftPrompt(trained.compose())
        figures = exam.figures(course.learner.learned(kept)) | {"training seconds": seconds}
        of = [task, *course.tasks[:place]][: len(kept.compose())]
        _save(course, name, kept, of, {task.name: len(rows)}, figures)
    found, card = load_prompt(course.run.path, name, course.pretrained)
    assert isinstance(found, PlainPrompt)
    lessons = (*course.lessons, Learned(card, parameters))
    return course._replace(learner=course.learner.learned(found), lessons=lessons)


def _trained(course: Course, lesson: Lesson, stage: str, rows: Sequence[Row]) -> tuple[PlainPrompt, float]:
    """The prompt that a lesson makes, and the seconds that it takes."""
    config, backbone = course.config, course.pretrained.backbone
    model, loss = Prompted(backbone, lesson.prompt), task_loss
    teachers = lesson.teachers if config.kl_weight or config.hidden_weight else None
    if teachers is not None:
        model, loss = Distilled(backbone, lesson.prompt, teachers), retention_loss
    train = in_steps(config.train, [len(rows)])
    keep_spending(course.run.path / stage, model, train, [rows], lesson.trainable, teachers is not None)
    trained, seconds = fit(
        model,
        training_batches([rows], train, config.seed, backbone.layout),
        train,
        loss,
        weights={"task": 1.0, "kl": config.kl_weight, "hidden": config.hidden_weight},
        run=course.run,
        stage=stage,
        trainable=lesson.trainable,
    )
    return trained.prompt, seconds


def save_outcome(course: Course, outcome: Outcome) -> None:
    """Saves each task's prompt as it is now, as an adaptation's seeds are: by number, in order."""
    for place, (task, lesson) in enumerate(zip(course.tasks, course.lessons)):
        figures = {
            f"test {task.metric}": outcome.matrix[-1][place],
            f"test {task.metric}, task guessed": outcome.guessed[place],
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
    card = Card.describe(
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
