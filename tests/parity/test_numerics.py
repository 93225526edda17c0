"""Half precision and 8 bits stay near float32, and float32 stays where it must."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from golden import tiny
from golden.inputs import INDEX, TEXTS, prompts
from golden.inputs import ROWS as OF_LAYOUTS

from mpt.inference.generate import generate
from mpt.loading.hf import load_pretrained
from mpt.models.quantize import quantize
from mpt.training.losses import cross_entropy
from mpt.types import Row

ROWS = [Row([5, 9, 11, 4, 7, 30, 21], [8, 12, 6]), Row([33, 5], [9])]


@pytest.fixture(scope="module", autouse=True)
def promotion_of_jax():
    """JAX's own attention, and its lowering of products, mix bfloat16 and float32."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def loss_and_gradient(backbone, rows=None, index=(0, 0)):
    """The loss, its gradient, and the bytes of the weights."""
    batch, vectors = tiny.collate(rows or ROWS, index, backbone.layout), prompts(1 + max(index))
    graph, weights = nnx.split(backbone)

    @jax.jit
    @jax.value_and_grad
    def loss(vectors, weights):
        output = nnx.merge(graph, weights)(batch, vectors)
        assert output.logits.dtype == jnp.float32
        return cross_entropy(output.logits, batch.targets, batch.labelled).mean

    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    before, gradient = loss(vectors, weights)
    after, _ = loss(vectors - 0.05 * gradient / jnp.linalg.norm(gradient), weights)
    assert after < before
    return before, gradient, size


@pytest.fixture(scope="module", params=["gemma2", "gpt2", pytest.param("t5-1.1", marks=pytest.mark.full)])
def exact(request, tmp_path_factory):
    # How much rounding turns the gradient hangs on the draw: of T5 1.1, by a cosine of 0.982 to 0.998 in six.
    weights = tiny.weights(request.param, seed=2)
    folder = tiny.save(request.param, tmp_path_factory.mktemp("model"), weights)
    return str(folder), loss_and_gradient(load_pretrained(str(folder)).backbone)


def agree(near, exact, share: float, alike: float) -> None:
    (loss, gradient, size), (true_loss, true_gradient, true_size) = near, exact
    assert gradient.dtype == jnp.float32
    assert size < share * true_size
    assert float(loss) == pytest.approx(float(true_loss), rel=0.05)
    cosine = jnp.vdot(gradient, true_gradient) / jnp.linalg.norm(gradient) / jnp.linalg.norm(true_gradient)
    assert cosine > alike


def test_bfloat16(exact):
    folder, reference = exact
    agree(
        loss_and_gradient(load_pretrained(folder, dtype=jnp.bfloat16).backbone),
        reference,
        share=0.51,
        alike=0.99,
    )


def test_int8(exact):
    folder, reference = exact
    backbone = load_pretrained(folder).backbone
    quantize(backbone)
    agree(loss_and_gradient(backbone), reference, share=0.5, alike=0.95)


@pytest.mark.full
@pytest.mark.parametrize(
    "family",
    [
        *("gemma4_text", "gemma4_text-experts", "gpt_oss", "granite", "ministral3", "mistral3", "olmo2"),
        *("olmo3", "phi3", "qwen3_5_text", "qwen3_moe", "smollm3", "t5gemma", "t5gemma2"),
    ],
)
def test_every_family_trains_and_writes_as_in_float32(family, tmp_path):
    """A prompt's loss and step are near float32's; what is written is what is likeliest when read at once."""
    folder, found = str(tiny.save(family, tmp_path)), []
    for dtype, weights in ((jnp.float32, "full"), (jnp.bfloat16, "full"), (jnp.float32, "int8")):
        backbone = load_pretrained(folder, dtype, weights).backbone
        found.append(loss_and_gradient(backbone, OF_LAYOUTS[backbone.layout], INDEX))
        if backbone.ends["embedding"].dtype == jnp.float32:
            continue
        texts = tiny.collate([Row(ids, [0]) for ids in TEXTS], INDEX, backbone.layout)
        written = generate(backbone, texts, jnp.asarray(prompts(2)), max_new_tokens=6, stop=[])
        rows = tiny.collate([Row(*pair) for pair in zip(TEXTS, written)], INDEX, backbone.layout)
        logits = jax.jit(lambda b, p, rows=rows: b(rows, p).logits)(backbone, prompts(2))[rows.labelled]
        chosen = jnp.take_along_axis(logits, rows.targets[rows.labelled][:, None], axis=1)[:, 0]
        assert (logits.max(axis=1) - chosen).max() < 0.02 * jnp.abs(logits).max()
    exact, half, eighth = found
    agree(half, exact, share=0.51, alike=0.98)
    agree(eighth, exact, share=0.5, alike=0.93)  # a router may choose another expert
