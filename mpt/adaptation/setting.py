"""Turns the options of an adaptation into the setting from which its methods start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpt.data.task import Task
from mpt.loading.hf import Pretrained
from mpt.methods import METHODS, AdaptConfig, Setting, Train, options_of
from mpt.prompts.source import Source
from mpt.training.stage import Lengths
from mpt.types import Row


def setting_of(
    config: AdaptConfig,
    pretrained: Pretrained,
    tasks: Sequence[Task],
    rows: Mapping[str, Sequence[Sequence[Row] | Lengths]],
    source: Source | None,
    train: Train,
) -> Setting:
    """The setting of all prompts of an adaptation: those of its first seed, of its second, ...

    Args:
        rows: task -> the training rows of each seed.
        source: the prompts to start from; None starts from scratch.
        train: trains a stage that must come before a method's own.
    """
    pairs = [(index, task) for index in range(len(config.seeds)) for task in tasks]
    return Setting(
        method=config.method,
        options=options_of(config, METHODS[config.method]),
        pretrained=pretrained,
        tasks=[task for _, task in pairs],
        seeds=[config.seeds[index] for index, _ in pairs],
        rows=[rows[task.name][index] for index, task in pairs],
        vectors=config.vectors,
        train=config.train,
        max_length=config.max_length,
        train_stage=train,
        source=source,
        instruction=config.instruction,
        joint=bool(config.also),
        freeze_shared=config.freeze_shared,
    )
