"""Which mesh and batch make the most of some chips: a few are guessed at, and tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mpt.config.options import MeshConfig
from mpt.plan.job import Estimate, Job


class Facts(NamedTuple):
    """What a guess at a mesh needs to know of a model.

    Attributes:
        weights: bytes of the frozen ones; ``flops`` are a step's per row.
        layers: with ``width``, numbers of a hidden state, and ``itemsize``, its bytes each.
        heads: with ``d_ff``, what the mesh's ``tensor`` must divide.
    """

    weights: float
    flops: float
    layers: int
    width: int
    itemsize: int
    heads: int
    d_ff: int


@dataclass(frozen=True)
class Try:
    """A job and what came of it."""

    job: Job
    found: Estimate

    @property
    def fits(self) -> bool:
        return not self.found.fault and self.found.memory <= self.job.chip.memory

    @property
    def tokens_per_second(self) -> float:
        """Of all chips; 0 where the job does not fit."""
        return self.job.tokens / self.found.seconds if self.fits else 0.0

    @property
    def share(self) -> float:
        """Of the chip's peak FLOP/s."""
        return self.found.flops / self.found.seconds / self.job.chip.flops


def meshes(chips: int, heads: int, d_ff: int) -> list[MeshConfig]:
    """All that the model's rules allow: ``tensor`` divides heads and feed-forward.

    >>> [(mesh.data, mesh.fsdp, mesh.tensor) for mesh in meshes(4, heads=6, d_ff=8)]
    [(4, 1, 1), (2, 2, 1), (1, 4, 1), (2, 1, 2), (1, 2, 2)]
    """
    return [
        MeshConfig(chips // fsdp // tensor, fsdp, tensor)
        for tensor in _divisors(chips)
        if heads % tensor == d_ff % tensor == 0
        for fsdp in _divisors(chips // tensor)
    ]


def _divisors(number: int) -> Iterable[int]:
    return (part for part in range(1, number + 1) if number % part == 0)


def dealt_out(job: Job, mesh: MeshConfig) -> Job:
    """The job on a mesh, with as many more rows as it takes to deal them out equally."""
    hands = job.on(mesh, job.rows).shards
    return job.on(mesh, -(-job.rows // hands) * hands)


def guess(job: Job, facts: Facts) -> float:
    """Seconds per row, if arithmetic ran at the peak, and all that is sent over the links came on top.

    Sent are, in each pass, the weights' other parts to where they come together, and under ``tensor``
    the sums after attention and feed-forward of every layer, in both directions.
    """
    mesh, chip = job.mesh, job.chip
    passes = 3 if job.distilled else 2
    gathered = facts.weights / mesh.tensor * (1 - 1 / mesh.fsdp) * passes * job.train.microbatches
    states = job.tokens / (mesh.data * mesh.fsdp) * facts.width * facts.itemsize
    summed = 2 * passes * facts.layers * states * 2 * (1 - 1 / mesh.tensor)
    computed = job.rows * facts.flops / (mesh.data * mesh.fsdp * mesh.tensor)
    return (computed / chip.flops + (gathered + summed) / chip.links) / job.rows


def ranked(job: Job, facts: Facts, candidates: Iterable[MeshConfig]) -> list[Job]:
    """The job on each mesh where a chip holds its share of the weights, the best guess first."""
    jobs = [dealt_out(job, mesh) for mesh in candidates]
    held = [j for j in jobs if share(j, facts.weights) < j.chip.memory]
    return sorted(held, key=lambda j: guess(j, facts))


def search(jobs: Sequence[Job], weights: float, compile: Callable[[Job], Estimate], tries: int) -> list[Try]:
    """Tries meshes, then ever larger batches on the best one.

    Where none of the first meshes fits, it tries the one that should, by what the others took; if that does
    not, or there is none, more parts.

    Args:
        jobs: one on each mesh, the most promising first.
        weights: bytes of the frozen ones.
        compile: says what a job takes; it is asked ``tries`` times at most, half of them for meshes.
    """
    half = (tries + 1) // 2
    tried = [Try(job, compile(job)) for job in jobs[:half]]
    others = list(jobs[half:])
    while not best(tried) and len(tried) < tries:
        hopeful = lighter(tried, others, weights) if len(tried) == half else None
        job = hopeful or nearer(tried) or next(iter(others), None)
        if job is None:
            break
        others = [other for other in others if other != job]
        tried.append(Try(job, compile(job)))
    widest = best(tried)
    while widest and widest.job.train.microbatches == jobs[0].train.microbatches and len(tried) < tries:
        larger = widest.job.on(widest.job.mesh, 2 * widest.job.rows)
        tried.append(widest := Try(larger, compile(larger)))
        if not widest.fits:
            break
    return tried


def lighter(tried: Sequence[Try], others: Sequence[Job], weights: float) -> Job | None:
    """The first of other meshes that should fit: what is not weights hardly depends on the mesh."""
    beside = min(
        (one.found.memory - share(one.job, weights) for one in tried if one.found.memory), default=None
    )
    if beside is None:
        return None
    return next((job for job in others if beside + share(job, weights) <= job.chip.memory), None)


def share(job: Job, weights: float) -> float:
    """A chip's, of the weights' bytes."""
    return weights / (job.mesh.fsdp * job.mesh.tensor)


def nearer(tried: Sequence[Try]) -> Job | None:
    """One that is not tried yet: what came nearest to fitting, its rows in twice as many parts."""
    known = [one.job for one in tried]
    near = sorted((one for one in tried if one.found.memory), key=lambda one: one.found.memory)
    finer = filter(None, (in_more_parts(one.job) for one in near))
    return next((job for job in finer if job not in known), None)


def in_more_parts(job: Job) -> Job | None:
    """The same step in less memory; None where its rows cannot be dealt out."""
    if job.rows % (2 * job.shards):
        return None
    return replace(job, train=replace(job.train, microbatches=2 * job.train.microbatches))


def fitted(job: Job, compile: Callable[[Job], Estimate]) -> Try:
    """The job in as many parts as it takes to fit, as far as its rows can be dealt out."""
    one = Try(job, compile(job))
    while not one.fits and one.found.memory and (finer := in_more_parts(one.job)):
        one = Try(finer, compile(finer))
    return one


def best(tried: Sequence[Try]) -> Try | None:
    """The one that reads most tokens a second; None where none fits."""
    return max((one for one in tried if one.fits), key=lambda one: one.tokens_per_second, default=None)
