"""MPT's pretraining (Wang et al., ICLR 2023, section 3): teacher prompts, then one universal prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
# From teachers to what completes a batch with their outputs; None where each step computes them.
Cached = Callable[[Float[Array, "J P D"]], Callable[[Batch], Batch] | None]

# Without a component of its own (rank 0), a task's prompt is the shared one: MPT's ablation.
SHARED = nnx.All(PromptParam, nnx.Any(*map(nnx.PathContains, ("shared", "keys", "values"))))


@dataclass(frozen=True)
class Sources:
    """The source tasks of a pretraining, and the prompts that it starts from.

    Attributes:
        tasks: the tasks.
        rows: the training rows of each task.
        vectors: shape and initial values of the prompts.
        seed: the random seed.
        reworded: the rows in other wordings that the universal prompt learns from, if it does.
    """

    pretrained: Pretrained
    tasks: Sequence[Task]
    rows: Rows
    vectors: PromptConfig
    seed: int
    reworded: Rows = ()

    @property
    def names(self) -> list[str]:
        """The names of the tasks."""
        return [task.name for task in self.tasks]

    def initial(self) -> SoftPrompt:
        """The teachers before they are trained."""
        seeds = [self.seed] * len(self.tasks)
        return SoftPrompt(
            starting_vectors(self.vectors, self.tasks, seeds, self.pretrained), self.vectors.layer
        )

    def shared(self, teachers: SoftPrompt, config: DistillConfig) -> Universal:
        """A prompt for all tasks that shares the mean of the teachers, before it is trained.

        Args:
            config: has the length of each task's instruction after it; where the rows have the instruction in
                their texts, it has no vectors.
        """
        vectors, words = teachers.compose(), None
        mean, layer = vectors.mean(axis=0), self.vectors.layer
        if config.wordings:
            words = vectors[:, :0]
        elif config.instruction:
            words = instruction_words(self.tasks, config.instruction, self.pretrained, layer)
        if self.vectors.every_layer:
            return UniversalPrefix.start(self.pretrained.backbone, mean[None], vectors[:, :0])
        key = jax.random.key(self.seed)
        return MultitaskPrompt.start(mean, len(self.tasks), self.vectors.rank, key, words, layer)

    def distillation(self, teachers: SoftPrompt, config: DistillConfig, cached: Cached) -> Stage:
        """The stage that distils teachers into a universal prompt; a plain one where all weights are 0."""
        start, vectors = self.shared(teachers, config), teachers.compose()
        distils, backbone = config.distils, self.pretrained.backbone
        return Stage(
            "universal",
            Distilled(backbone, start, vectors) if distils else Prompted(backbone, start),
            self.reworded or self.rows,
            config,
            distillation_loss if distils else task_loss,
            {"task": 1.0, "kl": config.kl_weight, "hidden": config.hidden_weight},
            self.names,
            PromptParam if self.vectors.rank else SHARED,
            seed=self.seed + 1,
            prepare=cached(vectors) if distils else None,
            interpolation=config.interpolation,
        )


def pretraining(
    sources: Sources,
    teachers: TrainConfig,
    universal: DistillConfig,
    train: Train,
    cached: Cached = lambda _: None,
) -> tuple[SoftPrompt, Universal]:
    """Trains the teachers of source tasks, and distils them into a universal prompt.

    Args:
        train: trains a stage, or reads its outcome, if it was trained before.
        cached: given the teachers, what adds their outputs to a batch; None computes them in each step.
    """
    model = Prompted(sources.pretrained.backbone, sources.initial())
    if teachers.steps or teachers.epochs or universal.distils:
        model = train(
            Stage("teachers", model, sources.rows, teachers, tasks=sources.names, seed=sources.seed)
        )
    taught = model.prompt
    assert isinstance(taught, SoftPrompt)
    prompt = train(sources.distillation(taught, universal, cached)).prompt
    assert isinstance(prompt, Universal)
    return taught, prompt
