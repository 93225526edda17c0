"""One fused call of attention gives what the plain formulas give, and the same gradients."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mpt.data.batches import Sizes, collate
from mpt.loading.hf import load_pretrained
from mpt.models.attention import KERNELS, KV, fused_by
from mpt.models.decoder import Decoder
from mpt.types import Row

ROWS = [Row([5, 6, 7], [8]), Row([9, 10, 11, 12, 13, 14, 15], [3, 4]), Row([7], [6])]
CHOSEN = [row._replace(choices=((3,), (4,)), label=0) for row in ROWS]
TREES = [row._replace(choices=((3, 5), (3, 6)), label=0) for row in ROWS]


def assert_same(backbone, rows, prompts, indices, prefix_kv=None, classes=False):
    """Logits, class scores and gradients by the plain formulas are those of XLA's fused call."""
    batch = collate(rows, indices, backbone.layout, Sizes.of(rows, backbone.layout, classes))

    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def gradient(prompts, prefix_kv):
        output = backbone(jax.tree.map(jnp.asarray, batch), prompts, prefix_kv=prefix_kv)
        scores = output.classes if classes else jnp.where(batch.labelled[..., None], output.logits, 0.0)
        return jnp.sum(jnp.square(scores)), scores

    found = []
    for kernel in ("plain", "xla"):
        backbone.kernel = kernel
        found.append(jax.jit(lambda *given: gradient(*given))(prompts, prefix_kv))
    backbone.kernel = "plain"
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max()), *found)


@pytest.fixture
def fused_calls(monkeypatch):
    """The calls of a fused kernel: a program must not be compared with itself."""
    calls, call = [], jax.nn.dot_product_attention

    def counted(*args, **options):
        calls.extend(["implementation"] * ("implementation" in options))
        return call(*args, **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", counted)
    return calls


@pytest.fixture
def prompts(pretrained):
    width = pretrained.backbone.spec.d_model
    return jax.random.normal(jax.random.key(0), (2, 5, width))


@pytest.mark.parametrize(("count", "prefixed"), [(1, False), (2, True)])
def test_a_decoder_is_the_same(pretrained, prompts, count, prefixed, fused_calls):
    layers, heads, width = pretrained.backbone.kv_shape
    prefix = KV(*jax.random.normal(jax.random.key(1), (2, layers, count, 3, heads, width)))
    indices = [place % count for place in range(len(ROWS))]
    assert_same(pretrained.backbone, ROWS, prompts[:count], indices, prefix if prefixed else None)
    assert fused_calls


def test_class_words_of_one_token_are_fused_too(pretrained, prompts, fused_calls):
    assert_same(pretrained.backbone, CHOSEN, prompts[:1], [0] * len(ROWS), classes=True)
    assert fused_calls


def test_longer_class_words_are_left_to_the_plain_formulas(pretrained, prompts, fused_calls):
    batch = collate(TREES, [0] * len(TREES), "decoder", Sizes.of(TREES, "decoder", classes=True))
    pretrained.backbone.kernel = "xla"
    jax.eval_shape(pretrained.backbone, batch, prompts[:1])
    pretrained.backbone.kernel = "plain"
    assert not fused_calls


def test_sinks_are_left_to_the_plain_formulas(pretrained, prompts, fused_calls):
    backbone = Decoder(replace(pretrained.backbone.spec, sinks=True), rngs=nnx.Rngs(0))
    backbone.kernel = "xla"
    batch = collate(ROWS, [0] * len(ROWS), "decoder")
    jax.eval_shape(backbone, batch, prompts[:1])
    assert not fused_calls


def test_an_encoder_is_the_same(tiny_t5, fused_calls):
    """An odd number of positions, which is filled up to an even one."""
    backbone = load_pretrained(str(tiny_t5)).backbone
    prompts = jax.random.normal(jax.random.key(0), (2, 3, backbone.spec.d_model))
    assert_same(backbone, ROWS, prompts, [0, 1, 0])
    assert fused_calls


def test_cudnn_takes_only_what_it_can_express():
    assert fused_by("cudnn", jnp.bfloat16, 64) == "cudnn"
    assert fused_by("cudnn", jnp.float32, 64) is fused_by("cudnn", jnp.bfloat16, 20) is None
    assert fused_by("plain", jnp.bfloat16, 64) is None


def test_what_has_no_figure_is_nowhere_the_default():
    assert set(KERNELS.values()) == {"plain"}
