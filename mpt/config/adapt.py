"""The options of `mpt adapt` that all methods share, and those of its search for learning rate and steps."""

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
    """How an adaptation without `train.steps` finds its learning rate and its number of steps.

    For every candidate rate, prompts are trained on a part of the examples and evaluated on the others, the
    held-out examples.
    """

    rates: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Candidate factors for the learning rates of `train` and of the method. All are trained side by side up
    to the first evaluation on held-out examples; the best one continues."""
    rows: int = 8
    """Number of examples per step, for each prompt."""
    every: int = 8
    """Minimum number of steps between evaluations on held-out examples; with many examples, a quarter of an
    epoch, but at most four times this."""
    patience: int = 2
    """Number of evaluations in a row without improvement after which training stops."""
    gain: float = 0.02
    """Minimum relative decrease of the held-out loss that counts as an improvement."""
    steps: int = 64
    """Maximum number of steps; with many examples, `epochs` passes over them if that is more."""
    epochs: float = 4.0
    """Maximum number of passes over the examples, where that is more than `steps` steps."""
    probe: bool = True
    """Whether to add the scores of linear probes (logistic regression on the frozen model's hidden states of
    the text without the prompt) to those of a class head. Their weights are fitted on the held-out examples.
    Prediction then takes two forward passes per text."""
    interpolation: float = 0.5
    """For a prompt that starts from a universal one: the weight of its trained values, to which the values
    that it started from are added with the remaining weight. 1 keeps the trained values alone; they are kept
    too if their held-out loss is clearly lower, by more than a standard error."""
    scratch: bool = True
    """Whether a prompt that starts from another one (`--prompt`) is compared at the first evaluation with one
    from scratch (see `vectors`). It is replaced by it if that one's held-out loss is clearly lower, by more
    than a standard error."""

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
    """Further target tasks, trained at the same time. If they start from a universal prompt, all of them
    share its shared part."""
    prompt: str = "auto"
    """The universal prompt to start from: a run directory, or BANK/NAME. SPoT and ATTEMPT use the teachers of
    that run. "auto" takes the universal prompt that comes with mpt for the model (`mpt bank list`), if the
    task has class words with up to 8 examples each, and neither `train.steps` nor `vectors` is given; it is
    compared with a start from scratch. With "", or where "auto" finds none, the prompt starts from scratch,
    as set by `vectors`."""
    method: str = "auto"
    """The adaptation method. Prompt tuning, "prompt", trains the prompt itself and, of a universal prompt,
    the task's factors; "classifier" is the same with a class head. The default, "auto", is "classifier" for
    tasks with class words, else "prompt". The options of a method are in the section of its name."""
    baseline: Literal["", BaselineName] = ""
    """A baseline to score instead of a method: no prompt is trained or saved."""
    baselines: bool = True
    """Whether to report the baselines' scores on the same rows, for tasks with class words. To run a single
    one, use `baseline`."""
    freeze_shared: bool = False
    """For a universal prompt: freeze its shared part, and train only the task's factors u and v, and the
    instruction embedding if there is one."""
    vectors: PromptConfig = PromptConfig(length=32)
    """Shape and initial value of a prompt that does not start from a universal prompt."""
    instruction: int = 0
    """Number of instruction tokens after the prompt, if it starts from scratch (see `vectors`). They are
    embedded and trained with the learning rate `train.word_rate`. 0: none; -1: all of the instruction's."""
    train: TrainConfig = TrainConfig(steps=-1, batch_size=16, balanced=True, objective="classes")
    """Training on the target task. With `steps: -1`, it stops when the held-out loss no longer improves."""
    search: SearchConfig = SearchConfig()
    """Search for the learning rate and the number of steps, for `train.steps: -1`."""
    minutes: float = 0.0
    """Maximum number of minutes until the prompt is saved, for `train.steps: -1`. The search takes fewer
    steps, estimated from the speed of its first ones, but at least one evaluation is made. 0: no limit. With
    a limit, results are not reproducible, since the number of steps depends on the machine's speed."""
    shots: int = 16
    """Number of training examples per class (for free text, per task); 0: all."""
    shots_per: Literal["class", "task"] = "class"
    """What `shots` counts: the examples of each class, or those of the whole task, whatever their classes."""
    seeds: tuple[int, ...] = (0,)
    """Random seeds. For each, training examples are drawn and a prompt is trained."""
    max_length: int = 128
    """Maximum number of tokens of an input; a longer one is cut at the end of its longest field."""
    validate_every: int = 0
    """Steps between evaluations on the validation split; 0 turns them off."""
    validation_rows: int = 64
    """Number of validation examples for these evaluations."""
    keep: Literal["last", "best"] = "last"
    """Which prompt is scored and saved: that of the last step, or that of the best evaluation on the
    validation split. With several seeds or tasks, the evaluation that is best on average."""
    test_rows: int = 500
    """Number of examples for the final score; 0: all."""
    scored: Literal["test", "validation"] = "test"
    """Split for the final score. Use "validation" while you still choose hyperparameters, so that no test
    example is read."""
    calibrate: bool = False
    """Whether to apply batch calibration (Zhou et al. 2024) to the scored examples, which removes the model's
    bias towards some classes. It uses their texts, not their labels."""
    mesh: MeshConfig = MeshConfig()
    track: tuple[TrackerName, ...] = ()
    """Trackers to send metrics to, in addition to metrics.jsonl and TensorBoard's event files."""

    def __post_init__(self):
        check_ranges(self)
        if self.keep == "best" and not self.validate_every:
            raise UserError("keep: the best prompt is chosen on validation rows; set validate_every too")
