"""Source tasks -> one teacher prompt each -> one universal prompt (Wang et al., ICLR 2023)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
from flax import nnx

from mpt.catalog.library import find_task
from mpt.config.options import PretrainConfig
from mpt.data.mixture import in_steps, training_batches
from mpt.data.stored import stored_rows
from mpt.errors import UserError
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.prompts.saved import Card, has_prompt, load_prompt, save_prompt
from mpt.prompts.start import instruction_words, starting_vectors
from mpt.report.run_report import finish
from mpt.rundir.directory import RunDir
from mpt.sharding import on_mesh, own_shards
from mpt.system.paths import AnyPath, is_remote
from mpt.system.processes import several
from mpt.training.loop import fit
from mpt.training.losses import distillation_loss, task_loss
from mpt.training.spending import keep_spending
from mpt.training.teacher_cache import TeacherCache

# Without a component of its own (rank 0), a task's prompt is the shared one: MPT's ablation.
SHARED = nnx.All(PromptParam, nnx.PathContains("shared"))


@on_mesh
def pretrain(config: PretrainConfig, pretrained: Pretrained | None = None) -> AnyPath:
    """Trains the teachers, distils them into a universal prompt, and returns the run directory.

    A run that was interrupted goes on where it was.
    """
    check(config)
    tasks = [find_task(name) for name in config.tasks]
    run = RunDir.open(config.out, config)
    if has_prompt(run.path, "universal"):
        return run.path
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(config.model))
    layout = pretrained.backbone.layout
    rows = [stored_rows(task, "train", pretrained.tokenizer, config.max_length, layout) for task in tasks]
    counts = [len(task_rows) for task_rows in rows]
    alone, together = in_steps(config.teachers, counts), in_steps(config.universal, counts)
    names = [task.name for task in tasks]
    facts = {
        "prompts": names,
        "tasks": tasks,
        "rows": {task.name: count for task, count in zip(tasks, counts)},
        "seeds": [config.seed],
        "max_length": config.max_length,
    }

    # 1. A teacher per source task: independent prompts, trained side by side.
    if not has_prompt(run.path, "teachers"):
        vectors = starting_vectors(config.vectors, tasks, [config.seed] * len(tasks), pretrained)
        apart = Prompted(pretrained.backbone, SoftPrompt(vectors))
        keep_spending(run.path / "teachers", apart, alone, rows)
        teachers, seconds = fit(
            apart,
            training_batches(rows, alone, config.seed, layout, own_shards()),
            alone,
            task_loss,
            weights={"task": 1.0},
            run=run,
            stage="teachers",
            tasks=names,
        )
        figures = {"training seconds": seconds}
        card = Card.describe(teachers.prompt, pretrained, method="Teacher prompts", metrics=figures, **facts)
        save_prompt(run.path, "teachers", teachers.prompt, card)
    saved, _ = load_prompt(run.path, "teachers", pretrained)
    assert isinstance(saved, SoftPrompt)
    teachers = saved.compose()

    # 2. One shared prompt, with a low-rank component per task, learns from tasks and teachers.
    told = config.universal.instruction
    start = MultitaskPrompt.start(
        teachers.mean(axis=0),
        len(tasks),
        config.vectors.rank,
        jax.random.key(config.seed),
        words=instruction_words(tasks, told, pretrained) if told else None,
    )
    weights = {"task": 1.0, "kl": config.universal.kl_weight, "hidden": config.universal.hidden_weight}
    distils = weights["kl"] > 0 or weights["hidden"] > 0
    cache = None
    if config.universal.cache_teachers and distils:
        cache = TeacherCache(Path(run.path, "universal", "taught"), pretrained.backbone, teachers, rows)
    backbone, trainable = pretrained.backbone, PromptParam if config.vectors.rank else SHARED
    student = Distilled(backbone, start, teachers) if distils else Prompted(backbone, start)
    keep_spending(run.path / "universal", student, together, rows, trainable)
    universal, seconds = fit(
        student,
        training_batches(rows, together, config.seed + 1, layout, own_shards()),
        together,
        distillation_loss if distils else task_loss,
        weights=weights,
        run=run,
        stage="universal",
        tasks=names,
        trainable=trainable,
        prepare=cache and cache.attach,
    )
    figures = {"training seconds": seconds}
    card = Card.describe(universal.prompt, pretrained, method="Universal prompt", metrics=figures, **facts)
    save_prompt(run.path, "universal", universal.prompt, card)
    run.conclude(figures)
    finish(run.path)
    return run.path


def check(config: PretrainConfig) -> None:
    """Refuses what cannot be run, before anything is written."""
    if len(config.tasks) < 2:
        raise UserError("pretrain: tasks: name at least two source tasks, see `mpt tasks`")
    if config.universal.cache_teachers and several():
        raise UserError("universal.cache_teachers: one process keeps the cache; leave it out with several")
    if config.universal.cache_teachers and is_remote(config.out):
        raise UserError(
            "universal.cache_teachers: it takes a folder, no bucket; leave it out, or give another --out"
        )
