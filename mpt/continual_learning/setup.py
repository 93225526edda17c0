"""What a sequence of tasks starts with: the learners of its methods."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Array, Float

from mpt.config.continual import ContinualMethod
from mpt.config.options import PromptConfig
from mpt.continual_learning.learners import (
    FactorLearner,
    Learner,
    NaiveLearner,
    ProgressiveLearner,
    SharedLearner,
)
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.methods.setting import warn_of_sources
from mpt.prompts import MultitaskPrompt, SoftPrompt
from mpt.prompts.initial import starting_vectors
from mpt.prompts.source import Source
from mpt.prompts.universal_prefix import UniversalPrefix


def beginners(
    methods: Sequence[ContinualMethod],
    tasks: Sequence[Task],
    vectors: PromptConfig,
    seed: int,
    pretrained: Pretrained,
    source: Source | None,
) -> list[Learner]:
    """Each method's learner before the first task; all start from one universal prompt, if there is one.

    Args:
        vectors: shape and initial values of prompts that start from scratch.
        source: the universal prompt; None starts from scratch.

    Raises:
        UserError: the source is no universal prompt, or one that learners cannot keep.
    """
    if layer := source.prompt()[0].layer if source else vectors.layer:
        raise UserError(f"continual: prompts must be before the first layer, not before layer {layer}")
    if source is None:
        starts = starting_vectors(vectors, tasks, [seed] * len(tasks), pretrained)
        return [beginner(method, None, starts) for method in methods]
    universal, names = source.prompt()
    if isinstance(universal, SoftPrompt):
        raise UserError(f"continual: prompt: {source.name} is of one task; name a universal prompt")
    if isinstance(universal, UniversalPrefix) or universal.words is not None:
        raise UserError(
            f"continual: {source.name}: it needs the tasks' instructions, which continual methods do "
            "not have; pretrain a prompt without universal.instruction and universal.wordings"
        )
    warn_of_sources(tasks, names)
    starts = universal.for_targets(len(tasks)).compose()
    return [beginner(method, universal, starts) for method in methods]


def beginner(
    method: ContinualMethod, universal: MultitaskPrompt | None, starts: Float[Array, "J P D"]
) -> Learner:
    """A method's learner before the first task; ``starts`` are what tasks' plain prompts start from."""
    if method == "progressive":
        return ProgressiveLearner(starts)
    if method == "naive":
        return NaiveLearner(starts[0])
    assert universal is not None, "see checked_methods"
    return FactorLearner(universal) if method == "factors" else SharedLearner(universal)
