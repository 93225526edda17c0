"""The prompts that a run has saved: in which files they are, and for which backbone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mpt.cards.card import Card
from mpt.config.options import ModelConfig
from mpt.config.yaml_file import from_plain, read_yaml
from mpt.errors import UserError
from mpt.methods import METHODS
from mpt.methods.prefix import PrefixPrompt
from mpt.prompts import PlainPrompt
from mpt.prompts.class_head import HeadedPrompt
from mpt.prompts.saved import load_prompt
from mpt.rundir.found import find_run, no_prompt, trained_prompts
from mpt.system.paths import AnyPath


def prompt_file(run: AnyPath, config: dict[str, Any], index: int) -> tuple[str, int]:
    """The name of the file that holds a run's prompt, and the prompt's index within it."""
    method = METHODS.get(config.get("method", ""))
    if method and method.keep is None:
        raise UserError(f"{run}: {method.title} saves no model; its figures are in results.json")
    first, *others = names = trained_prompts(run)
    if not others and first != "adapted-0":
        return first, index
    if not 0 <= index < len(names):
        raise no_prompt(run, index, len(names))
    return names[index], 0


def trained(run: AnyPath) -> tuple[ModelConfig, str]:
    """The backbone that a run used, and the name of the file with the prompt that it trained.

    Raises:
        UserError: it is not a run directory.
    """
    model_config, config = read_config(run)
    return model_config, prompt_file(run, config, 0)[0]


def read_config(run: AnyPath) -> tuple[ModelConfig, dict[str, Any]]:
    """The options of a run's backbone, and all its options as plain values."""
    config = read_yaml(find_run(run) / "config.yaml")
    return from_plain(ModelConfig, config.get("model", {}), str(run)), config


def of_all_seeds(run: AnyPath) -> tuple[ModelConfig, nnx.Module, Card]:
    """A run's backbone, and the prompt that it trained with its card: of an adaptation, those of all seeds.

    Where each seed found its own number of steps, they have files of their own, which are put together.
    Of prompts that differ in more than their numbers, as those do that started in different ways, and of
    changed backbones the first seed's is given.

    Raises:
        UserError: it is not a run directory, or its prompt is missing or damaged.
    """
    model, name = trained(run)
    prompt, card = load_prompt(run, name)
    _, *later = trained_prompts(run)
    if not later or not isinstance(prompt, PlainPrompt | PrefixPrompt | HeadedPrompt):
        return model, prompt, card
    others = (load_prompt(run, each) for each in later)
    prompts, cards = zip((prompt, card), *others)
    graphs, states = zip(*map(nnx.split, prompts))
    shapes = [jax.tree.map(jnp.shape, state) for state in states]
    if any(graph != graphs[0] for graph in graphs) or any(each != shapes[0] for each in shapes):
        return model, prompt, card
    together = jax.tree.map(lambda *parts: jnp.concatenate(parts), *states)
    figures = [name for name in card.metrics if all(name in each.metrics for each in cards)]
    means = {figure: float(np.mean([each.metrics[figure] for each in cards])) for figure in figures}
    seeds, tasks = ([one for each in cards for one in getattr(each, part)] for part in ("seeds", "prompts"))
    return model, nnx.merge(graphs[0], together), replace(card, prompts=tasks, seeds=seeds, metrics=means)
