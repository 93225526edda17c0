"""The options of `mpt pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpt.config.options import MeshConfig, ModelConfig, PromptConfig, TrackerName, TrainConfig, refuse_open
from mpt.config.ranges import check_ranges
from mpt.errors import UserError


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """The second stage of pretraining, which distils the teacher prompts into a universal prompt."""

    sampling: Literal["equal", "proportional", "stochastic"] = "stochastic"
    kl_weight: float = 0.9
    """Coefficient of KL(teacher || student); the task loss has coefficient 1. If this and `hidden_weight` are
    both 0, no teacher is used."""
    hidden_weight: float = 0.9
    """Coefficient of the mean squared error between the hidden states of teacher and student."""
    instruction: int = 0
    """Length of the instruction embedding: vectors of the task's instruction between the universal prompt and
    the input, which tell the model what the task is and are trained for a new task. A shorter instruction is
    repeated; of a longer one the end is kept. 0 leaves it out, as in MPT; -1 takes the longest instruction's
    own length."""
    wordings: int = 0
    """Number of wordings in which each example is read: behind its instruction and its classes in any order,
    behind a part of these, or with arbitrary words for the classes that the text explains. The prompt then
    learns to read what is asked, and new tasks have their whole instruction behind it. Teachers read other
    texts, so `kl_weight` and `hidden_weight` must be 0. 0 reads each example as it stands."""
    interpolation: float = 1.0
    """How far the universal prompt is taken from its start to where training ends: 0.5 is half of the way, 1
    all of it. Less can suit tasks better that are no source task: what the model could do before is changed
    less (as of whole models: Wortsman et al., CVPR 2022)."""
    cache_teachers: bool = False
    """Whether to compute the teachers' outputs once per example and keep them on disk, at about (vocabulary +
    length x width) x 4 bytes each. Faster if examples are read more than once."""

    @property
    def distils(self) -> bool:
        """Whether teachers are read."""
        return self.kl_weight > 0 or self.hidden_weight > 0

    def __post_init__(self):
        super().__post_init__()
        if not self.wordings:
            return
        if self.distils:
            raise UserError("wordings: teachers read other texts; set kl_weight and hidden_weight to 0")
        if self.instruction > 0 or self.balanced:
            name = "balanced" if self.balanced else "instruction"
            raise UserError(f"wordings: they have instructions and classes of their own; leave out {name}")


@dataclass(frozen=True)
class PretrainConfig:
    """Options of `mpt pretrain`.

    It trains a teacher prompt for each source task and distils all of them into a universal prompt.
    """

    out: str = "runs/pretrain"
    """Directory of the run, for its config, checkpoints, prompts and metrics."""
    model: ModelConfig = ModelConfig()
    tasks: tuple[str, ...] = ()
    """Source tasks: names from `mpt tasks`, task files, or folders, which stand for all task files in
    them."""
    max_length: int = 128
    """Maximum number of tokens of an input; a longer one loses the end of its longest field."""
    vectors: PromptConfig = PromptConfig()
    """The shape of the teachers and the universal prompt, and their initial value."""
    teachers: TrainConfig = TrainConfig()
    """How the teachers are trained, all at the same time."""
    universal: DistillConfig = DistillConfig()
    """How the universal prompt is distilled from the teachers."""
    gain_rows: int = 32
    """Number of validation examples of each source task on which the report tells what the task gained, and
    whether it pulls with the others; 0 leaves this out."""
    mesh: MeshConfig = MeshConfig()
    seed: int = 0
    """Seed of the initial values and of the order of the examples."""
    track: tuple[TrackerName, ...] = ()
    """Trackers to send metrics to, in addition to metrics.jsonl and TensorBoard's event files."""

    def __post_init__(self):
        check_ranges(self)
        refuse_open(teachers=self.teachers, universal=self.universal)
        if self.vectors.every_layer and (self.vectors.rank or not self.universal.wordings):
            raise UserError(
                "vectors.every_layer: what is in every layer is shared whole; set vectors.rank to 0, and "
                "universal.wordings, so that each text says what its task is"
            )
