"""What a run would refuse once it has read its data; a dry run says it beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpt.comparison.config import AnyConfig, splits_read
from mpt.loading.hf import Pretrained
from mpt.plan.reading import GUESSED, Reading


def refuse(config: AnyConfig, tasks: Mapping[str, Sequence[Reading]], pretrained: Pretrained) -> None:
    """Raises what the run would raise before its first step.

    Args:
        tasks: those of the config by their part in it, see ``mpt.plan.stages.stages``.

    Raises:
        UserError: a row cannot be read, a split is empty, or the model's tokenizer cannot distinguish the
            class words.
    """
    for part, readings in tasks.items():
        for reading in readings:
            _refuse_rows(reading, splits_read(config, part))
            if pretrained.tokenizer.name_or_path != GUESSED:
                pretrained.check_words(reading.task)


def _refuse_rows(reading: Reading, splits: Sequence[str]) -> None:
    """Reads every row, where that takes no download."""
    if reading.task.source.is_local:
        for split in splits:
            for _ in reading.task.examples(split):
                pass
