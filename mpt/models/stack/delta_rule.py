"""The gated delta rule: attention to a memory of fixed size (Yang et al., ICLR 2025).

Each head keeps a matrix S. At each position it fades, forgets what it has for the key, and takes the value::

    S ← exp(decay) S        S ← S + k (beta (v - Sᵀ k))ᵀ        output Sᵀ q

Queries, keys and values have run through a short causal convolution before. Positions are taken in chunks:
within one, all that they write solves a triangular system (section 3.2), and only S is passed on to the next.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mpt.models.attention import take_rows
from mpt.models.layers import ClampedSwiGLU, Layer, activated

CHUNK = 64  # positions


class QKV(NamedTuple):
    """Queries, keys and values, [..., heads, H]; the values may have more heads, in groups."""

    q: Float[Array, "*any K H"]
    k: Float[Array, "*any K H"]
    v: Float[Array, "*any N H"]


class Inputs(NamedTuple):
    """What the rule reads at each position.

    Attributes:
        qkv: queries, keys and values in front of the convolution.
        decay: the logarithm of the factor of each head's memory.
        beta: the share of a value that is written.
    """

    qkv: QKV
    decay: Float[Array, "*rows N"]
    beta: Float[Array, "*rows N"]


class DeltaState(NamedTuple):
    """What a layer knows of all positions so far.

    Attributes:
        memory: each head's matrix, from keys to values, in float32.
        tail: the last inputs of the convolution.
    """

    memory: Float[Array, "*any N H H"]
    tail: QKV

    def take_rows(self, index: Int[Array, " B"], axis: int = 0) -> DeltaState:
        """The state of the rows that ``index`` names."""
        return jax.tree.map(lambda part: take_rows(part, index, axis), self)


def read_rows(
    w: Layer,
    activation: str | ClampedSwiGLU,
    inputs: Inputs,
    before: DeltaState | None = None,
    lengths: Int[Array, " B"] | None = None,
    seen: Bool[Array, "B T T"] | None = None,
    columns: Int[Array, "#B T"] | None = None,
) -> tuple[Float[Array, "B T N H"], DeltaState]:
    """Runs the rule over rows; its outputs, and the state after each row's last position.

    Args:
        w: the layer's weights, of which the convolution's are used.
        inputs: zeros at the padding after a row, which change no memory.
        before: the state in front of each row; None: there is nothing.
        lengths: positions of each row without padding; None: all.
        seen: where texts fork, which cell comes after which, itself included. The state after them then has
            no meaning.
        columns: the position of each cell, where texts fork.
    """
    rows, length = inputs.beta.shape[:2]
    before = before or _empty(w, inputs, rows)
    convolved = [
        _convolved(w[f"conv_{name}"], part, tail, activation, seen, columns)
        for name, part, tail in zip("qkv", inputs.qkv, before.tail)
    ]
    q, k, v = (part.astype(jnp.float32) for part in convolved)
    groups = v.shape[2] // k.shape[2]
    q, k = (jnp.repeat(_of_length_one(part), groups, axis=2) for part in (q, k))
    q = q * q.shape[-1] ** -0.5
    decay, beta = (part.astype(jnp.float32) for part in (inputs.decay, inputs.beta))
    # From here on heads stand before positions.
    q, k, v, decay, beta = (jnp.moveaxis(part, 1, 2) for part in (q, k, v, decay, beta))
    if seen is None:
        out, memory = _in_chunks(q, k, v, decay, beta, before.memory)
    else:
        out, memory = _chunk(before.memory, q, k, v, decay, beta, seen[:, None])
    ends = jnp.full(rows, length) if lengths is None else lengths
    tail = jax.tree.map(functools.partial(_last, ends=ends), before.tail, inputs.qkv)
    return jnp.moveaxis(out, 1, 2).astype(inputs.qkv.v.dtype), DeltaState(memory, tail)


def _empty(w: Layer, inputs: Inputs, rows: int) -> DeltaState:
    (heads, width), taps = inputs.qkv.v.shape[-2:], w["conv_v"].shape[-1]
    tail = (jnp.zeros((rows, taps - 1, *part.shape[2:]), part.dtype) for part in inputs.qkv)
    return DeltaState(jnp.zeros((rows, heads, width, width), jnp.float32), QKV(*tail))


def _last(tail: Float[Array, "B R K H"], x: Float[Array, "B T K H"], ends: Int[Array, " B"]) -> Array:
    """The last inputs of rows that end at ``ends``, as many as ``tail`` has of those in front."""
    places = ends[:, None] + jnp.arange(tail.shape[1])[None]
    return jnp.take_along_axis(jnp.concatenate([tail, x], axis=1), places[..., None, None], axis=1)


def _convolved(
    kernel: Float[Array, "K H taps"],
    x: Float[Array, "B T K H"],
    tail: Float[Array, "B R K H"],
    activation: str | ClampedSwiGLU,
    seen: Bool[Array, "B T T"] | None,
    columns: Int[Array, "#B T"] | None,
) -> Float[Array, "B T K H"]:
    """The causal convolution of each channel by itself, and the activation."""
    length, reach = x.shape[1], tail.shape[1]
    whole = jnp.concatenate([tail, x], axis=1)
    kernel = kernel.astype(x.dtype)[None, None]
    total = x * kernel[..., reach]
    for distance in range(1, reach + 1):
        if seen is None:
            earlier = whole[:, reach - distance : reach - distance + length]
        else:
            assert columns is not None
            earlier = _ancestors(whole, seen, columns, distance)
        total = total + earlier * kernel[..., reach - distance]
    return activated(activation, None, total)


def _ancestors(
    whole: Float[Array, "B S K H"], seen: Bool[Array, "B T T"], columns: Int[Array, "#B T"], distance: int
) -> Float[Array, "B T K H"]:
    """What stands ``distance`` positions before each cell on its own way through a text that forks.

    Args:
        whole: the cells of the text itself.
    """
    length = columns.shape[1]
    reach = whole.shape[1] - length
    wanted = columns[:, :, None] - distance
    one = seen & (columns[:, None] == wanted)
    front = jnp.arange(-reach, 0)[None, None] == wanted
    front = jnp.broadcast_to(front, (len(one), length, reach))
    one = jnp.concatenate([front, one], axis=-1).astype(whole.dtype)
    return jnp.einsum("bts,bskh->btkh", one, whole, precision="highest")


def _of_length_one(x: Float[Array, "*any H"]) -> Float[Array, "*any H"]:
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def _in_chunks(
    q: Float[Array, "B N T H"],
    k: Float[Array, "B N T H"],
    v: Float[Array, "B N T H"],
    decay: Float[Array, "B N T"],
    beta: Float[Array, "B N T"],
    memory: Float[Array, "B N H H"],
) -> tuple[Float[Array, "B N T H"], Float[Array, "B N H H"]]:
    """The rule's outputs, and the memory after the last position."""
    length = q.shape[2]
    size = min(CHUNK, length)
    count = -(-length // size)
    past = jnp.tril(jnp.ones((size, size), bool))[None, None]

    def cut(x: Float[Array, "B N T ..."]) -> Float[Array, "chunks B N C ..."]:
        x = jnp.pad(x, [(0, 0), (0, 0), (0, count * size - length), *[(0, 0)] * (x.ndim - 3)])
        return jnp.moveaxis(x.reshape(*x.shape[:2], count, size, *x.shape[3:]), 2, 0)

    def step(memory: Float[Array, "B N H H"], parts: tuple[Array, ...]):
        q, k, v, decay, beta = parts
        out, memory = _chunk(memory, q, k, v, decay, beta, past)
        return memory, out

    if count == 1:
        return _chunk(memory, q, k, v, decay, beta, past)
    memory, out = jax.lax.scan(step, memory, tuple(map(cut, (q, k, v, decay, beta))))
    out = jnp.moveaxis(out, 0, 2)
    return out.reshape(*out.shape[:2], count * size, -1)[:, :, :length], memory


def _chunk(
    memory: Float[Array, "B N H H"],
    q: Float[Array, "B N C H"],
    k: Float[Array, "B N C H"],
    v: Float[Array, "B N C H"],
    decay: Float[Array, "B N C"],
    beta: Float[Array, "B N C"],
    past: Bool[Array, "#B 1 C C"],
) -> tuple[Float[Array, "B N C H"], Float[Array, "B N H H"]]:
    """The outputs of one chunk, and the memory after it.

    Args:
        past: where the first of two positions is the second or comes after it; the first has a later place.
    """
    exact = functools.partial(jnp.einsum, precision="highest")
    # The logarithm of what is left, at each position, of what was there before the chunk.
    faded = jnp.matmul(past.astype(decay.dtype), decay[..., None], precision="highest")[..., 0]
    between = jnp.where(past, faded[..., :, None] - faded[..., None, :], -jnp.inf)
    left = jnp.exp(between)  # of what each position wrote, at each later one
    alike = exact("bnch,bnth->bnct", k, k) * left
    system = jnp.eye(k.shape[2])[None, None] + jnp.tril(beta[..., None] * alike, -1)
    # What a position writes, less what the others before it in the chunk have written for its key.
    sides = beta[..., None] * jnp.concatenate([v, k * jnp.exp(faded)[..., None]], axis=-1)
    solved = jax.lax.linalg.triangular_solve(system, sides, left_side=True, lower=True, unit_diagonal=True)
    written, keys = jnp.split(solved, [v.shape[-1]], axis=-1)
    written = written - exact("bnch,bnhe->bnce", keys, memory)
    out = exact("bnch,bnhe->bnce", q * jnp.exp(faded)[..., None], memory)
    out = out + exact("bnct,bnte->bnce", exact("bnch,bnth->bnct", q, k) * left, written)
    end = faded[..., -1:]
    memory = memory * jnp.exp(end)[..., None]
    return out, memory + exact("bnch,bnce->bnhe", k * jnp.exp(end - faded)[..., None], written)
