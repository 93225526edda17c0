"""What each source task gained from pretraining, and whether its gradient agrees with the others'.

All of it is measured on examples of the tasks' validation splits, which no prompt is trained on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import compress
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mpt.adaptation.held_out import class_scores
from mpt.data.batches import Sizes, collate
from mpt.inference.evaluate import target_log_p
from mpt.models.backbone import Backbone
from mpt.pretraining.stages import SHARED, Universal
from mpt.prompts.prefix import Prompt
from mpt.prompts.prompted import Prompted
from mpt.rundir.directory import write_atomic
from mpt.rundir.plain_json import json_text
from mpt.sharding import replicate
from mpt.system.paths import AnyPath
from mpt.training.losses import task_loss
from mpt.types import Batch, Row

FILE = "gains.json"

Which = Literal["start", "teacher", "universal"]


class Gain(NamedTuple):
    """What one source task gained.

    Attributes:
        task: its name.
        rows: the number of held-out examples.
        start: their mean loss in nats with the initial prompt of the task's teacher.
        universal: the same with the universal prompt and the task's factors.
        cosine: of the task's gradient with respect to the shared vectors, at their initial values, and the
            mean of the other tasks' gradients. Below zero, a step that lowers this task's loss raises the
            others'.
        teacher: the mean loss with the task's teacher prompt, if it has one.
    """

    task: str
    rows: int
    start: float
    universal: float
    cosine: float
    teacher: float | None = None


def gains(
    backbone: Backbone,
    names: Sequence[str],
    rows: Sequence[Sequence[Row]],
    prompts: Mapping[Which, Prompt],
    begun: Universal,
) -> list[Gain]:
    """What each task gained; tasks without held-out rows are left out.

    Args:
        rows: the held-out rows of each task.
        prompts: each with a prompt for every task, in their order.
        begun: the universal prompt before it was trained.
    """
    there = [index for index, each in enumerate(rows) if len(each)]
    if not there:
        return []
    agreements = cosines(gradients(Prompted(backbone, begun), {index: rows[index] for index in there}))
    held_out = {index: rows[index] for index in there}
    losses = {which: mean_losses(Prompted(backbone, prompt), held_out) for which, prompt in prompts.items()}
    return [
        Gain(
            names[index],
            len(rows[index]),
            **{which: each[i] for which, each in losses.items()},
            cosine=cosine,
        )
        for i, (index, cosine) in enumerate(zip(there, agreements))
    ]


def mean_losses(model: Prompted, rows: Mapping[int, Sequence[Row]]) -> list[float]:
    """The mean loss of each task's rows with its prompt: among its classes, or over the vocabulary.

    The rows of all tasks share batches: batches of each task alone would need a compiled program each.

    Args:
        rows: those of each task, by the index of its prompt.
    """
    pairs = [(row, index) for index, each in rows.items() for row in each]
    tasks = np.array([index for _, index in pairs])
    has_classes = np.array([bool(row.choices) for row, _ in pairs])
    nats, counted = np.zeros(len(pairs)), np.ones(len(pairs))
    if has_classes.any():
        nats[has_classes] = class_scores(model, *_unzipped(compress(pairs, has_classes))).losses()
    if not has_classes.all():
        texts, prompts = _unzipped(compress(pairs, ~has_classes))
        nats[~has_classes] = -target_log_p(model, texts, prompts)
        counted[~has_classes] = [len(row.targets) for row in texts]
    return [nats[tasks == index].sum() / counted[tasks == index].sum() for index in rows]


def _unzipped(pairs: Iterable[tuple[Row, int]]) -> tuple[list[Row], list[int]]:
    rows, prompts = zip(*pairs)
    return list(rows), list(prompts)


def gradients(model: Prompted, rows: Mapping[int, Sequence[Row]]) -> list[Float[Array, " shared"]]:
    """The gradient of each task's mean loss with respect to all shared parameters.

    Args:
        rows: those of each task, by the index of its prompt. Tasks with fewer rows repeat them, so that one
            compiled program serves all.
    """
    layout, most = model.backbone.layout, max(map(len, rows.values()))
    filled = {index: [each[i % len(each)] for i in range(most)] for index, each in rows.items()}
    sizes = Sizes.largest([Sizes.of(each, layout, classes=True) for each in filled.values()])
    graph, shared, rest = nnx.split(model, SHARED, ...)
    found = []
    for index, each in filled.items():
        found.append(_gradient(graph, shared, rest, collate(each, [index] * most, layout, sizes)))
    return found


@partial(jax.jit, static_argnums=0)
def _gradient(
    graph: nnx.GraphDef, shared: nnx.State, rest: nnx.State, batch: Batch
) -> Float[Array, " shared"]:
    def loss(shared: nnx.State) -> Float[Array, ""]:
        return task_loss(nnx.merge(graph, shared, rest), batch)["task"].mean

    parts = jax.tree.leaves(jax.grad(loss)(shared))
    return replicate(jnp.concatenate([part.ravel() for part in parts]))


def cosines(gradients: Sequence[Float[Array, " shared"]] | Float[np.ndarray, "J shared"]) -> list[float]:
    """The cosine of each gradient with the mean of the others; 0 where either is zero.

    >>> cosines(np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]]))
    [1.0, 0.0, -1.0]
    """
    flat = np.stack([np.ravel(each) for each in gradients]).astype(np.float64)
    others = flat.sum(axis=0) - flat
    norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(others, axis=1)
    return np.divide((flat * others).sum(axis=1), norms, out=np.zeros(len(flat)), where=norms > 0).tolist()


def keep_gains(run: AnyPath, found: Sequence[Gain]) -> None:
    """Writes what each task gained into a run's folder."""
    write_atomic(run / FILE, json_text([each._asdict() for each in found], indent=2) + "\n")


def kept_gains(run: AnyPath) -> list[Gain] | None:
    """What each task gained in a run; None where it was not measured."""
    file = run / FILE
    if not file.is_file():
        return None
    found = json.loads(file.read_text().replace('"pull":', '"cosine":'))  # its name in older runs
    return [Gain(**each) for each in found]
