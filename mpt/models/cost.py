"""What a train step must compute, and how fast this machine could.

Necessary FLOPs, with no padding counted. A matrix of W weights meets a token at 2·W, and both ways of
an attention meet a (query, visible key) pair at 4·heads·head_dim, in every layer. Forward, of a batch
of J prompts of P vectors, B rows of S tokens and L labels::

    decoder           2·W·(J·P + Σ S) + 4·layers·heads·head_dim·pairs + 2·V·D·Σ L
                      pairs = Σ (S·(S + 1)/2 + S·P) + J·P·(P + 1)/2
    encoder-decoder   2·W_enc·Σ (P + S) + 2·W_dec·Σ L + 2·V·D·Σ L + 4·…·(layers·pairs + …) + cross
                      pairs = Σ (P + S)² in the encoder, Σ L·(L + 1)/2 in the decoder
                      cross = 2·W_cross·Σ (P + S) + 4·layers·heads·head_dim·Σ L·(P + S), or
                              2·W_cross·Σ L       + 4·layers·heads·D·Σ L·(P + S), the lesser

W_cross are the decoder's maps of the encoder's output to keys and values, W_dec all its others. Where
little is written, the queries and what they find go through W_cross instead of what is encoded. A
decoder reads all J prompts once; an encoder reads each row's own in front of it. Backward, a frozen
matrix costs as much again (the gradient of its input; it has none of its own), and attention twice as much.
A matrix that is trained costs as much once more, for its own gradient.

Not counted: elementwise work, recomputation, padding, and limits to what a layer sees.
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
from mpt.models.t5 import T5


class Cost(NamedTuple):
    """FLOPs of a forward pass, by what meets the activations: frozen matrices, or each other."""

    matrices: float
    attention: float

    @property
    def forward(self) -> float:
        return self.matrices + self.attention

    @property
    def step(self) -> float:
        """Forward and backward, down to the prompt."""
        return 2 * self.matrices + 3 * self.attention

    @property
    def finetuning(self) -> float:
        """Forward and backward, with the gradient of every matrix."""
        return 3 * self.matrices + 3 * self.attention

    @property
    def distillation(self) -> float:
        """A step of a student whose teacher reads the batch too, forward only."""
        return self.step + self.forward


def batch_cost(
    backbone: Any, prompts: int, length: int, texts: Sequence[float], labels: Sequence[float]
) -> Cost:
    """The cost of a batch.

    Args:
        backbone: a ``Decoder`` or a ``T5``; its shapes are enough.
        prompts: J, how many prompts the step has.
        length: P, the vectors of each.
        texts: tokens that are read of each row: S, for an encoder-decoder those of its input.
        labels: target tokens of each row: L.
    """
    return (_decoder if backbone.layout == "decoder" else _encoder_decoder)(
        backbone, prompts, length, texts, labels
    )


def _decoder(
    backbone: Decoder, prompts: int, length: int, texts: Sequence[float], labels: Sequence[float]
) -> Cost:
    spec = backbone.spec
    tokens = prompts * length + sum(texts)
    pairs = sum(n * (n + 1) / 2 + n * length for n in texts) + prompts * length * (length + 1) / 2
    return Cost(
        2 * parameter_count(backbone.layers) * tokens + 2 * spec.vocab * spec.d_model * sum(labels),
        4 * spec.layers * spec.heads * spec.head_dim * pairs,
    )


def _encoder_decoder(
    backbone: T5, prompts: int, length: int, texts: Sequence[float], labels: Sequence[float]
) -> Cost:
    spec = backbone.spec
    ahead = length - spec.decoder_prompt
    read, written = [ahead + n for n in texts], [spec.decoder_prompt + n for n in labels]
    cross = parameter_count({name: backbone.decoder[name] for name in ("cross_k", "cross_v")})
    met = spec.decoder_layers * sum(out * n for n, out in zip(read, written))
    made = Cost(2 * cross * sum(read), 4 * spec.heads * spec.head_dim * met)
    absorbed = Cost(2 * cross * sum(written), 4 * spec.heads * spec.d_model * met)
    across = min(made, absorbed, key=lambda cost: cost.step)
    pairs = spec.layers * sum(n * n for n in read)
    pairs += spec.decoder_layers * sum(out * (out + 1) / 2 for out in written)
    return Cost(
        2 * parameter_count(backbone.encoder) * sum(read)
        + 2 * (parameter_count(backbone.decoder) - cross) * sum(written)
        + 2 * spec.vocab * spec.d_model * sum(labels)
        + across.matrices,
        4 * spec.heads * spec.head_dim * pairs + across.attention,
    )


def parameter_count(part: Any) -> int:
    """The number of parameters of a module, or of a state that holds some of its weights."""
    state = nnx.state(part) if isinstance(part, nnx.Module) else part
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def machine_rate(dtype: DTypeLike = jnp.float32, size: int = 3072, repeats: int = 3) -> float:
    """FLOP/s of a large matrix product here, its best."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times)
