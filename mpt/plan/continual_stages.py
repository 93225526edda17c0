"""The training stages of a sequence of tasks, without a model: its learners, on prompts of zeros."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp

from mpt.catalog.library import sequence
from mpt.config.options import ContinualConfig
from mpt.continual.results import TITLES
from mpt.continual.setup import beginner, checked_methods, checked_tasks
from mpt.plan.stages import Planned, Read, Stage, drawn, prompt_length, saved_shape
from mpt.prompts import MultitaskPrompt


def lessons(config: ContinualConfig, model: Planned) -> tuple[dict[str, list[Read]], list[Stage]]:
    """The tasks of a sequence, and every method's lessons; what is distilled is a stage beside them."""
    checked_tasks(config)
    methods = checked_methods(config)
    reads = [Read.of(name, config.max_length, model) for name in sequence(config.tasks)]
    vectors = saved_shape(config.prompt).vectors if config.prompt else config.vectors
    starts = jnp.zeros((len(reads), prompt_length(vectors, reads[0].task, model), model.width))
    universal = MultitaskPrompt.start(starts[0], 1, vectors.rank, jax.random.key(0))
    planned = []
    for method in methods:
        learner = beginner(method, universal, starts)
        for place, read in enumerate(reads):
            prompt, trainable, teachers = learner.lesson(place)
            count, length, _ = prompt.compose().shape
            stage = Stage(
                f"{read.task.name}, {TITLES[method]}",
                config.train,
                [read],
                [drawn(read, config.shots)],
                count,
                length,
                prompt,
                trainable,
            )
            planned.append(stage)
            if teachers is not None and (config.kl_weight or config.hidden_weight):
                planned.append(replace(stage, name=f"{read.task.name}, earlier prompts", distilled=True))
            learner = learner.learned(prompt)
    return {"sequence": reads}, planned
