"""The necessary FLOPs against what XLA counts in the program."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mpt.data.batches import collate
from mpt.models.cost import batch_cost, parameter_count
from mpt.models.decoder import Decoder
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.encoder_decoder.t5 import T5
from mpt.models.encoder_decoder.t5_spec import T5Spec
from mpt.models.rope import Rope
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.training.losses import distillation_loss, task_loss
from mpt.types import Row

P, D, ROWS = 16, 256, 8
SIZES = {"vocab": 512, "d_model": D, "layers": 2, "heads": 4, "head_dim": 64, "d_ff": 4 * D, "tied": True}
ROPES = (Rope.from_hf({"rope_type": "default", "rope_theta": 100.0}),) * 2
DECODER = partial(Decoder, DecoderSpec(**SIZES, kv_heads=2, ropes=ROPES, norm_eps=1e-6))
ENCODER_DECODER = partial(
    T5,
    T5Spec(
        **SIZES,
        decoder_layers=2,
        activation="relu",
        gated=False,
        buckets=8,
        max_distance=16,
        bias_everywhere=False,
        norm_eps=1e-6,
        logit_scale=1.0,
        decoder_prompt=4,
    ),
)


@pytest.mark.parametrize("make", [DECODER, ENCODER_DECODER], ids=["decoder", "encoder-decoder"])
@pytest.mark.parametrize(("prompts", "inputs", "labels"), [(1, 25, 8), (4, 64, 1)])
@pytest.mark.parametrize("distilled", [False, True])
def test_flops_are_those_that_xla_counts(monkeypatch, make, prompts, inputs, labels, distilled):
    """XLA counts at most 5 % more: elementwise work, and a causal mask's empty half. Never less."""
    # It counts a loop's body once, whatever the rounds.
    monkeypatch.setattr(jax.lax, "scan", partial(jax.lax.scan, unroll=True))
    backbone = make(rngs=nnx.Rngs(0), remat="nothing")
    soft = SoftPrompt(jnp.ones((prompts, P, D)))
    model = Distilled(backbone, soft, jnp.ones((prompts, P, D))) if distilled else Prompted(backbone, soft)
    rows = [Row([1] * inputs, [2] * labels) for _ in range(ROWS)]  # of lengths that need no padding
    batch = jax.tree.map(jnp.asarray, collate(rows, [i % prompts for i in range(ROWS)], backbone.layout))
    graph, trained, frozen = nnx.split(model, PromptParam, ...)

    def loss(trained, frozen, batch):
        objective = distillation_loss if distilled else task_loss
        return sum(term.mean for term in objective(nnx.merge(graph, trained, frozen), batch).values())

    # Not as for a CPU, which takes rows in turn: of a loop's rounds it would count one.
    traced = jax.jit(jax.grad(loss)).trace(trained, frozen, batch)
    counted = traced.lower(lowering_platforms=("tpu",)).cost_analysis()["flops"]
    text = inputs + (labels - 1 if backbone.layout == "decoder" else 0)
    cost = batch_cost(backbone, prompts, P, [text] * ROWS, [labels] * ROWS)
    assert 1 <= counted / (cost.distillation if distilled else cost.step) <= 1.05


@pytest.mark.parametrize("make", [DECODER, ENCODER_DECODER], ids=["decoder", "encoder-decoder"])
def test_layers_below_a_prompt_read_the_texts_alone(make):
    """As a batch without prompts is read; all else is as with the layers above alone."""
    backbone = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
    batch = [10, 30], [2, 4]
    early, late = (batch_cost(backbone, 1, P, *batch, layer) for layer in (0, 1))
    assert late.below == _of_a_layer(backbone, 0, *batch)
    assert early.matrices + early.attention - late.matrices - late.attention == pytest.approx(
        _of_a_layer(backbone, P, *batch)
    )
    assert late.step == 2 * late.matrices + 3 * late.attention + late.below


def _of_a_layer(backbone, length: int, texts: list[int], labels: list[int]) -> float:
    """The forward pass of one of two layers that prompts can enter."""
    decoder = backbone.layout == "decoder"
    weights = parameter_count(backbone.layers if decoder else backbone.encoder) / 2
    pair, front = 4 * 4 * 64, length if decoder else max(length - 4, 0)
    if not decoder:
        return sum(2 * weights * (front + n) + pair * (front + n) ** 2 for n in texts)
    pairs = sum(n * (n + 1) / 2 + n * front for n in texts) + front * (front + 1) / 2
    return 2 * weights * (sum(texts) + front) + pair * pairs


def test_cost_adds_up_over_rows():
    backbone = nnx.eval_shape(lambda: ENCODER_DECODER(rngs=nnx.Rngs(0)))
    whole = batch_cost(backbone, 1, P, [10, 30], [2, 4])
    parts = batch_cost(backbone, 1, P, [10], [2]), batch_cost(backbone, 1, P, [30], [4])
    assert whole == pytest.approx([sum(part) for part in zip(*parts)])


def test_decoder_reads_a_prompt_once_for_all_rows():
    backbone = nnx.eval_shape(lambda: DECODER(rngs=nnx.Rngs(0)))
    more = (
        batch_cost(backbone, 1, P, [10] * 3, [1] * 3).matrices
        - batch_cost(backbone, 1, P, [10], [1]).matrices
    )
    assert more == 2 * (2 * parameter_count(backbone.layers) * 10 + 2 * 512 * D)
