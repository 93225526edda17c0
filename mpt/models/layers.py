"""The pieces of every backbone: weights, norms, linear maps, activations.

A function here takes the weights of a layer and the name of one of them. What else belongs to a matrix (its
bias, the scales of its 8-bit form, LoRA's factors) is in the same mapping, under its name and a suffix.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mpt.models.attention import gather
from mpt.sharding import by_tensor, on_one_device

# One layer's weights by name, or all layers' with a leading layer axis.
Layer = Mapping[str, Array]

# What is stored for the backward pass, which recomputes the rest. Storing only the matrix products is
# faster than storing everything (less memory traffic) as well as smaller.
PRODUCT = "product"
REMAT = {
    "elementwise": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(PRODUCT),
    ),
    "layers": jax.checkpoint_policies.nothing_saveable,
    "nothing": jax.checkpoint_policies.everything_saveable,
}

# By the names that Hugging Face configs give them.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
}


@dataclass(frozen=True)
class ClampedSwiGLU:
    """The gated activation of gpt-oss: gate · sigmoid(slope · gate) · (up + 1).

    Attributes:
        limit: the highest value of gate, and of up without its sign.
    """

    slope: float
    limit: float

    def __call__(self, gate: Float[Array, "*any"], up: Float[Array, "*any"]) -> Float[Array, "*any"]:
        gate, up = jnp.minimum(gate, self.limit), jnp.clip(up, -self.limit, self.limit)
        return gate * jax.nn.sigmoid(self.slope * gate) * (up + 1)


class Weight(nnx.Variable):
    """A frozen tensor of a backbone. ``axes`` names its logical axes, for sharding."""


def make_weights(
    parts: Mapping[str, str], sizes: Mapping[str, int], rngs: nnx.Rngs, dtype: DTypeLike
) -> dict[str, Weight]:
    """Random weights, which hold until a checkpoint is loaded.

    Args:
        parts: each weight's name and its logical axes, separated by blanks.
        sizes: the length of each logical axis.
    """

    def make(name: str, axes: tuple[str, ...]) -> Weight:
        shape = tuple(sizes[axis] for axis in axes)
        if name.endswith(("norm", "scale")):
            return Weight(jnp.ones(shape, dtype), axes=axes)
        return Weight(0.02 * jax.random.normal(rngs.params(), shape, dtype), axes=axes)

    return {name: make(name, tuple(axes.split())) for name, axes in parts.items()}


def values(weights: Mapping[str, Weight]) -> dict[str, Array]:
    """The arrays of weights, by the same names."""
    return {name: weight[...] for name, weight in weights.items()}


def scan_over(
    stacked: Layer, span: tuple[int, int], skipped: int | Int[Array, ""] = 0
) -> tuple[Any, Callable[[Any], Layer]]:
    """What a scan over the layers of ``span`` goes over, and what makes a layer's weights of an element.

    Args:
        skipped: how many places further in the stack the layers are.
    """
    bits = {name: _as_bits(w) for name, w in stacked.items()}
    if span == (0, len(next(iter(stacked.values())))):
        return bits, lambda w: {name: _of_bits(x, stacked[name]) for name, x in w.items()}
    # The loop indexes the weights of all layers: a slice of them would be copied in every step.
    return skipped + jnp.arange(*span), lambda index: {
        name: _of_bits(x[index], stacked[name]) for name, x in bits.items()
    }


def _as_bits(w: Array) -> Array:
    """A bfloat16 array's bits: throughout a loop, XLA holds bfloat16 in float32 on a CPU, and converts it."""
    return jax.lax.bitcast_convert_type(w, jnp.uint16) if w.dtype == jnp.bfloat16 else w


def _of_bits(bits: Array, like: Array) -> Array:
    return jax.lax.bitcast_convert_type(bits, like.dtype) if bits.dtype != like.dtype else bits


