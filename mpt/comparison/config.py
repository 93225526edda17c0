"""The options of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from mpt.config.adapt import BaselineName, answers
from mpt.config.continual import ContinualConfig
from mpt.config.methods import AdaptConfig
from mpt.config.options import MeshConfig, ModelConfig, TrackerName
from mpt.config.pretrain import PretrainConfig
from mpt.config.ranges import check_ranges
from mpt.errors import UserError, nearest

# Options of what is shown, not of how it is made: a run directory can be reused if only these change.
SHOWN = ("methods", "targets", "shots", "reference", "goal")

# The names of all entries. Their definitions are in `entries.py`, which needs JAX.
ENTRY_NAMES = (
    "hard prompt",
    "hard prompt, calibrated",
    "universal prompt, not adapted",
    "universal prompt, not adapted, calibrated",
    "universal prompt, adapted",
    "universal prompt, factors adapted",
    "the same, not pretrained",
    "prompt tuning from vocabulary",
    "prompt tuning from instruction",
    "prompt with class head",
    "SPoT",
    "ATTEMPT",
    "ULPT",
    "DePT",
    "ADePT",
    "prefix tuning",
    "context tuning",
    "LoRA",
    "full fine-tuning",
    "in-context examples",
    "largest class",
    "counting words",
    "linear probe",
    "copy the input",
)

PREFIX = "prefix tuning"

# The universal prompt as pretraining left it.
AS_PRETRAINED = ("universal prompt, not adapted", "universal prompt, not adapted, calibrated")

# Entries that start from the source tasks' own prompts.
FROM_TEACHERS = ("SPoT", "ATTEMPT")

# Entries that need the pretraining: its universal prompt, or the prompts of its source tasks.
FROM_PRETRAINING = (
    *AS_PRETRAINED,
    "universal prompt, adapted",
    "universal prompt, factors adapted",
    *FROM_TEACHERS,
)


def check_methods(names: Sequence[str]) -> None:
    """Refuses unknown entries of a comparison, and a comparison without any."""
    if unknown := [name for name in names if name not in ENTRY_NAMES]:
        raise UserError(f"compare: methods: no method '{unknown[0]}'; {nearest(unknown[0], ENTRY_NAMES)}")
    if not names:
        raise UserError(f"compare: methods: name at least one; known: {', '.join(ENTRY_NAMES)}")


def check_applicable(methods: Sequence[str], classes: Sequence[bool]) -> None:
    """Refuses a comparison that has only baselines of which none can answer any target.

    Args:
        classes: for each target, whether it has class words.
    """
    baselines: Sequence[Any] = [name for name in methods if name in get_args(BaselineName)]
    fits = any(answers(name, each) for name in baselines for each in classes)
    if len(baselines) == len(methods) and not fits:
        raise UserError("compare: methods: no method here can answer any of the targets")


@dataclass(frozen=True)
class TuneConfig:
    """How a comparison tunes learning rates: each trained method tries the same factors on the same tasks."""

    tasks: tuple[str, ...] = ()
    """Tasks to tune on; no target of the comparison may be among them. If one is a source task, the trials
    use another universal prompt, pretrained without it."""
    factors: tuple[float, ...] = ()
    """Factors to try on each method's peak learning rates, such as 0.3, 1 and 3; without any, nothing is
    tuned."""
    shots: int = 16
    """Number of training examples per class in a trial; the chosen factor is used for every value of
    `shots`."""
    rows: int = 500
    """Number of validation examples that a trial is scored on; 0: all."""
    seeds: int = 0
    """Number of seeds of each trial: the first ones of the comparison; 0: all."""

    def __post_init__(self):
        if self.factors and not self.tasks:
            raise UserError("tune.tasks: name at least one task to tune on")


@dataclass(frozen=True)
class CompareConfig:
    """`mpt compare`: pretrain once, then every method on every target, in one table."""

    out: str = "runs/compare"
    """Directory of the run; each adaptation has a run directory inside it."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    source: str = ""
    """Run directory of the pretraining, so that several comparisons can share one; if left out, it is inside
    `out`. Or a universal prompt of a bank, BANK/NAME, such as `packaged/smollm2-135m`: then nothing is
    pretrained."""
    targets: tuple[str, ...] = ()
    """Target tasks: names from `mpt tasks`, task files, or folders with task files."""
    held_out: bool = True
    """Whether to refuse a target that is also a source task. Four of the paper's GLUE tasks are both."""
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    """Options of each adaptation. The comparison sets its task, prompt, method and run directory."""
    scratch_rate: float = 0.005
    """Adam's peak learning rate for prompts that start from scratch."""
    methods: tuple[str, ...] = (
        "hard prompt",
        "universal prompt, not adapted",
        "universal prompt, adapted",
        "prompt tuning from vocabulary",
        "prompt tuning from instruction",
        "largest class",
        "counting words",
        "linear probe",
        "copy the input",
    )
    """Entries of the table. The last four of the default are baselines; one that cannot answer a target has
    no figure there. Further entries: hard prompt, calibrated; universal prompt, not adapted, calibrated;
    universal prompt, factors adapted; the same, not pretrained; and each other method by its title, such as
    SPoT or LoRA. The error about an unknown entry lists all."""
    reference: str = "universal prompt, adapted"
    """The entry that all others are compared with: tables and figures show each one's difference from it,
    with an interval, if it is in the table."""
    goal: float = 0.8
    """Target accuracy: the table shows the step at which each method first reaches it."""
    shots: tuple[int, ...] = ()
    """Numbers of training examples per class, with a table for each; if left out, only `adapt.shots`."""
    tune: TuneConfig = TuneConfig()
    track: tuple[TrackerName, ...] = ()
    """Services that receive the metrics of the pretraining and of each adaptation; replaces their `track`."""

    def __post_init__(self):
        check_ranges(self)
        if len(set(self.shots)) < len(self.shots):
            raise UserError(f"shots: each number may appear once, not {list(self.shots)}")

    @property
    def model(self) -> ModelConfig:
        """The model of the pretraining, which all adaptations use too."""
        return self.pretrain.model

    @property
    def mesh(self) -> MeshConfig:
        """The mesh of the pretraining, which all adaptations use too."""
        return self.pretrain.mesh


