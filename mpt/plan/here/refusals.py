"""What a run would refuse once it has read its folder and its data; a dry run says it beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mpt.adaptation.baseline import check_baseline
from mpt.comparison.config import SHOWN, CompareConfig
from mpt.config.options import ContinualConfig, PretrainConfig
from mpt.data.class_words import check_words
from mpt.data.taskfile import from_anywhere
from mpt.loading.hf import Pretrained
from mpt.methods import METHODS, AdaptConfig, for_tasks
from mpt.plan.here.work import Config
from mpt.plan.reading import GUESSED, Reading
from mpt.rundir.directory import RunDir
from mpt.rundir.tracking import check_installed
from mpt.system.paths import is_remote


def refuse(config: Config, tasks: Mapping[str, Sequence[Reading]], pretrained: Pretrained) -> None:
    """Raises what the run would raise before its first step.

    Args:
        tasks: those of the config by their part in it, see ``mpt.plan.stages.stages``.

    Raises:
        UserError: the folder holds something else, a row cannot be read, a split is empty, the model cannot
            tell the class words apart, or a baseline cannot answer a task.
    """
    check_installed(config.track)
    kept = replace(_as_kept(config), track=())  # nothing is sent to trackers
    if not is_remote(config.out):  # a plan is made where the bucket need not be within reach
        RunDir.look(config.out, kept, {*_free(config, tasks), "track"})
    if isinstance(config, AdaptConfig):
        check_baseline(config.baseline, [reading.task for reading in tasks["target"]])
    backbone = pretrained.backbone
    for part, readings in tasks.items():
        for reading in readings:
            _refuse_rows(reading, _splits(config, part))
            if pretrained.tokenizer.name_or_path != GUESSED:
                vocab = backbone.embedding.shape[0]
                check_words(reading.task, pretrained.tokenizer, backbone.layout, vocab)


def _as_kept(config: Config) -> Config:
    """The config as its command keeps it in the run: with the whole paths of task files."""
    if isinstance(config, AdaptConfig):
        also = tuple(map(from_anywhere, config.also))
        return replace(config, task=from_anywhere(config.task), also=also)
    if isinstance(config, ContinualConfig):
        return replace(config, tasks=tuple(map(from_anywhere, config.tasks)))
    return config


def _free(config: Config, tasks: Mapping[str, Sequence[Reading]]) -> set[str]:
    """The options that may change from one time to the next."""
    if isinstance(config, CompareConfig):
        return set(SHOWN)
    if not isinstance(config, AdaptConfig):
        return set()
    own = for_tasks(config, [reading.task for reading in tasks["target"]]).method
    return {"baselines", *(name for name, each in METHODS.items() if each.options and name != own)}


def _splits(config: Config, part: str) -> list[str]:
    """The splits that a run reads of the tasks of a part."""
    if part == "source" or isinstance(config, PretrainConfig):
        return ["train"]
    adapt = config.adapt if isinstance(config, CompareConfig) else config
    if not isinstance(adapt, AdaptConfig):
        return ["train", "test"]
    return ["train", *(["validation"] if adapt.probe_every else []), adapt.scored]


def _refuse_rows(reading: Reading, splits: Sequence[str]) -> None:
    """Reads every row, where that takes no download."""
    if reading.task.source.is_local:
        for split in splits:
            for _ in reading.task.examples(split):
                pass
