"""MPT's pretraining (Wang et al., ICLR 2023, section 3): teacher prompts, then one universal prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
from flax import nnx
from jaxtyping import Array, Float

from mpt.config.options import PromptConfig, TrainConfig
from mpt.config.pretrain import DistillConfig
from mpt.data.task import Task
from mpt.loading.hf import Pretrained
from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt
from mpt.prompts.initial import instruction_words, starting_vectors
from mpt.prompts.prompted import Distilled, Prompted
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.training.losses import distillation_loss, task_loss
from mpt.training.stage import Lengths, Stage, Train
from mpt.types import Batch, Row

Rows = Sequence[Sequence[Row] | Lengths]
Universal = MultitaskPrompt | UniversalPrefix

# Without a component of its own (rank 0), a task's prompt is the shared one: MPT's ablation.
SHARED = nnx.All(PromptParam, nnx.Any(*map(nnx.PathContains, ("shared", "keys", "values"))))


def pretraining(
    pretrained: Pretrained,
    tasks: Sequence[Task],
    rows: Rows,
    vectors: PromptConfig,
    teachers: TrainConfig,
    universal: DistillConfig,
    seed: int,
    train: Train,
    cached: Callable[[Float[Array, "J P D"]], Callable[[Batch], Batch] | None] = lambda _: None,
    reworded: Rows = (),
) -> tuple[SoftPrompt, Universal]:
    """Trains the teachers of source tasks, and distils them into a universal prompt.

    Args:
        rows: the training rows of each task.
        vectors: shape and initial values of the prompts.
        train: trains a stage, or reads what came of it before.
        cached: given the teachers, what adds their outputs to a batch; None computes them in each step.
        reworded: the rows in other wordings that the universal prompt learns from, if it does.
    """
    names = [task.name for task in tasks]
    starts = starting_vectors(vectors, tasks, [seed] * len(tasks), pretrained)
    model = Prompted(pretrained.backbone, SoftPrompt(starts, vectors.layer))
    if teachers.steps or teachers.epochs or universal.distils:
        model = train(Stage("teachers", model, rows, teachers, tasks=names, seed=seed))
    taught = model.prompt
    assert isinstance(taught, SoftPrompt)

    shared = universal_start(pretrained, tasks, taught.compose(), vectors, universal, seed)
    distilled = train(
        distillation(
            pretrained,
            shared,
            taught.compose(),
            reworded or rows,
            universal,
            seed + 1,
            names,
            vectors.rank,
            cached,
        )
    )
    assert isinstance(distilled.prompt, Universal)
    return taught, distilled.prompt


def universal_start(
    pretrained: Pretrained,
    tasks: Sequence[Task],
    vectors: Float[Array, "J P D"],
    shape: PromptConfig,
    config: DistillConfig,
    seed: int,
) -> Universal:
    """A prompt for all tasks that shares the mean of their ``vectors``, before it is trained.

    Args:
        shape: gives the rank of the tasks' components, and the layer.
        config: has the length of each task's instruction after them; where the rows have it in their texts,
            it has no vectors.
    """
    words = None
    if config.wordings:
        words = vectors[:, :0]
    elif config.instruction:
        words = instruction_words(tasks, config.instruction, pretrained, shape.layer)
    mean, key = vectors.mean(axis=0), jax.random.key(seed)
    if shape.every_layer:
        return UniversalPrefix.start(pretrained.backbone, mean[None], vectors[:, :0])
    return MultitaskPrompt.start(mean, len(tasks), shape.rank, key, words, shape.layer)


def distillation(
    pretrained: Pretrained,
    start: Universal,
    teachers: Float[Array, "J P D"],
    rows: Rows,
    config: DistillConfig,
    seed: int,
    names: Sequence[str],
    rank: int,
    cached: Callable[[Float[Array, "J P D"]], Callable[[Batch], Batch] | None],
) -> Stage:
    """The stage that distils teachers into a universal prompt; a plain one where all weights are 0."""
    weights: Mapping[str, float] = {"task": 1.0, "kl": config.kl_weight, "hidden": config.hidden_weight}
    distils, backbone = config.distils, pretrained.backbone
    return Stage(
        "universal",
        Distilled(backbone, start, teachers) if distils else Prompted(backbone, start),
        rows,
        config,
        distillation_loss if distils else task_loss,
        weights,
        names,
        PromptParam if rank else SHARED,
        seed=seed,
        prepare=cached(teachers) if distils else None,
        interpolation=config.interpolation,
    )
