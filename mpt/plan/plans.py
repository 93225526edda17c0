"""What a plan says, and how it is written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mpt.config.options import MeshConfig, TrainConfig
from mpt.config.yaml_file import to_plain
from mpt.plan.chips import Chip
from mpt.plan.search import Try, best


@dataclass(frozen=True)
class StagePlan:
    """A training stage on the mesh that is suggested.

    Attributes:
        rows: that it reads in all of its runs; None if it is not known.
        step: its step, with its config's rows.
    """

    name: str
    rows: int | None
    step: Try

    @property
    def hours(self) -> float | None:
        if self.rows is None or not self.step.fits:
            return None
        return self.rows / self.step.job.rows * self.step.found.seconds / 3600


@dataclass(frozen=True)
class Plan:
    """What was tried for the largest of a run's stages, and what the run takes on the best mesh.

    Attributes:
        left_out: stages that train something else than a prompt's vectors, whose steps are not compiled.
    """

    model: str
    parameters: int
    where: str
    devices: int
    chip: Chip
    stage: str
    tried: Sequence[Try]
    stages: Sequence[StagePlan]
    left_out: Sequence[str] = ()


def mesh_name(mesh: MeshConfig) -> str:
    return f"{mesh.data} × {mesh.fsdp} × {mesh.tensor}"


def rows_of(train: TrainConfig) -> str:
    """A step's rows, and in how many parts.

    >>> rows_of(TrainConfig(batch_size=1536, microbatches=4)), rows_of(TrainConfig(batch_size=32))
    ('1,536 in 4', '32')
    """
    return f"{train.batch_size:,}" + (f" in {train.microbatches}" if train.microbatches > 1 else "")


def plain(plan: Plan) -> dict[str, Any]:
    """A plan as JSON's types; a try's figures are those of each chip."""

    def of(one: Try) -> dict[str, Any]:
        facts = {
            "mesh": to_plain(one.job.mesh),
            "rows": one.job.rows,
            "microbatches": one.job.train.microbatches,
        }
        speed = {"tokens": one.job.tokens, "fits": one.fits, "tokens_per_second": one.tokens_per_second}
        return facts | speed | ({"share_of_peak": one.share} if one.fits else {}) | asdict(one.found)

    suggested = best(plan.tried)
    return {
        "model": plan.model,
        "parameters": plan.parameters,
        "topology": plan.where,
        "devices": plan.devices,
        "chip": asdict(plan.chip),
        "stage": plan.stage,
        "tried": [of(one) for one in plan.tried],
        "best": of(suggested) if suggested else None,
        "left_out": [*plan.left_out],
        "stages": [
            {"name": stage.name, "rows_in_all": stage.rows, "hours": stage.hours, **of(stage.step)}
            for stage in plan.stages
        ],
    }
