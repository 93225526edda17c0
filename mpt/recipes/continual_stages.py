"""The training stages of a sequence of tasks, without a model: the learners themselves, on empty prompts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from mpt.config import ContinualConfig
from mpt.prompts import MultitaskPrompt
from mpt.recipes.continual import beginner, chosen_methods, sequence
from mpt.recipes.continual_report import TITLES
from mpt.recipes.stages import Planned, Read, Stage, drawn, prompt_length, saved_shape


def lessons(config: ContinualConfig, model: Planned) -> tuple[dict[str, list[Read]], list[Stage]]:
    """The tasks of a sequence, and every lesson of every method; what is distilled is a stage beside it."""
    sequence(config.tasks)
    reads = [Read.of(name, config.max_length, model) for name in config.tasks]
    source = saved_shape(config.prompt) if config.prompt else config.vectors
    length = prompt_length(source, reads[0].task, model)
    starts, key = jnp.zeros((len(reads), length, model.width)), jax.random.key(0)
    universal = MultitaskPrompt.start(starts[0], 1, source.rank, key) if config.prompt else None
    planned = []
    for method in chosen_methods(config):
        learner = beginner(method, universal, starts)
        for place, read in enumerate(reads):
            prompt, trainable, teachers = learner.lesson(place)
            stage = Stage(
                f"{read.task.name}, {TITLES[method]}",
                config.train,
                [read],
                [drawn(read, config.shots)],
                len(prompt.compose()),
                prompt.compose().shape[1],
                sum(leaf.size for leaf in jax.tree.leaves(nnx.state(prompt, trainable))),
            )
            planned.append(stage)
            learner = learner.learned(prompt)
    return {"sequence": reads}, planned
