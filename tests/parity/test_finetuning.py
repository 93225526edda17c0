"""LoRA equals peft's, and every weight's gradient equals transformers'."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import inputs, kept, tiny

from mpt.loading.hf import load_pretrained
from mpt.methods.lora import Lora, LoraParam, with_lora
from mpt.models.layers import Weight
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.losses import task_loss

NOTHING = np.zeros((1, 0, tiny.WIDTH), np.float32)
LLAMA = {name: f"self_attn.{name[0]}_proj" for name in ("q", "k", "v", "out")} | {
    name: f"mlp.{name}_proj" for name in ("up", "gate", "down")
}
T5 = {name: f"SelfAttention.{name[0]}" for name in ("q", "k", "v", "out")} | {
    "up": "DenseReluDense.wi_1",
    "gate": "DenseReluDense.wi_0",
    "down": "DenseReluDense.wo",
}
T5 |= {f"cross_{name}": f"EncDecAttention.{name[0]}" for name in ("q", "k", "v", "out")}


def value_and_gradient(model: Prompted, kind):
    """The loss, and its gradient with respect to all variables of a kind."""
    layout = model.backbone.layout
    rows = inputs.ROWS[layout]
    batch = tiny.collate(rows, [0] * len(rows), layout)
    graph, params, rest = nnx.split(model, kind, ...)

    @jax.jit
    def both(params):
        return jax.value_and_grad(lambda p: task_loss(nnx.merge(graph, p, rest), batch)["task"].mean)(params)

    return both(params)


def in_our_layout(theirs: dict[str, np.ndarray], path: str, shape: tuple[int, ...]) -> np.ndarray:
    """A factor of ours, "layers.q_lora_a", out of peft's matrices, one for each layer."""
    stack, name = path.split(".")
    matrix, factor = name.split("_lora_")
    ending = (LLAMA if stack == "layers" else T5)[matrix] + f".lora_{factor.upper()}"
    found = [theirs[name] for name in sorted(theirs) if f"{stack}." in name and name.endswith(ending)]
    assert len(found) == shape[0]
    return np.stack([matrix.T.reshape(shape[1:]) for matrix in found])


@pytest.mark.parametrize(
    ("family", "among"),
    [
        ("llama", "attention"),
        ("llama", "all"),
        pytest.param("t5-1.1", "attention", marks=pytest.mark.full),  # "all" has these matrices too
        ("t5-1.1", "all"),
    ],
)
def test_lora_is_that_of_peft(family, among, tmp_path, compare):
    plain = load_pretrained(str(tiny.save(family, tmp_path))).backbone
    gradients = kept("lora", f"{family}/{among}")
    expected = gradients.pop("loss")
    drawn = inputs.factors({name: gradient.shape for name, gradient in gradients.items()})
    start = Lora.of(with_lora(plain, inputs.RANK, among, jax.random.key(0)), jnp.asarray(NOTHING))
    factors = {
        path: jnp.asarray(in_our_layout(drawn, path, factor.shape)) for path, factor in start.factors.items()
    }
    model = Lora(jnp.asarray(NOTHING), **factors).beside(plain)
    loss, gradient = value_and_gradient(model, LoraParam)
    compare(family, f"LoRA {among} loss", loss, expected)
    leaves = [(".".join(path[1:]), leaf[...]) for path, leaf in nnx.to_flat_state(gradient)]
    for path, leaf in leaves:
        compare(family, f"LoRA {among} grad.", leaf, in_our_layout(gradients, path, leaf.shape))
    assert sum(leaf.size for _, leaf in leaves) == sum(gradient.size for gradient in gradients.values())


@pytest.mark.parametrize("family", ["llama", "llama-3", "gemma2", "gpt2", "t5-1.0", "t5-1.1", "umt5"])
def test_gradient_of_every_weight(family, tmp_path, compare):
    """Along the references' directions.

    These are read as a checkpoint, which brings them into our layout; so are the references' sums, each
    of them spread over the entries that it is of.
    """

    def read(name: str, tensors: dict[str, np.ndarray]) -> dict[tuple, np.ndarray]:
        state = nnx.state(load_pretrained(str(tiny.save(family, tmp_path / name, tensors))).backbone)
        return {path: np.asarray(leaf[...], np.float64) for path, leaf in nnx.to_flat_state(state)}

    theirs, directions = kept("weights_gradient", family), inputs.directions(family)
    largest = theirs.pop("largest")
    assert theirs.keys() == directions.keys()
    spread = {
        name: np.tile(theirs[name] * d.shape[-1] / d.size, (*d.shape[:-1], 1)[: d.ndim])
        for name, d in directions.items()
    }
    along, sums = read("directions", directions), read("sums", spread)
    backbone = load_pretrained(str(tiny.save(family, tmp_path / "weights"))).backbone
    _, gradient = value_and_gradient(Prompted(backbone, SoftPrompt(jnp.asarray(NOTHING))), Weight)
    ours = {path[1:]: leaf[...] for path, leaf in nnx.to_flat_state(gradient)}
    assert ours.keys() == along.keys() == sums.keys()
    found = {path: (leaf * along[path]).sum() for path, leaf in ours.items()}
    expected = {path: leaf.sum() for path, leaf in sums.items()}
    for path in ours:
        assert abs(found[path] - expected[path]) < 1e-4 * largest, path
        assert expected[path] != 0, path
    compare(family, "all weights' grad.", [*found.values()], [*expected.values()])


def test_adapted_backbone_leaves_the_plain_one_alone(tmp_path):
    plain = load_pretrained(str(tiny.save("llama", tmp_path))).backbone
    before = nnx.to_flat_state(nnx.state(plain))
    changed = with_lora(plain, inputs.RANK, "all", jax.random.key(0))
    after = nnx.to_flat_state(nnx.state(plain))
    assert [path for path, _ in before] == [path for path, _ in after]
    assert changed.layers["q"][...] is plain.layers["q"][...]
    assert "q_lora_a" in changed.layers
    assert "q_lora_a" not in plain.layers
