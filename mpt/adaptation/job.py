"""One part of an adaptation: the prompts, or the model, that train by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from flax import nnx

from mpt.adaptation.draws import Drawn, HeldOut
from mpt.data.mixture import in_steps, training_batches
from mpt.data.task import Example, Task
from mpt.inference.answers import keep_answers
from mpt.inference.evaluate import Answers, answers, grade
from mpt.methods.starts import TITLES, Setting, start
from mpt.metrics.interval import pseudo_values
from mpt.models.cost import weights
from mpt.models.lora import Lora
from mpt.prompts import PlainPrompt, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import Card, save_prompt
from mpt.sharding import own_shards
from mpt.training.loop import fit
from mpt.training.losses import task_loss
from mpt.training.spending import keep_spending


class Job(NamedTuple):
    """What one part of an adaptation gave.

    Attributes:
        scores: each task's, one per prompt.
        parts: what they are made of, see ``pseudo_values``.
        curves: each task's mean at each look, with the step.
        parameters: trained numbers per prompt.
    """

    scores: dict[str, list[float]]
    parts: dict[str, list[list[float]]]
    curves: dict[str, list[tuple[int, float]]]
    parameters: int
    steps: int
    seconds: float


def run_job(setting: Setting, name: str, drawn: Mapping[str, Drawn]) -> Job:
    """Trains, scores and saves what trains side by side.

    Args:
        name: the ending of the names of its files.
        drawn: each task's rows.
    """
    config, run, tasks, begun = setting.config, setting.run, setting.tasks, start(setting)
    parameters = weights(nnx.state(begun.model, begun.trainable))
    probed = {task: rows.probed for task, rows in drawn.items()}
    looks = {task: f"validation {task}" if len(drawn) > 1 else "validation" for task in drawn}

    def probe(model: Prompted) -> dict[str, float]:
        found: dict[str, list[float]] = {look: [] for look in looks.values()}
        for task, _, (examples, _), said in answered(model, setting, probed):
            found[looks[task.name]].append(score(task, examples, said.texts))
        return {look: float(np.mean(each)) for look, each in found.items()}

    model, seconds = begun.model, 0.0
    stage = in_steps(config.train, list(map(len, setting.rows)))
    if stage.steps:
        keep_spending(run.path / f"adapt{name}", model, stage, setting.rows, begun.trainable)
        model, seconds = fit(
            model,
            training_batches(setting.rows, stage, 0, setting.pretrained.backbone.layout, own_shards()),
            stage,
            task_loss,
            weights={"task": 1.0},
            run=run,
            stage=f"adapt{name}",
            tasks=[task.name for task in tasks],
            trainable=begun.trainable,
            weight_rate=begun.weight_rate,
            probe=probe if config.probe_every else None,
            probe_every=config.probe_every,
            best=config.keep == "best",
        )
    lines = run.metrics(f"adapt{name}").read()
    curves = {
        task: [(int(line["step"]), line[look]) for line in lines if look in line]
        for task, look in looks.items()
    }
    found: dict[str, list[float]] = {task: [] for task in drawn}
    parts: dict[str, list[list[float]]] = {task: [] for task in drawn}
    scored = {task: rows.scored for task, rows in drawn.items()}
    for task, seed, (examples, _), said in answered(model, setting, scored):
        found[task.name].append(score(task, examples, said.texts))
        parts[task.name].append(score_in_parts(task, examples, said.texts))
        keep_answers(run.path, task, seed, examples, said)
    if config.method != "full":  # a whole model is no small thing to keep for each task and seed
        save(setting, f"adapted{name}", model, begun.origin, found)
    return Job(found, parts, curves, parameters // len(tasks), stage.steps, seconds)


def answered(
    model: Prompted, setting: Setting, held_out: Mapping[str, HeldOut]
) -> Iterator[tuple[Task, int, HeldOut, Answers]]:
    """What each prompt makes of its task's rows: the task, the seed, the rows and the answers."""
    for place, (task, seed) in enumerate(zip(setting.tasks, setting.seeds)):
        asked = held_out[task.name]
        tokenizer, calibrate = setting.pretrained.tokenizer, setting.config.calibrate
        yield task, seed, asked, answers(model, task, asked.rows, tokenizer, place, calibrate)


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
    setting: Setting, name: str, model: Prompted, origin: str, found: Mapping[str, Sequence[float]]
) -> None:
    """Saves what was trained, with its card; what was factors is plain prompts from here on."""
    tasks, method = {task.name: task for task in setting.tasks}, setting.config.method
    kept: nnx.Module = model.prompt  # type: ignore[assignment]
    if isinstance(model.prompt, PlainPrompt):
        vectors = model.prompt.compose()
        kept = Lora.of(model.backbone, vectors) if method == "lora" else SoftPrompt(vectors)
    prefix = {task: f"{task} " if len(tasks) > 1 else "" for task in tasks}
    card = Card.describe(
        kept,
        setting.pretrained,
        prompts=[task.name for task in setting.tasks],
        tasks=list(tasks.values()),
        rows={task.name: len(rows) for task, rows in zip(setting.tasks, setting.rows)},
        method=f"{TITLES[method]} for {', '.join(tasks)}, started from {origin}",
        seeds=list(dict.fromkeys(setting.seeds)),
        max_length=setting.config.max_length,
        metrics={
            f"{prefix[task]}{setting.config.scored} {tasks[task].metric}": float(np.mean(each))
            for task, each in found.items()
        },
    )
    save_prompt(setting.run.path, name, kept, card)
