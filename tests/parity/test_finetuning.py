"""LoRA equals peft's, and every weight's gradient equals transformers'."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import test_decoders
import test_t5
import tiny
import torch
from flax import nnx

from mpt.losses import task_loss
from mpt.models.hf import load_pretrained
from mpt.models.layers import Weight
from mpt.models.lora import Lora, LoraParam, with_lora
from mpt.models.prompted import Prompted
from mpt.prompts import SoftPrompt

RANK, WIDTH = 3, 32
NOTHING = np.zeros((1, 0, WIDTH), np.float32)
LLAMA = {name: f"self_attn.{name[0]}_proj" for name in ("q", "k", "v", "out")} | {
    name: f"mlp.{name}_proj" for name in ("up", "gate", "down")
}
T5 = {name: f"SelfAttention.{name[0]}" for name in ("q", "k", "v", "out")} | {
    "up": "DenseReluDense.wi_1",
    "gate": "DenseReluDense.wi_0",
    "down": "DenseReluDense.wo",
}
T5 |= {f"cross_{name}": f"EncDecAttention.{name[0]}" for name in ("q", "k", "v", "out")}


def opened(family: str, folder):
    """The rows of the family's own test, our backbone, and transformers' model."""
    rows = test_decoders.ROWS if family in tiny.DECODERS else test_t5.ROWS
    folder = tiny.save(family, folder)
    return rows, load_pretrained(str(folder)).backbone, tiny.reference(family, folder)


def value_and_gradient(model: Prompted, rows, kind):
    """The loss, and its gradient with respect to all variables of a kind."""
    batch = tiny.collate(rows, [0] * len(rows), model.backbone.layout)
    graph, params, rest = nnx.split(model, kind, ...)

    @jax.jit
    def both(params):
        return jax.value_and_grad(lambda p: task_loss(nnx.merge(graph, p, rest), batch)["task"].mean)(params)

    return both(params)


def torch_loss(model, family: str):
    if family in tiny.DECODERS:
        ids, mask, labels = test_decoders.whole(test_decoders.ROWS)
    else:
        ids, mask, labels = test_t5.tensors()
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss


def peft_factor(tuned, family: str, path: str, shape: tuple[int, ...]):
    """The tensors of peft, one per layer, that hold a factor of ours: "layers.q_lora_a"."""
    stack, name = path.split(".")
    matrix, factor = name.split("_lora_")
    ending = (LLAMA if family in tiny.DECODERS else T5)[matrix] + f".lora_{factor.upper()}.default.weight"
    side = f"{stack}." if stack != "layers" else "layers."
    found = [p for name, p in tuned.named_parameters() if side in name and name.endswith(ending)]
    assert len(found) == shape[0]
    return found


@pytest.mark.parametrize("among", ["attention", "all"])
@pytest.mark.parametrize("family", ["llama", "t5-1.1"])
def test_lora_is_that_of_peft(family, among, tmp_path, compare):
    rows, plain, reference = opened(family, tmp_path)
    start = with_lora(plain, RANK, among, jax.random.key(0))
    rng = np.random.default_rng(0)
    found = Lora.of(start, jnp.asarray(NOTHING))
    factors = {
        name: jnp.asarray(0.3 * rng.normal(size=f.shape), jnp.float32) for name, f in found.factors.items()
    }
    names = (LLAMA if family in tiny.DECODERS else T5).items()
    modules = [ending for name, ending in names if any(f".{name}_lora" in path for path in factors)]
    config = peft.LoraConfig(
        r=RANK, lora_alpha=RANK, target_modules=[m.split(".")[-1] for m in modules], lora_dropout=0.0
    )
    tuned = peft.get_peft_model(reference, config)
    for path, factor in factors.items():
        for own, theirs in zip(factor, peft_factor(tuned, family, path, factor.shape)):
            theirs.data = torch.tensor(np.asarray(own).reshape(theirs.shape[::-1]).T.copy())
    model = Prompted(Lora(jnp.asarray(NOTHING), **factors).beside(plain), SoftPrompt(jnp.asarray(NOTHING)))
    loss, gradient = value_and_gradient(model, rows, LoraParam)
    expected = torch_loss(tuned, family)
    expected.backward()
    compare(family, f"LoRA {among} loss", loss, expected.item())
    count = 0
    for path, leaf in nnx.to_flat_state(gradient):
        parameters = peft_factor(tuned, family, ".".join(path[1:]), leaf.shape)
        theirs = np.stack([p.grad.numpy().T.reshape(leaf.shape[1:]) for p in parameters])
        compare(family, f"LoRA {among} grad.", leaf[...], theirs)
        count += leaf.size
    assert count == sum(p.numel() for p in tuned.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", ["llama", "llama-3", "gemma2", "gpt2", "t5-1.0", "t5-1.1", "umt5"])
def test_gradient_of_every_weight(family, tmp_path, compare):
    """transformers' gradients are written as a checkpoint, so that reading it brings them in our layout."""
    rows, backbone, reference = opened(family, tmp_path / "weights")
    model = Prompted(backbone, SoftPrompt(jnp.asarray(NOTHING)))
    _, gradient = value_and_gradient(model, rows, Weight)
    torch_loss(reference, family).backward()
    for parameter in reference.parameters():
        parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    reference.save_pretrained(tmp_path / "gradients")
    tiny.tokenizer().save_pretrained(tmp_path / "gradients")
    theirs = dict(nnx.to_flat_state(nnx.state(load_pretrained(str(tmp_path / "gradients")).backbone)))
    ours = {path[1:]: leaf for path, leaf in nnx.to_flat_state(gradient)}
    assert ours.keys() == theirs.keys()
    largest = max(float(jnp.abs(leaf[...]).max()) for leaf in theirs.values())
    for path, leaf in ours.items():
        assert np.abs(leaf[...] - theirs[path][...]).max() < 1e-4 * largest, path
        assert np.abs(theirs[path][...]).max() > 0, path
    compare(
        family,
        "all weights' grad.",
        *(np.concatenate([np.ravel(s[p][...]) for p in ours]) for s in (ours, theirs)),
    )


def test_adapted_backbone_leaves_the_plain_one_alone(tmp_path):
    _, plain, _ = opened("llama", tmp_path)
    before = nnx.to_flat_state(nnx.state(plain))
    changed = with_lora(plain, RANK, "all", jax.random.key(0))
    after = nnx.to_flat_state(nnx.state(plain))
    assert [path for path, _ in before] == [path for path, _ in after]
    assert changed.layers["q"][...] is plain.layers["q"][...]
    assert "q_lora_a" in changed.layers
    assert "q_lora_a" not in plain.layers
