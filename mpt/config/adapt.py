"""The options of `mpt adapt` that all methods share, and those of its search for rate and steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpt.config.options import MeshConfig, ModelConfig, PromptConfig, TrackerName, TrainConfig
from mpt.config.ranges import check_ranges
from mpt.errors import UserError

BaselineName = Literal["largest class", "counting words", "linear probe", "copy the input"]


def answers(baseline: BaselineName, classes: bool) -> bool:
    """Whether a baseline can answer the rows of a task with class words, or else those of free text.

    >>> answers("copy the input", classes=True), answers("linear probe", classes=True)
    (False, True)
    """
    return classes == (baseline != "copy the input")


@dataclass(frozen=True)
class SearchConfig:
    """How an adaptation whose steps are not given finds its learning rate and its number of steps.

    Every rate has prompts that learn from a part of the examples and are scored on the others.
    """

    rates: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Factors on the learning rates of `train` and of the method. All are tried side by side up to the first
    look, and the best one goes on."""
    rows: int = 8
    """Examples per step of each prompt."""
    every: int = 8
    """Steps between looks at the least; with many examples, a look comes every quarter of an epoch, or every
    four times as many steps."""
    patience: int = 2
    """After so many looks in a row without a better one, training ends."""
    gain: float = 0.02
    """A look is better if its loss is lower by more than this fraction."""
    steps: int = 64
    """The most steps; with many examples, `epochs` passes over them."""
    epochs: float = 4.0
    """The most passes over many examples."""
    probe: bool = True
    """Whether linear probes on the frozen model's states of a text without the prompt are added to the scores
    of a class head, weighed by the held-out examples. Each text to answer is then read twice."""
    scratch: bool = True
    """Whether a prompt that starts from another one (`--prompt`) is compared at the first look with one that
    starts as `vectors` says, and gives way to it where the held-out examples say so."""

    def __post_init__(self):
        if self.steps <= self.every:
            raise UserError(
                f"search.steps: it must be more than search.every, {self.every}, not {self.steps}"
            )


@dataclass(frozen=True)
class AdaptOptions:
    """Options of `mpt adapt` that all methods share; ``mpt.config.methods.AdaptConfig`` adds their own."""

    out: str = "runs/adapt"
    """Directory of the run, for its config, checkpoints, prompts and metrics."""
    model: ModelConfig = ModelConfig()
    task: str = ""
    """The target task: a name from `mpt tasks`, or a task file."""
    also: tuple[str, ...] = ()
    """Further target tasks, trained at the same time; from a universal prompt, all use the same shared
    part."""
    prompt: str = "auto"
    """The universal prompt to start from: a run directory, or BANK/NAME. SPoT and ATTEMPT use the teachers of
    that run. "auto" is the one that comes with mpt for the model (`mpt bank list`), if there is one, the task
    has class words, up to 8 examples of each, and neither `train.steps` nor `vectors` is given; it is
    compared with a start from scratch. Without one, or with "", the prompt starts as `vectors` says."""
    method: str = "auto"
    """The adaptation method. "prompt" is prompt tuning, which trains the prompt itself (of a universal
    prompt, also the task's factors), "classifier" the same with a class head; "auto" takes the classifier for
    tasks with class words. Each other method has a section of options with its name."""
    baseline: Literal["", BaselineName] = ""
    """A baseline to score in place of a method: nothing of the model is trained, and no prompt is saved."""
    baselines: bool = True
    """Whether to tell what each baseline reaches on the same rows, where a task has class words; see
    `baseline` for a run of one."""
    freeze_shared: bool = False
    """For a universal prompt: whether to keep its shared part fixed and train only the task's factors u and
    v, and the instruction embedding if there is one."""
    vectors: PromptConfig = PromptConfig(length=32)
    """The prompt's shape and initial value, if it does not start from a universal prompt."""
    instruction: int = 0
    """Length of an instruction embedding that follows a prompt made from `vectors`; it has its own learning
    rate, as it does after a universal prompt. 0 leaves it out, -1 takes the instruction's own length."""
    train: TrainConfig = TrainConfig(
        steps=-1, batch_size=16, learning_rate=0.01, balanced=True, objective="classes"
    )
    """How the target task is trained; with steps of -1, until nothing improves."""
    search: SearchConfig = SearchConfig()
    """How the steps are found where they are not given."""
    minutes: float = 0.0
    """The most minutes until the prompt is saved, where the steps are not given: the search has fewer steps,
    judged by the speed of its first ones, but no less than one look. 0 does not bound it. The same machine
    may then train differently another time."""
    shots: int = 16
    """Number of training examples per class (for free text, per task); 0 takes all."""
    shots_per: Literal["class", "task"] = "class"
    """Whether `shots` counts the examples of each class, or those of the whole task whatever their
    classes."""
    seeds: tuple[int, ...] = (0,)
    """Random seeds; each draws its own training examples and trains its own prompt."""
    max_length: int = 128
    """Maximum number of tokens of an input; a longer one loses the end of its longest field."""
    probe_every: int = 0
    """Steps between validation passes; 0 turns validation off."""
    probe_rows: int = 64
    """Number of examples in a validation pass."""
    keep: Literal["last", "best"] = "last"
    """Which prompt is scored and saved: that of the last step, or that of the best validation pass (early
    stopping). With several seeds or tasks, the pass that is best on average."""
    test_rows: int = 500
    """Number of examples that the final score is computed on; 0 takes all."""
    scored: Literal["test", "validation"] = "test"
    """The split of the final score. Use "validation" while hyperparameters are still being chosen, so that no
    test example is read."""
    calibrate: bool = False
    """Whether to apply batch calibration (Zhou et al. 2024), which removes the model's bias towards some
    classes. It uses the scored examples without their labels."""
    mesh: MeshConfig = MeshConfig()
    track: tuple[TrackerName, ...] = ()
    """Trackers to send metrics to, in addition to metrics.jsonl and TensorBoard's event files."""

    def __post_init__(self):
        check_ranges(self)
        if self.keep == "best" and not self.probe_every:
            raise UserError("keep: the best is told by looks at validation rows; set probe_every too")
