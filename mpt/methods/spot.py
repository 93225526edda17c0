"""SPoT's choice of a source prompt (Vu et al., ACL 2022, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mpt.config.methods import SpotConfig
from mpt.config.options import TrainConfig
from mpt.errors import UserError, nearest
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.backbone import Backbone
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.stage import Lengths, Stage
from mpt.types import Row


def similarities(
    targets: Float[Array, "J P D"] | Float[np.ndarray, "J P D"],
    sources: Float[Array, "K Q D"] | Float[np.ndarray, "K Q D"],
) -> Float[np.ndarray, "J K"]:
    """The similarity of tasks: the cosine of their prompts' mean vectors."""
    means = [np.asarray(prompts, np.float64).mean(axis=1) for prompts in (targets, sources)]
    target, source = (mean / np.linalg.norm(mean, axis=-1, keepdims=True) for mean in means)
    return target @ source.T


def start(setting: Setting) -> Start:
    """Prompt tuning from the most similar source prompt, or from the one of the option ``source``."""
    options: SpotConfig = setting.options
    sources, names = setting.teachers()
    if not options.source:
        stage = brief_tuning(
            setting.pretrained.backbone,
            setting.new_vectors(),
            setting.rows,
            setting.train,
            options.steps,
            [task.name for task in setting.tasks],
        )
        tuned = setting.train_stage(stage).prompt
        assert isinstance(tuned, SoftPrompt)
        chosen = similarities(tuned.compose(), sources).argmax(axis=1).tolist()
    elif options.source in names:
        chosen = [names.index(options.source)] * len(setting.seeds)
    else:
        raise UserError(f"spot.source: no source task '{options.source}'; {nearest(options.source, names)}")
    origin = f"the prompt of {', '.join(dict.fromkeys(names[k] for k in chosen))}"
    return Start(Prompted(setting.pretrained.backbone, SoftPrompt(sources[jnp.array(chosen)])), origin)


def brief_tuning(
    backbone: Backbone,
    vectors: Float[Array, "J P D"],
    rows: Sequence[Sequence[Row] | Lengths],
    train: TrainConfig,
    steps: int,
    tasks: Sequence[str] = (),
) -> Stage:
    """The short prompt tuning whose outcome is compared with the source tasks' prompts.

    Args:
        vectors: where the prompts start.
        rows: the training rows of each prompt.
        tasks: the name of each prompt's task.
    """
    train = replace(train, steps=steps, epochs=0.0)
    return Stage("spot", Prompted(backbone, SoftPrompt(vectors)), rows, train, tasks=tasks)


METHOD = Method("spot", "SPoT", start, SpotConfig, needs_teachers=True)