def unsharded(weights: Mapping[str, Weight], w: Layer | None = None) -> Layer:
    """``w``, one layer of ``weights`` or all of them, gathered from the devices that share its matrices."""
    w = values(weights) if w is None else w
    axes = {name: weight.axes for name, weight in weights.items() if isinstance(weight, Weight)}
    return {
        name: by_tensor(x, *axes[name][len(axes[name]) - x.ndim :]) if name in axes else x
        for name, x in w.items()
    }


def linear(w: Layer, name: str, x: Float[Array, ...], axes: int = 1) -> Float[Array, ...]:
    """The product of the last ``axes`` axes of ``x`` with a matrix, with its scales, LoRA factors and bias.

    >>> w = {"up": jnp.ones((2, 3)), "up_bias": jnp.arange(3.0)}
    >>> linear(w, "up", jnp.ones((1, 2)))
    Array([[2., 3., 4.]], dtype=float32)
    """
    y = product(x, w[name], axes)
    if f"{name}_scale" in w:
        y = scaled(y, w[f"{name}_scale"]).astype(x.dtype)
    if f"{name}_lora_a" in w:
        low = jnp.tensordot(x, w[f"{name}_lora_a"].astype(x.dtype), axes)
        y = y + jnp.tensordot(low, w[f"{name}_lora_b"].astype(x.dtype), 1)
    return y + on_last_axes(w[f"{name}_bias"], y).astype(y.dtype) if f"{name}_bias" in w else y


def product(x: Float[Array, ...], w: Array, axes: int = 1) -> Float[Array, ...]:
    """The product of the last ``axes`` axes of ``x`` with the first of ``w``, in ``x``'s type.

    A float32 ``x`` is rounded to bfloat16 where ``w`` is in bfloat16, and products are summed in float32: a
    CPU multiplies bfloat16 fast, but would convert a result, or ``w``, at every call.
    """
    if _is_rounded(x, w):
        return checkpoint_name(_rounded_product(x, w, axes), PRODUCT)
    return jnp.tensordot(x, w.astype(x.dtype), axes)


def _is_rounded(x: Array, w: Array) -> bool:
    return x.dtype == jnp.float32 and w.dtype == jnp.bfloat16


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _rounded_product(x: Float[Array, ...], w: Float[Array, ...], axes: int) -> Float[Array, ...]:
    return jnp.tensordot(x.astype(w.dtype), w, axes, preferred_element_type=jnp.float32)


def _rounded_forward(x: Array, w: Array, axes: int) -> tuple[Array, tuple[Array, Array]]:
    return _rounded_product(x, w, axes), (x.astype(w.dtype), w)


def _rounded_backward(axes: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """The gradients of ``x``, and of ``w``, whose product is left out of a program that does not need it."""
    x, w = saved
    gradient, rows = gradient.astype(w.dtype), tuple(range(x.ndim - axes))
    outputs = tuple(range(len(rows), gradient.ndim)), tuple(range(axes, w.ndim))
    of_x = jnp.tensordot(gradient, w, outputs, preferred_element_type=jnp.float32)
    return of_x, jnp.tensordot(x, gradient, (rows, rows), preferred_element_type=jnp.float32).astype(w.dtype)


_rounded_product.defvjp(_rounded_forward, _rounded_backward)


def on_last_axes(x: Float[Array, ...], like: Float[Array, ...]) -> Float[Array, ...]:
    """``x`` with leading axes of length one, so that it broadcasts along the last axes of ``like``."""
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape)


def scaled(x: Float[Array, ...], scale: Float[Array, ...]) -> Float[Array, ...]:
    """``x`` times the scales of its last axes, in float32."""
    return x.astype(jnp.float32) * on_last_axes(scale, x)


