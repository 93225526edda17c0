"""Prompt tuning with a class head, for tasks with class words."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from mpt.config.methods import ClassifierConfig
from mpt.data.task import Task
from mpt.data.tokenise import spell
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.methods import prompt
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.prompts.class_head import Front, HeadedPrompt
from mpt.prompts.prompted import Prompted


def start(setting: Setting) -> Start:
    """The start of prompt tuning, with a class head that gives the scores of the class words.

    Raises:
        UserError: a task has no class words.
    """
    options: ClassifierConfig = setting.options
    begun = prompt.start(setting)
    assert isinstance(begun.model.prompt, Front)
    headed = HeadedPrompt.start(begun.model.prompt, class_embeddings(setting.tasks, setting.pretrained))
    model = Prompted(begun.model.backbone, headed)
    return Start(model, begun.origin, begun.trainable, options.rate)


def class_embeddings(tasks: Sequence[Task], pretrained: Pretrained) -> Float[Array, "J C D"]:
    """The output embedding of each class word, the mean over its tokens; zeros beyond a task's last class."""
    for task in tasks:
        if not task.choices:
            raise UserError(
                f"task {task.name} has no class words, which method classifier needs; use --method prompt"
            )
    width = max(len(task.choices) for task in tasks)
    each = {task.name: _embeddings(task, pretrained) for task in tasks}
    return jnp.stack([jnp.pad(each[task.name], ((0, width - len(task.choices)), (0, 0))) for task in tasks])


def _embeddings(task: Task, pretrained: Pretrained) -> Float[Array, "C D"]:
    backbone = pretrained.backbone
    words = spell(task.choices, pretrained.tokenizer, backbone.layout, task.chat)
    return jnp.stack([backbone.output_embeddings(jnp.asarray(ids)).mean(axis=0) for ids in words])


def keep(model: Prompted) -> HeadedPrompt:
    """The composed prompt and its class head."""
    assert isinstance(model.prompt, HeadedPrompt)
    return model.prompt.composed()


METHOD = Method(
    "classifier",
    "prompt with class head",
    start,
    ClassifierConfig,
    ("rate",),
    has_shared_part=True,
    late=True,
    every_layer=True,
    keep=keep,
)
