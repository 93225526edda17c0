"""Source tasks -> one teacher prompt each -> one universal prompt (Wang et al., ICLR 2023)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jaxtyping import Array, Float

from mpt.adaptation.draws import held_out_if_there, warn_of_absent
from mpt.catalog.digests import digests_of
from mpt.config.options import WHOLE
from mpt.config.pretrain import DistillConfig, PretrainConfig
from mpt.data.stored import StoredRows
from mpt.data.task import Task
from mpt.data.tokenise import encode
from mpt.errors import UserError, warnings_once
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.models.backbone import check_positions
from mpt.pretraining.gains import Gain, Which, gains, keep_gains, kept_gains
from mpt.pretraining.reworded_rows import RewordedRows
from mpt.pretraining.stages import Sources, Universal, pretraining
from mpt.prompts import Prompt, SoftPrompt
from mpt.prompts.initial import instruction_words
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import describe, has_prompt, load_prompt, save_prompt
from mpt.recipes.checks import check_pretrain
from mpt.report.run_report import finish
from mpt.rundir.directory import RunDir
from mpt.rundir.found import REPORT
from mpt.sharding import on_mesh
from mpt.system.paths import AnyPath
from mpt.system.processes import is_multiprocess
from mpt.system.said import say
from mpt.training.loop import train_stage
from mpt.training.stage import Stage
from mpt.training.teacher_cache import TeacherCache
from mpt.types import Batch

TITLES = {"teachers": "Teacher prompts", "universal": "Universal prompt"}


@warnings_once()
@on_mesh
def pretrain(config: PretrainConfig, pretrained: Pretrained | None = None) -> AnyPath:
    """Trains the teachers, distils them into a universal prompt, and returns the run directory.

    A run that was interrupted resumes where it was.
    """
    tasks = check_pretrain(config)
    if config.universal.cache_teachers and is_multiprocess():
        raise UserError("universal.cache_teachers: one process keeps the cache; leave it out with several")
    run = RunDir.look(config.out, config, digests=digests_of(tasks))
    if has_prompt(run.path, "universal") and (run.path / REPORT).is_file():
        return run.path
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(config.model))
    if has_prompt(run.path, "teachers"):  # an older version may have made them, whose texts began otherwise
        pretrained = pretrained.beginning(load_prompt(run.path, "teachers")[1].bos_rule)
    rows = [_training_rows(task, config.max_length, pretrained) for task in tasks]
    reworded = [
        _reworded(task, config.universal, config.max_length, config.seed, pretrained)
        for task in (tasks if config.universal.wordings else ())
    ]
    run.begin()

    def trained(stage: Stage) -> Prompted:
        """Trains a stage and saves its prompt, which is read back if an earlier run has trained it."""
        if not has_prompt(run.path, stage.name):
            targets = (ids for each in rows for row in each for ids in (row.targets, *row.choices))
            prompt = stage.model.prompt.extent(1)[1]
            check_positions(pretrained.backbone, prompt, config.max_length, targets)
            model, seconds = train_stage(stage, run)
            card = describe(
                model.prompt,
                pretrained,
                tasks,
                method=TITLES[stage.name],
                prompts=[task.name for task in tasks],
                rows={task.name: len(each) for task, each in zip(tasks, rows)},
                seeds=[config.seed],
                max_length=config.max_length,
                metrics={"training seconds": seconds},
            )
            save_prompt(run.path, stage.name, model.prompt, card)
        prompt, _ = load_prompt(run.path, stage.name, pretrained)
        return Prompted(pretrained.backbone, prompt)  # type: ignore[arg-type]

    def cached(teachers: Float[Array, "J P D"]) -> Callable[[Batch], Batch] | None:
        if not config.universal.cache_teachers:
            return None
        folder, layer = Path(run.path, "universal", "taught"), config.vectors.layer
        classes = config.universal.objective == "classes"
        return TeacherCache(folder, pretrained.backbone, teachers, rows, classes, layer).attach

    sources = Sources(pretrained, tasks, rows, config.vectors, config.seed, reworded)
    taught, universal = pretraining(sources, config.teachers, config.universal, trained, cached)
    if config.gain_rows and kept_gains(run.path) is None:
        teachers = taught if has_prompt(run.path, "teachers") else None
        keep_gains(run.path, _gains(config, sources, teachers, universal))
    run.conclude(load_prompt(run.path, "universal")[1].metrics)
    finish(run.path)
    return run.path


def _training_rows(task: Task, max_length: int, pretrained: Pretrained) -> StoredRows:
    """A source task's rows, once its class words are known to suit the model."""
    pretrained.check_words(task)
    rows = pretrained.stored_rows(task, "train", max_length)
    warn_of_absent(task, rows.labels)
    return rows


def _reworded(
    task: Task, universal: DistillConfig, max_length: int, seed: int, pretrained: Pretrained
) -> RewordedRows:
    """A source task's rows in other wordings; no more examples than the stage can read."""
    tokenised = partial(
        encode,
        tokenizer=pretrained.tokenizer,
        max_length=max_length,
        layout=pretrained.backbone.layout,
        vocab=pretrained.backbone.embedding.shape[0],
        bos=pretrained.bos,
    )
    most = 0 if universal.epochs else universal.steps * universal.batch_size
    return RewordedRows(task, task.sample("train", most, seed), universal.wordings, seed, tokenised)


def _gains(
    config: PretrainConfig, sources: Sources, taught: SoftPrompt | None, universal: Universal
) -> list[Gain]:
    """What each source task gained, by rows of its validation split.

    Args:
        taught: the teachers, if there are any.
    """
    say("measuring what each source task gained")
    pretrained, initial = sources.pretrained, sources.initial()
    rows = [
        held_out_if_there(task, config.gain_rows, config.max_length, pretrained).rows
        for task in sources.tasks
    ]
    begun = sources.shared(taught or initial, config.universal)
    if config.universal.wordings:  # these rows have no wordings: their instruction follows the prompt
        words = instruction_words(sources.tasks, WHOLE, pretrained, config.vectors.layer)
        begun, universal = begun.with_words(words), universal.with_words(words)
    prompts: dict[Which, Prompt] = {"start": initial, "universal": universal}
    if taught:
        prompts["teacher"] = taught
    return gains(pretrained.backbone, sources.names, rows, prompts, begun)