def check_tuning(config: CompareConfig) -> None:
    """Refuses tuning on tasks that are targets.

    Raises:
        UserError: a tune task is a target, or too few source tasks are left without it.
    """
    for name in config.tune.tasks:
        if name in config.targets:
            raise UserError(f"compare: tune.tasks: '{name}' is a target; rates are tuned on other tasks")
    adapted = {*config.methods} & {*FROM_PRETRAINING} - {*AS_PRETRAINED}
    if config.tune.factors and adapted and len(without(config.pretrain, config.tune.tasks).tasks) < 2:
        raise UserError(
            "compare: tune.tasks: at least two source tasks must be left for the trials' universal prompt"
        )


def without(config: PretrainConfig, names: tuple[str, ...]) -> PretrainConfig:
    """A pretraining without some of its tasks, and without their shares."""
    kept = [index for index, name in enumerate(config.tasks) if name not in names]

    def of_kept(shares: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(shares[index] for index in kept) if shares else ()

    return replace(
        config,
        tasks=tuple(config.tasks[index] for index in kept),
        teachers=replace(config.teachers, shares=of_kept(config.teachers.shares)),
        universal=replace(config.universal, shares=of_kept(config.universal.shares)),
    )


# The config of any command that trains.
AnyConfig = PretrainConfig | AdaptConfig | CompareConfig | ContinualConfig


def splits_read(config: AnyConfig, part: str) -> list[str]:
    """The splits that a run reads of its tasks.

    Args:
        part: the tasks' part in it: "source", "target", "sequence", or "tune" if rates are tuned on them.
    """
    if part == "source":
        return ["train"]
    if part == "tune":
        return ["train", "validation"]
    adapt = config.adapt if isinstance(config, CompareConfig) else config
    if not isinstance(adapt, AdaptConfig):
        return ["train", "test"]
    return ["train", *(["validation"] if adapt.validate_every else []), adapt.scored]
