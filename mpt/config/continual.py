"""The options of `mpt continual`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpt.config.options import MeshConfig, ModelConfig, PromptConfig, TrackerName, TrainConfig, refuse_open
from mpt.config.ranges import check_ranges

ContinualMethod = Literal["factors", "shared", "progressive", "naive"]


@dataclass(frozen=True)
class ContinualConfig:
    """Options of `mpt continual`.

    It learns tasks one after another by several methods, without reading the examples of earlier tasks again.
    """

    out: str = "runs/continual"
    """Directory of the run; each method has a directory of its own inside it."""
    model: ModelConfig = ModelConfig()
    tasks: tuple[str, ...] = ()
    """The tasks in the order in which they are learned: names from `mpt tasks`, task files, or the name of a
    sequence from the literature, such as four_1."""
    prompt: str = ""
    """Run directory of the universal prompt that all methods start from; if left out, prompts start from
    scratch, as set by `vectors`."""
    methods: tuple[ContinualMethod, ...] = ()
    """The methods to run; by default all that can be. "factors" (freezes the shared prompt) and "shared"
    (distils earlier tasks) need a universal prompt; "progressive" adds vectors for each task; "naive" trains
    one prompt on all tasks."""
    vectors: PromptConfig = PromptConfig()
    """Shape and initial value of prompts that do not start from a universal prompt."""
    train: TrainConfig = TrainConfig(steps=24, batch_size=24)
    """Training on each task."""
    kl_weight: float = 1.0
    """For the method "shared": coefficient of KL(teacher || student), with the prompts of earlier tasks as
    teachers; the task loss has coefficient 1."""
    hidden_weight: float = 1.0
    """For the method "shared": coefficient of the mean squared error between the hidden states of teacher and
    student. If this and `kl_weight` are both 0, nothing protects the earlier tasks."""
    shots: int = 16
    """Number of training examples per class (for free text, per task); 0: all."""
    seed: int = 0
    """Random seed for the choice and the order of the training examples."""
    max_length: int = 128
    """Maximum number of tokens of an input; a longer one is cut at the end of its longest field."""
    test_rows: int = 200
    """Number of test examples per task, on which every prompt is scored; 0: all."""
    mesh: MeshConfig = MeshConfig()
    track: tuple[TrackerName, ...] = ()
    """Trackers to send each method's metrics to, in addition to metrics.jsonl and TensorBoard's event
    files."""

    def __post_init__(self):
        check_ranges(self)
        refuse_open(train=self.train)
