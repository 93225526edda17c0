"""The options of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field

from mpt.config.options import MeshConfig, ModelConfig, PretrainConfig, TrackerName
from mpt.errors import UserError
from mpt.methods import AdaptConfig


@dataclass(frozen=True)
class TuneConfig:
    """How a comparison chooses rates: every trained method tries the same factors on the same rows."""

    tasks: tuple[str, ...] = ()
    """Targets of the trials, none of them the comparison's. Where one is a source task, the trials have a
    universal prompt of their own, trained without it."""
    factors: tuple[float, ...] = ()
    """What each method's peak rates are multiplied by, say 0.3, 1 and 3; without any, nothing is tuned."""
    shots: int = 16
    """Training examples per class of a trial; what is chosen serves every number of shots."""
    rows: int = 500
    """Validation rows that a trial is scored on; 0 takes all."""
    seeds: int = 0
    """How many of the comparison's seeds a trial has, the first ones; 0 takes all."""

    def __post_init__(self):
        if any(factor <= 0 for factor in self.factors):
            raise UserError(f"factors: each must be above 0, not {min(self.factors)}")
        if self.factors and not self.tasks:
            raise UserError("tasks: name at least one task to tune on")


@dataclass(frozen=True)
class CompareConfig:
    """`mpt compare`: pretrain once, then every method on every target, in one table."""

    out: str = "runs/compare"
    """The run directory; each part has its own run directory inside."""
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    source: str = ""
    """Run directory of the pretraining, where comparisons share one; inside `out` where left out."""
    targets: tuple[str, ...] = ()
    """Held-out tasks."""
    held_out: bool = True
    """Refuses a target that is a source task too; the paper's GLUE has four."""
    adapt: AdaptConfig = field(default_factory=AdaptConfig)
    """How each method is adapted; its task, prompt, method and run directory are filled in."""
    scratch_rate: float = 0.01
    """Adam's peak rate of prompts that start from scratch: they have further to go."""
    methods: tuple[str, ...] = (
        "hard prompt",
        "universal prompt, not adapted",
        "universal prompt, adapted",
        "prompt tuning from vocabulary",
        "prompt tuning from instruction",
    )
    """The table's rows. There are also: hard prompt, calibrated; universal prompt, not adapted, calibrated;
    universal prompt, factors adapted; the same, not pretrained; in-context examples; SPoT; ATTEMPT; ULPT;
    DePT; LoRA; full fine-tuning."""
    goal: float = 0.8
    """The accuracy whose first step is reported for each method."""
    shots: tuple[int, ...] = ()
    """Training examples per class, one after another; `adapt.shots` alone where left out."""
    tune: TuneConfig = TuneConfig()
    track: tuple[TrackerName, ...] = ()
    """Where the metrics of the pretraining and of each adaptation go, in place of their own `track`."""

    def __post_init__(self):
        if any(count < 0 for count in self.shots) or len(set(self.shots)) < len(self.shots):
            raise UserError(f"shots: each must stand once, and be 0 or more, not {list(self.shots)}")

    @property
    def model(self) -> ModelConfig:
        """The pretraining's: one backbone serves all."""
        return self.pretrain.model

    @property
    def mesh(self) -> MeshConfig:
        """The pretraining's: all runs in one process have one mesh."""
        return self.pretrain.mesh
