"""Finished runs, made without training."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
from golden import normal
from toys import write_task

from mpt.catalog.library import find_task
from mpt.config.options import ModelConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import dump_config
from mpt.loading.hf import load_pretrained
from mpt.methods import AdaptConfig
from mpt.prompts import MultitaskPrompt, SoftPrompt
from mpt.prompts.saved import describe, save_prompt
from mpt.rundir.directory import write_atomic

TASKS = ("tone", "colour")
LENGTH, WIDTH, RANK = 4, 32, 2


def random(seed: int, *shape: int) -> jnp.ndarray:
    return jnp.asarray(normal(seed, *shape))


def universal_run(folder: Path, model: Path, decoder_prompt: int = 0) -> Path:
    """A run of `pretrain` with two tasks and random factors of rank two."""
    prompt = MultitaskPrompt(
        random(0, 1, LENGTH, WIDTH), random(1, 2, LENGTH, RANK), random(2, 2, RANK, WIDTH)
    )
    config = PretrainConfig(model=ModelConfig(str(model), decoder_prompt=decoder_prompt))
    return _saved(folder, "universal", prompt, config, TASKS)


def adapted_run(folder: Path, model: Path) -> Path:
    """A run of `adapt` with two seeds and random vectors."""
    config = AdaptConfig(model=ModelConfig(str(model)))
    return _saved(folder, "adapted", SoftPrompt(random(3, 2, LENGTH, WIDTH)), config, ("tone", "tone"))


def run_of(folder: Path, model: Path, prompt, task: str, **keys) -> Path:
    """A run of `adapt` with one seed; ``keys`` go into the task file."""
    return _saved(folder, "adapted", prompt, AdaptConfig(model=ModelConfig(str(model))), (task,), **keys)


def _saved(folder: Path, name: str, prompt, config, names: tuple[str, ...], **keys) -> Path:
    folder.mkdir(exist_ok=True)
    tasks = [find_task(str(write_task(folder, task, **keys))) for task in dict.fromkeys(names)]
    facts = {"method": "Made by hand", "rows": {}, "seeds": [0], "metrics": {}, "max_length": 24}
    run, pretrained = folder / "run", load_pretrained(config.model.name).placing(tasks)
    save_prompt(run, name, prompt, describe(prompt, pretrained, tasks, prompts=list(names), **facts))
    write_atomic(run / "config.yaml", dump_config(config))
    return run
