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
    """Coefficient of KL(teacher || student) in the loss; the task loss has coefficient 1. If this and
    `hidden_weight` are both 0, no teacher is used."""
    hidden_weight: float = 0.9
    """Coefficient, in the loss, of the mean squared error between the hidden states of teacher and
    student."""
    instruction: int = 0
    """Number of embedded instruction tokens between the universal prompt and the input. They tell the model
    which task it is; `mpt adapt` trains them for a new task. A shorter instruction is repeated; a longer one
    loses its beginning. 0: none, as in MPT; -1: as many as the longest instruction has."""
    wordings: int = 0
    """Number of different wordings of each example. Each is drawn at random: the instruction and the class
    words in random order before the text, only a part of these, or arbitrary words as classes, explained in
    the text. The prompt thus learns to follow instructions; a new task has its whole instruction after the
    prompt. Teachers were trained on other texts, so `kl_weight` and `hidden_weight` must be 0. 0: each
    example has only its template's wording."""
    interpolation: float = 1.0
    """Linear interpolation between the initial (0) and the trained (1) universal prompt: 0.5 saves their
    mean. Values below 1 can be better for tasks unlike the source tasks, because the model's behaviour
    changes less (Wortsman et al., CVPR 2022, for the weights of whole models)."""
    cache_teachers: bool = False
    """Whether to compute the teachers' outputs once per example and store them on disk, about (vocabulary +
    text length x model width) x 4 bytes each. Faster if examples are read more than once."""

    @property
    def distils(self) -> bool:
        """Whether the loss has a term with the teachers."""
        return self.kl_weight > 0 or self.hidden_weight > 0

    def __post_init__(self):
        super().__post_init__()
        if not self.wordings:
            return
        if self.distils:
            raise UserError(
                "wordings: teachers were trained on other texts; set kl_weight and hidden_weight to 0"
            )
        if self.instruction > 0 or self.balanced:
            name = "balanced" if self.balanced else "instruction"
            raise UserError(
                f"wordings: they choose the instructions and the classes of each example; leave out {name}"
            )


@dataclass(frozen=True)
class PretrainConfig:
    """Options of `mpt pretrain`.

    It trains a teacher prompt for each source task and distils all of them into a universal prompt.
    """

    out: str = "runs/pretrain"
    """Directory of the run, for its config, checkpoints, prompts and metrics."""
    model: ModelConfig = ModelConfig()
    tasks: tuple[str, ...] = ()
    """Source tasks: names from `mpt tasks`, task files, or folders with task files."""
    max_length: int = 128
    """Maximum number of tokens of an input; a longer one is cut at the end of its longest field."""
    vectors: PromptConfig = PromptConfig()
    """Shape and initial value of the teachers and of the universal prompt."""
    teachers: TrainConfig = TrainConfig()
    """How the teachers are trained, all at the same time."""
    universal: DistillConfig = DistillConfig()
    """How the universal prompt is distilled from the teachers."""
    gain_rows: int = 32
    """Number of validation examples per source task, on which the report shows how much the universal prompt
    lowers the task's loss, and whether its gradient agrees with the other tasks'; 0: neither is computed."""
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
                "vectors.every_layer: all tasks share the keys and values; set vectors.rank to 0, and "
                "universal.wordings, so that each text states its task"
            )
