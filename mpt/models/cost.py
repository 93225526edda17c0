"""The FLOPs that a training step needs, and the FLOP/s of this machine.

Only necessary FLOPs are counted, none for padding. A matrix of W weights takes 2·W per token, and the two
products of attention take 4·heads·head_dim per (query, visible key) pair, in every layer. The forward pass
of a batch of J prompts of P vectors, B rows of S tokens and L labels takes::

    decoder           2·W·(J·P + Σ S) + 4·layers·heads·head_dim·pairs + 2·V·D·Σ L
                      pairs = Σ (S·(S + 1)/2 + S·P) + J·P·(P + 1)/2
    encoder-decoder   2·W_enc·Σ (P + S) + 2·W_dec·Σ L + 2·V·D·Σ L + 4·…·(layers·pairs + …) + cross
                      pairs = Σ (P + S)² in the encoder, Σ L·(L + 1)/2 in the decoder
                      cross = 2·W_cross·Σ (P + S) + 4·layers·heads·head_dim·Σ L·(P + S), or
                              2·W_cross·Σ L       + 4·layers·heads·D·Σ L·(P + S), the lesser

A layer with the gated delta rule reads no pairs: it takes 6·heads·head_dim² per token, to read what its
memory has for a key, to write, and to read for a query.

W_cross are the decoder's maps from the encoder's output to keys and values, W_dec its other weights. Where
few tokens are decoded, the queries and the attended states go through W_cross instead of the encoder's
output. A decoder runs each of the J prompts once; an encoder runs a prompt in front of each row. In the
backward pass a frozen matrix costs as much again (the gradient of its input), and attention twice as much.
A trained matrix costs as much once more, for its own gradient.

Where prompts enter before a later layer, the layers below read the texts alone: Σ S tokens and
Σ S·(S + 1)/2 pairs (S² in an encoder), in the forward pass only, as nothing below depends on a prompt.

Not counted: elementwise work, recomputation, padding, and that windows reduce attention. Inner nodes of class
words count as text and labels that attend to all in front of them, although they see only their ancestors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from mpt.models.decoder import Decoder
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.encoder_decoder.base import EncoderDecoder


class Cost(NamedTuple):
    """The FLOPs of a forward pass: products with frozen matrices, and the products of attention.

    Attributes:
        below: of both, in the layers below the one where prompts enter.
    """

    matrices: float
    attention: float
    below: float = 0.0

    @property
    def forward(self) -> float:
        """The FLOPs of the forward pass."""
        return self.matrices + self.attention + self.below

    @property
    def step(self) -> float:
        """The FLOPs of forward and backward pass, to the gradient of a prompt."""
        return 2 * self.matrices + 3 * self.attention + self.below

    @property
    def finetuning(self) -> float:
        """The FLOPs of forward and backward pass, with the gradient of every matrix."""
        return 3 * (self.matrices + self.attention + self.below)

    @property
    def distillation(self) -> float:
        """The FLOPs of a student's step and of its teacher's forward pass."""
        return self.step + self.forward


def batch_cost(
    backbone: Any,
    prompts: int,
    length: int,
    texts: Sequence[float],
    labels: Sequence[float],
    layer: int = 0,
) -> Cost:
    """The cost of the forward pass of a batch.

    Args:
        backbone: a ``Decoder`` or an ``EncoderDecoder``; its shapes are enough.
        prompts: J, the number of prompts.
        length: P, the number of vectors of each, without the tokens that a decoder reads in front of them.
        texts: S of each row, its text tokens; for an encoder-decoder those of its input.
        labels: L of each row, its target tokens.
        layer: the layer before which the prompts enter.
    """
    return (_decoder if backbone.layout == "decoder" else _encoder_decoder)(
        backbone, prompts, length, texts, labels, layer
    )


def _decoder(
    backbone: Decoder,
    prompts: int,
    length: int,
    texts: Sequence[float],
    labels: Sequence[float],
    layer: int,
) -> Cost:
    length += len(backbone.opening)
    spec, tokens = backbone.spec, prompts * length + sum(texts)
    pairs = sum(n * (n + 1) / 2 + n * length for n in texts) + prompts * length * (length + 1) / 2
    alone = sum(n * (n + 1) / 2 for n in texts)
    matrices = 2 * spec.vocab * spec.d_model * sum(labels)
    attention = below = 0.0
    for kind, part in spec.stacks.items():
        weights = _active(part, backbone.stacks[kind]) / part.layers
        lower = spec.layer_kinds[:layer].count(kind)
        matrices += 2 * (part.layers - lower) * weights * tokens
        attention += (part.layers - lower) * _mixing(part, tokens, pairs)
        below += lower * (2 * weights * sum(texts) + _mixing(part, sum(texts), alone))
    return Cost(matrices, attention, below)


def _mixing(spec: DecoderSpec, tokens: float, pairs: float) -> float:
    """The FLOPs by which the tokens of one layer read one another."""
    if spec.taps:
        return tokens * spec.heads * 6 * spec.head_dim**2
    return 4 * spec.heads * spec.head_dim * pairs


def _active(spec: DecoderSpec, layers: nnx.Dict) -> float:
    """The weights of a stack that a token meets: of experts, those that its router chooses."""
    experts = parameter_count({name: layers[name] for name in layers if name.startswith("expert_")})
    idle = experts * (1 - spec.experts_per_token / spec.experts) if spec.experts else 0
    return parameter_count(layers) - idle


def _encoder_decoder(
    backbone: EncoderDecoder,
    prompts: int,
    length: int,
    texts: Sequence[float],
    labels: Sequence[float],
    layer: int,
) -> Cost:
    spec, weights = backbone.spec, parameter_count(backbone.encoder) / backbone.spec.layers
    encoder, decoder = spec.stacks.values()
    above, pair = spec.layers - layer, 4 * encoder.heads * encoder.head_dim
    decoder_pair = 4 * decoder.heads * decoder.head_dim
    encoder_prompt = length - spec.decoder_prompt
    encoded, decoded = [encoder_prompt + n for n in texts], [spec.decoder_prompt + n for n in labels]
    own_maps = "cross_k" in backbone.decoder  # else its keys and values go through the same as the decoder's
    names = ("cross_k", "cross_v") if own_maps else ("k", "v")
    cross = parameter_count({name: backbone.decoder[name] for name in names})
    cross_pairs = spec.decoder_layers * sum(out * n for n, out in zip(encoded, decoded))
    across = Cost(2 * cross * sum(encoded), decoder_pair * cross_pairs)
    if own_maps:
        on_queries = Cost(2 * cross * sum(decoded), 4 * decoder.heads * spec.d_model * cross_pairs)
        across = min(across, on_queries, key=lambda cost: cost.step)
    pairs = pair * above * sum(n * n for n in encoded)
    pairs += decoder_pair * spec.decoder_layers * sum(out * (out + 1) / 2 for out in decoded)
    on_decoded = parameter_count(backbone.decoder) - (cross if own_maps else 0)
    return Cost(
        2 * above * weights * sum(encoded)
        + 2 * on_decoded * sum(decoded)
        + 2 * spec.vocab * decoder.d_model * sum(labels)
        + across.matrices,
        pairs + across.attention,
        layer * (2 * weights * sum(texts) + pair * sum(n * n for n in texts)),
    )


def parameter_count(part: Any) -> int:
    """The number of parameters of a module, or of some of its weights."""
    state = nnx.state(part) if isinstance(part, nnx.Module) else part
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def machine_rate(dtype: DTypeLike = jnp.float32, size: int = 3072, repeats: int = 3) -> float:
    """The FLOP/s of a large matrix product on this machine, the best of ``repeats``."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)
