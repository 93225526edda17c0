"""Runs the layers of a decoder one after another.

Layers of one kind that follow one another run in a loop, and so do rounds of such runs that come again and
again: a program has the code of each run once, however many layers there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mpt.models.attention import KV
from mpt.models.decoder_layer import Given, Mixing, block
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.layers import REMAT, scan_over, unsharded, values
from mpt.models.rope import Angles
from mpt.models.stack.kinds import Cycle, Run, cycles, runs

Index = int | Int[Array, ""]
Lent = dict[str, KV]  # of each kind, the keys and values of its last layer


def run_layers(
    spec: DecoderSpec,
    stacks: Mapping[str, nnx.Dict],
    x: Float[Array, "*rows D"],
    positions: Int[Array, "*#rows"],
    mixing: Mixing,
    past: Mapping[str, Any],
    span: tuple[int, int],
    own: Float[Array, "*rows layers W"] | None = None,
    remat: str = "nothing",
) -> tuple[Float[Array, "*rows D"], dict[str, Any]]:
    """Runs ``x`` through the layers of ``span``; the output, and what is kept of the layers, by kind.

    Args:
        stacks: the weights of each kind of layers.
        positions: the position of each element of ``x`` in its row.
        past: of each kind, what its layers within ``span`` have of earlier positions, with a leading axis of
            these layers; kinds that are not there have nothing.
        own: the inputs that each layer of the model has of its own, if it has such.
        remat: what the backward pass recomputes, a key of ``REMAT``.
    """
    found = runs(spec.layer_kinds, span)
    angles = {kind: part.angles(positions) for kind, part in spec.stacks.items()}
    first = {run.kind: run.first for run in reversed(found)}
    by_layer = None if own is None else jnp.moveaxis(own, -2, 0)
    passage = _Passage(spec, stacks, angles, mixing, past, first, by_layer, remat)
    kept: dict[str, list[Any]] = {run.kind: [] for run in found}
    lent: Lent = {}
    for cycle in cycles(found):
        if cycle.rounds == 1:
            x, (new, last) = passage.round(cycle, lent, x, 0)
        else:
            x, rounds = jax.lax.scan(partial(passage.round, cycle, lent), x, jnp.arange(cycle.rounds))
            new = jax.tree.map(lambda part: jax.lax.collapse(part, 0, 2), rounds[0])
            last = jax.tree.map(lambda part: part[-1], rounds[1])
        lent = lent | last
        for kind, each in new.items():
            kept[kind].append(each)
    return x, {kind: _end_to_end(each) for kind, each in kept.items()}


class _Passage(NamedTuple):
    """What the runs of a passage through layers have in common; see ``run_layers``.

    Attributes:
        angles: the rotations of each kind.
        first: of each kind, the first layer of the passage.
        by_layer: the inputs that layers have of their own, with the axis of layers in front.
    """

    spec: DecoderSpec
    stacks: Mapping[str, nnx.Dict]
    angles: Mapping[str, Angles | None]
    mixing: Mixing
    past: Mapping[str, Any]
    first: Mapping[str, int]
    by_layer: Float[Array, "layers *rows W"] | None
    remat: str

    def round(
        self, cycle: Cycle, lent: Lent, x: Float[Array, "*rows D"], number: Index
    ) -> tuple[Float[Array, "*rows D"], tuple[dict[str, Any], Lent]]:
        """Runs the layers of one round of a cycle."""
        kept: dict[str, list[Any]] = {run.kind: [] for run in cycle.runs}
        last: Lent = {}
        for run in cycle.runs:
            skipped, below = number * cycle.of_kind(run.kind), number * cycle.layers
            x, (new, kv) = self.through(run, lent, x, skipped, below)
            kept[run.kind].append(new)
            if kv is not None:
                last[run.kind] = jax.tree.map(lambda part: part[-1], kv)
        return x, ({kind: _end_to_end(each) for kind, each in kept.items()}, last)

    def through(
        self, run: Run, lent: Lent, x: Float[Array, "*rows D"], skipped: Index, below: Index
    ) -> tuple[Float[Array, "*rows D"], tuple[Any, KV | None]]:
        """Runs layers that stand ``skipped`` places further in their stack, and ``below`` in the model."""
        part, stack = self.spec.stacks[run.kind], self.stacks[run.kind]
        stacked, layer_of = scan_over(values(stack) | part.layer_constants(), (run.first, run.last), skipped)
        lender_past = jax.tree.map(lambda past: past[-1], self.past.get(part.shares))
        lends = any(other.shares == run.kind for other in self.spec.stacks.values())

        def layer(x: Float[Array, "*rows D"], scanned: tuple[Any, Any, Any]):
            w, past, own = unsharded(stack, layer_of(scanned[0])), *scanned[1:]
            angles = jax.tree.map(lambda angle: angle[w["rope"]], self.angles[run.kind])
            given = Given(lender_past if part.shares else past, lent.get(part.shares), own)
            x, kept, kv = block(part, w, x, angles, self.mixing, given)
            return x, (kept, kv if lends else None)

        start = run.first - self.first[run.kind] + skipped
        past = jax.tree.map(partial(_cut, start, run.size), self.past.get(run.kind))
        own = jax.tree.map(partial(_cut, run.number + below, run.size), self.by_layer)
        layer = jax.checkpoint(layer, policy=REMAT[self.remat], prevent_cse=False)
        return jax.lax.scan(layer, x, (stacked, past, own))


def _cut(start: Index, count: int, x: Array) -> Array:
    return (
        x[start : start + count] if isinstance(start, int) else jax.lax.dynamic_slice_in_dim(x, start, count)
    )


def _end_to_end(each: list[Any]) -> Any:
    """What is kept of several runs of layers of one kind."""
    return each[0] if len(each) == 1 else jax.tree.map(lambda *parts: jnp.concatenate(parts), *each)