def matrix(w: Layer, name: str, dtype: DTypeLike) -> Float[Array, ...]:
    """A matrix as ``linear`` applies it, without its bias: with its scales and LoRA's product."""
    full = w[name].astype(dtype)
    if f"{name}_scale" in w:
        full = scaled(full, w[f"{name}_scale"]).astype(dtype)
    if f"{name}_lora_a" in w:
        full = full + jnp.tensordot(w[f"{name}_lora_a"], w[f"{name}_lora_b"], 1).astype(dtype)
    return full


def look_up(w: Layer, name: str, tokens: Int[Array, ...]) -> Float[Array, "... D"]:
    """Rows of an embedding table."""
    rows = w[name][tokens]
    if f"{name}_scale" not in w:
        return rows
    return rows.astype(jnp.float32) * w[f"{name}_scale"][tokens][..., None]


def shifted(x: Float[Array, "N D"], shift: Float[Array, "N D"] | None) -> Float[Array, "N D"]:
    """``x`` plus ``shift``, if there is one."""
    return x if shift is None else x + shift.astype(x.dtype)


def score(w: Layer, name: str, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
    """Logits, in float32, of hidden states against the rows of a table."""
    table = w[name]
    if _is_rounded(x, table):
        y = product(x, table.T)
    else:
        y = jnp.einsum("...d,vd->...v", x, table.astype(x.dtype), preferred_element_type=jnp.float32)
    return scaled(y, w[f"{name}_scale"]) if f"{name}_scale" in w else y


def score_tokens(
    w: Layer, name: str, x: Float[Array, "*any D"], tokens: Int[Array, "*any"]
) -> Float[Array, "*any"]:
    """The logit of one token for each hidden state; see ``score``."""
    rows = w[name][tokens].astype(x.dtype)
    y = jnp.einsum("...d,...d->...", x, rows, preferred_element_type=jnp.float32)
    return y * w[f"{name}_scale"][tokens] if f"{name}_scale" in w else y


def feed_forward(
    w: Layer, x: Float[Array, "... D"], activation: str | ClampedSwiGLU
) -> Float[Array, "... D"]:
    """The feed-forward network: down(act(up x)), or with a gate down(act(gate x) · up x) (Shazeer 2020)."""
    gate = linear(w, "gate", x) if "gate" in w else None
    return linear(w, "down", activated(activation, gate, linear(w, "up", x)))


def activated(
    activation: str | ClampedSwiGLU, gate: Float[Array, "*any"] | None, up: Float[Array, "*any"]
) -> Float[Array, "*any"]:
    """What a feed-forward's last matrix reads."""
    if isinstance(activation, ClampedSwiGLU):
        assert gate is not None
        return activation(gate, up)
    act = ACTIVATIONS[activation]
    return act(up) if gate is None else act(gate) * up


class Routing(NamedTuple):
    """How a router chooses among experts.

    Attributes:
        chosen: how many experts a token has.
        weighed: the probabilities of the chosen ones are divided by their sum.
    """

    chosen: int
    weighed: bool


def routed_feed_forward(
    w: Layer,
    x: Float[Array, "*rows D"],
    by: Float[Array, "*rows D"],
    activation: str | ClampedSwiGLU,
    routing: Routing,
) -> Float[Array, "*rows D"]:
    """The feed-forwards of the experts that a router chooses for each token, weighed and added up.

    Args:
        by: what the router reads.
    """
    flat, (count, weighed) = x.reshape(-1, x.shape[-1]), routing
    shares = jax.nn.softmax(linear(w, "router", by.reshape(flat.shape)).astype(jnp.float32), axis=-1)
    # Not by top_k, for which a mesh would gather the tokens of all devices.
    chosen = jnp.argsort(-jax.lax.stop_gradient(shares), axis=-1)[:, :count]
    one_hot = jax.nn.one_hot(chosen, shares.shape[-1])
    shares = jnp.sum(shares[:, None] * one_hot, axis=-1)  # [S, count]
    if weighed:
        shares = shares / jnp.sum(shares, axis=-1, keepdims=True)
    if "router_factor" in w:
        shares = shares * jnp.einsum("sce,e->sc", one_hot, w["router_factor"].astype(jnp.float32))
    experts = {name.removeprefix("expert_"): w[name] for name in w if name.startswith("expert_")}
    every = functools.partial(every_expert, activation=activation)
    if on_one_device():
        few = functools.partial(chosen_experts, activation=activation)
        out = jax.lax.platform_dependent(experts, flat, shares, chosen, cpu=every, default=few)
    else:
        out = every(experts, flat, shares, chosen)
    return out.reshape(x.shape)


def every_expert(
    experts: Layer,
    x: Float[Array, "S D"],
    shares: Float[Array, "S count"],
    chosen: Int[Array, "S count"],
    activation: str | ClampedSwiGLU,
) -> Float[Array, "S D"]:
    """Runs one expert after another for all tokens; what a token has not chosen is multiplied by zero.

    This is for CPUs and meshes, where XLA has no product of runs of rows that would not do as much.
    """
    one_hot = jax.nn.one_hot(chosen, experts["up"].shape[0], dtype=jnp.float32)
    by_expert = jnp.einsum("sc,sce->es", shares, one_hot, precision="highest").astype(x.dtype)

    def add(total: Float[Array, "S D"], scanned: tuple[Layer, Float[Array, " S"]]):
        expert, share = scanned
        return total + share[:, None] * feed_forward(expert, x, activation), None

    return jax.lax.scan(jax.checkpoint(add), jnp.zeros_like(x), (experts, by_expert))[0]


def chosen_experts(
    experts: Layer,
    x: Float[Array, "S D"],
    shares: Float[Array, "S count"],
    chosen: Int[Array, "S count"],
    activation: str | ClampedSwiGLU,
) -> Float[Array, "S D"]:
    """Puts tokens in the order of their experts, whose matrices then multiply one run of rows each."""
    order = jnp.argsort(chosen.reshape(-1))
    place, expert_of = jnp.argsort(order), chosen.reshape(-1)[order]
    sizes = jnp.bincount(expert_of, length=experts["up"].shape[0])

    def expert(name: str, x: Float[Array, "R any"]) -> Float[Array, "R other"]:
        y = jax.lax.ragged_dot(x, experts[name].astype(x.dtype), sizes)
        scale, bias = experts.get(f"{name}_scale"), experts.get(f"{name}_bias")
        y = y if scale is None else (y.astype(jnp.float32) * scale[expert_of]).astype(x.dtype)
        return y if bias is None else y + bias[expert_of].astype(x.dtype)

    rows = gather(jnp.repeat(x, chosen.shape[1], axis=0), order, place)
    gate = expert("gate", rows) if "gate" in experts else None
    out = expert("down", activated(activation, gate, expert("up", rows)))
    out = gather(out, place, order).reshape(*chosen.shape, -1)
    return jnp.einsum("scd,sc->sd", out, shares.astype(out.dtype))


def rms_norm(
    x: Float[Array, "... D"], scale: Float[Array, " D"], eps: float, offset: float = 0.0
) -> Float[Array, "... D"]:
    """Root-mean-square norm in float32 (Zhang & Sennrich 2019), returned in ``x``'s type.

    Args:
        offset: added to ``scale``; 1 where a family stores its scales around zero.
    """
    x32 = x.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    return scaled(x32, scale.astype(jnp.float32) + offset).astype(x.dtype)


def layer_norm(
    x: Float[Array, "... D"], scale: Float[Array, " D"], bias: Float[Array, " D"], eps: float
) -> Float[Array, "... D"]:
    """Layer norm in float32 (Ba et al. 2016), returned in ``x``'s type."""
    x32 = x.astype(jnp.float32)
    x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    y = scaled(x32, scale.astype(jnp.float32)) + on_last_axes(bias.astype(jnp.float32), x)
    return y.astype(x.dtype)
