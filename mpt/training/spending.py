"""What the steps of a training stage take: told before the first one, and kept beside its metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import jax
import numpy as np
from flax import nnx
from flax.nnx.filterlib import Filter

from mpt.config.options import TrainConfig
from mpt.data.batches import text_length
from mpt.data.mixture import shares
from mpt.models.cost import batch_cost, weights
from mpt.models.layers import Weight
from mpt.prompts import AttentionalPrompt, DecomposedPrompt, PlainPrompt, PromptParam
from mpt.prompts.prompted import Distilled, Prompted
from mpt.rundir.directory import write_whole
from mpt.system.paths import AnyPath
from mpt.types import Row

SAMPLE = 200  # rows of each task whose tokens are counted
FILE = "cost.json"


@dataclass(frozen=True)
class Spending:
    """What a stage takes.

    Attributes:
        prompts: how many are trained side by side.
        trained: numbers that are trained, of all of them.
        backbone: the backbone's numbers, and ``bytes`` what they take in memory.
        rows: of a step, over all prompts.
        flops: necessary FLOPs of a step on rows of the mean length, see ``mpt.models.cost``.
        finetuning: those of a step that reads the same rows without a prompt and trains every weight.
    """

    prompts: int
    trained: int
    backbone: int
    bytes: int
    rows: int
    steps: int
    flops: float
    finetuning: float


def keep_spending(
    folder: AnyPath,
    model: Prompted,
    config: TrainConfig,
    rows: Sequence[Sequence[Row]],
    trainable: Filter = PromptParam,
    twice: bool = False,
) -> None:
    """Writes what a stage will take.

    Args:
        folder: the stage's.
        rows: each prompt's training rows; ``config`` says how they are drawn.
        trainable: what is trained, an NNX filter.
        twice: a step that distils reads its rows for the task besides.
    """
    backbone, layout = model.backbone, model.backbone.layout
    drawn = [[task[i] for i in _some(len(task))] for task in rows]
    texts = [float(np.mean([text_length(row, layout) for row in task])) for task in drawn]
    labels = [float(np.mean([len(row.targets) for row in task])) for task in drawn]
    share = None if config.sampling == "equal" else shares(list(map(len, rows)), config)
    text, label = (
        [float(np.average(lengths, weights=share))] * config.batch_size for lengths in (texts, labels)
    )
    prompts, length = _extent(model, config.batch_size)
    cost = batch_cost(backbone, prompts, length, text, label)
    trained = nnx.state(model, trainable)
    whole = any(isinstance(part, Weight) for _, part in nnx.to_flat_state(trained))
    taken = cost.finetuning if whole else cost.distillation if isinstance(model, Distilled) else cost.step
    found = Spending(
        prompts=len(rows),
        trained=weights(trained),
        backbone=weights(backbone),
        bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(backbone))),
        rows=config.batch_size,
        steps=config.steps,
        flops=taken + (cost.step if twice else 0.0),
        finetuning=batch_cost(backbone, 0, 0, text, label).finetuning,
    )
    write_whole(folder / FILE, json.dumps(asdict(found), indent=2) + "\n")


def kept_spending(folder: AnyPath) -> Spending | None:
    """What was written; None where nothing was."""
    file = folder / FILE
    return Spending(**json.loads(file.read_text())) if file.exists() else None


def _some(count: int) -> list[int]:
    return np.random.default_rng(0).permutation(count)[:SAMPLE].tolist()


def _extent(model: Prompted, rows: int) -> tuple[int, int]:
    """The prompts that a step computes, and the vectors of each."""
    prompt = model.prompt
    if isinstance(prompt, AttentionalPrompt):  # every row has one of its own
        return rows, prompt.target.shape[1]
    assert isinstance(prompt, (DecomposedPrompt, PlainPrompt))
    vectors = prompt.vectors if isinstance(prompt, DecomposedPrompt) else prompt.compose()
    return vectors.shape[0], vectors.shape[1]
