"""A prefix does in peft what it does here: the same logits, gradient and texts.

Of an encoder-decoder the logits alone: peft has two of its layers share each part of the file.
"""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import normal, tiny
from golden.inputs import EXPORTED, MOST
from runs import run_of

from mpt.inference.generate import generate_after_prompt
from mpt.interop.exporting import export_run
from mpt.interop.peft_folder import CONFIG, read_adapter, write_prefix
from mpt.loading.hf import load_pretrained
from mpt.methods.prefix import PrefixPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.losses import task_loss

pytestmark = pytest.mark.full
P = 4


@pytest.fixture(params=["llama", "mistral", "qwen2", "gemma2", "gemma3_text", "gpt2", "t5-1.1"])
def pair(request, tmp_path, torch, peft):
    """A family, our model after a prefix, and peft's of the folder that we export."""
    import transformers

    folder = tiny.save(request.param, tmp_path / "model")
    backbone = load_pretrained(str(folder)).backbone
    layers, heads, width = backbone.kv_shape
    keys, values = (normal(seed, layers, P, heads, width) for seed in (0, 1))
    decoder = backbone.layout == "decoder"
    if decoder:
        prompt = PrefixPrompt(jnp.asarray(keys)[None], jnp.asarray(values)[None])
        exported = export_run(run_of(tmp_path / "run", folder, prompt, "tone"), "peft") / "0-tone"
    else:
        write_prefix(exported := tmp_path / "prefix", keys, values, str(folder))
        config = json.loads((exported / CONFIG).read_text())
        changed = config | {"task_type": "SEQ_2_SEQ_LM", "num_transformer_submodules": 2}
        (exported / CONFIG).write_text(json.dumps(changed))
        prompt = read_adapter(exported).prompt
    kind = transformers.AutoModelForCausalLM if decoder else transformers.AutoModelForSeq2SeqLM
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    theirs = peft.PeftModel.from_pretrained(model, exported).eval()
    theirs.prompt_encoder["default"].embedding.weight.requires_grad_(True)
    return request.param, Prompted(backbone, prompt), theirs


def their_logits(torch, theirs, row, layout: str):
    """peft's logits at one row's targets."""
    if layout == "decoder":
        ids = torch.tensor([[*row.inputs, *row.targets[:-1]]])
        logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        return logits[len(row.inputs) - 1 :]
    ids = torch.tensor([list(row.inputs)])
    labels = torch.tensor([list(row.targets)])
    return theirs(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).logits[0]


def test_logits_and_gradient(pair, torch, compare):
    family, ours, theirs = pair
    layout = ours.backbone.layout
    batch = tiny.collate(EXPORTED, [0] * len(EXPORTED), layout)
    logits = nnx.jit(lambda model: model(batch).logits)(ours)[batch.labelled]
    wanted = [their_logits(torch, theirs, row, layout) for row in EXPORTED]
    compare(family, "prefix logits", logits, torch.cat(wanted).detach())
    if layout == "encoder-decoder":
        return

    graph, trained = nnx.split(ours.prompt)

    def loss(trained):
        return task_loss(Prompted(ours.backbone, nnx.merge(graph, trained)), batch)["task"].pooled.mean

    gradient = nnx.merge(graph, jax.jit(jax.grad(loss))(trained))
    targets = torch.cat([torch.tensor(list(row.targets)) for row in EXPORTED])
    torch.nn.functional.cross_entropy(torch.cat(wanted), targets).backward()
    layers, heads, width = ours.backbone.kv_shape
    found = theirs.prompt_encoder["default"].embedding.weight.grad.reshape(P, layers, 2, heads, width)
    keys, values = found.permute(2, 1, 0, 3, 4)
    compare(family, "prefix gradient", gradient.keys[...][0], keys)
    compare(family, "prefix gradient", gradient.values[...][0], values)


def test_texts(pair, torch):
    """By peft's forward pass, token by token: its generate() drops the prefix (peft 0.21, transformers 5)."""
    _, ours, theirs = pair
    if ours.backbone.layout == "encoder-decoder":
        pytest.skip("its logits are compared")
    batch = tiny.collate([row._replace(targets=[0]) for row in EXPORTED], [0] * len(EXPORTED))
    texts = generate_after_prompt(ours, batch, max_new_tokens=MOST, stop=[])
    for row, text in zip(EXPORTED, texts, strict=True):
        ids = list(row.inputs)
        for token in text:
            logits = theirs(input_ids=torch.tensor([ids])).logits[0, -1]
            assert token == int(logits.argmax())
            ids.append(token)


@pytest.mark.parametrize("projected", [False, True])
def test_what_peft_saves_is_read(projected, torch, peft, tmp_path):
    import transformers

    folder = tiny.save("llama", tmp_path / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=P, prefix_projection=projected, encoder_hidden_size=8
    )
    theirs = peft.get_peft_model(model, config)
    theirs.save_pretrained(tmp_path / "saved")
    prompt = read_adapter(tmp_path / "saved").prompt
    cache = theirs.get_prompt(batch_size=1)
    for i, layer in enumerate(cache.layers):
        for ours, part in ((prompt.keys, layer.keys), (prompt.values, layer.values)):
            expected = part[0].detach().numpy().transpose(1, 0, 2)
            np.testing.assert_allclose(ours[...][0, i], expected, rtol=0, atol=1e-6)
