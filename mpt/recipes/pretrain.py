"""Source tasks -> one teacher prompt each -> one universal prompt (Wang et al., ICLR 2023)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

from mpt.config import PretrainConfig
from mpt.data.batches import encode
from mpt.data.library import find_task
from mpt.data.mixture import numbered, training_batches
from mpt.errors import UserError
from mpt.losses import distillation_loss, task_loss
from mpt.models.hf import Pretrained, load_pretrained
from mpt.models.prompted import Distilled, Prompted
from mpt.prompts import MultitaskPrompt, SoftPrompt
from mpt.prompts.saved import Card, has_prompt, load_prompt, save_prompt
from mpt.recipes.start import starting_vectors
from mpt.rundir import RunDir
from mpt.teachers import TeacherCache
from mpt.train import fit


def pretrain(config: PretrainConfig, pretrained: Pretrained | None = None) -> Path:
    """Trains the teachers, distils them into a universal prompt, and returns the run directory.

    A run that was interrupted goes on where it was.
    """
    if len(config.tasks) < 2:
        raise UserError("pretrain: tasks: name at least two source tasks, see `mpt tasks`")
    tasks = [find_task(name) for name in config.tasks]
    run = RunDir.open(config.out, config)
    if has_prompt(run.path, "universal"):
        return run.path
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(config.model))
    layout = pretrained.backbone.layout
    examples = [task.examples("train") for task in tasks]
    rows = numbered([encode(task, pretrained.tokenizer, config.max_length, layout) for task in examples])
    facts = {
        "prompts": [task.name for task in tasks],
        "tasks": tasks,
        "rows": {task.name: len(task_rows) for task, task_rows in zip(tasks, rows)},
        "seeds": [config.seed],
        "max_length": config.max_length,
    }

    # 1. A teacher per source task: independent prompts, trained side by side.
    if not has_prompt(run.path, "teachers"):
        vectors = starting_vectors(config.vectors, tasks, [config.seed] * len(tasks), pretrained)
        teachers, seconds = fit(
            Prompted(pretrained.backbone, SoftPrompt(vectors)),
            training_batches(rows, config.teachers, config.seed, layout),
            config.teachers,
            task_loss,
            weights={"task": 1.0},
            run=run,
            stage="teachers",
        )
        figures = {"training seconds": seconds}
        card = Card.describe(teachers.prompt, pretrained, method="Teacher prompts", metrics=figures, **facts)
        save_prompt(run.path, "teachers", teachers.prompt, card)
    teachers = load_prompt(run.path, "teachers", pretrained)[0].compose()

    # 2. One shared prompt, with a low-rank component per task, learns from tasks and teachers.
    start = MultitaskPrompt.start(
        teachers.mean(axis=0), len(tasks), config.vectors.rank, jax.random.key(config.seed)
    )
    weights = {"task": 1.0, "kl": config.universal.kl_weight, "hidden": config.universal.hidden_weight}
    cache = None
    if config.universal.cache_teachers:
        cache = TeacherCache(run.path / "universal" / "taught", pretrained.backbone, teachers, rows)
    universal, seconds = fit(
        Distilled(pretrained.backbone, start, teachers),
        training_batches(rows, config.universal, config.seed + 1, layout),
        config.universal,
        distillation_loss,
        weights=weights,
        run=run,
        stage="universal",
        prepare=cache and cache.attach,
    )
    figures = {"training seconds": seconds}
    card = Card.describe(universal.prompt, pretrained, method="Universal prompt", metrics=figures, **facts)
    save_prompt(run.path, "universal", universal.prompt, card)
    return run.path
