"""Every T5 family equals transformers, and its prompts' gradients equal peft's."""

from __future__ import annotations

import jax
import numpy as np
import peft
import pytest
import tiny
import torch

from mpt.data.tokenise import Row
from mpt.losses import cross_entropy
from mpt.models.hf import load_pretrained

ROWS = [
    Row([5, 9, 11, 4, 7, 7, 30, 21, 22, 40, 3, 17, 2], [8, 12, 6, 2]),
    Row([33, 2], [9, 2]),
    Row([6, 14, 25, 36, 47, 19, 2], [20, 41, 2]),
]
PROMPT, WIDTH = 4, 32


@pytest.fixture(scope="module", params=tiny.ENCODER_DECODERS)
def pair(request, tmp_path_factory):
    folder = tiny.save(request.param, tmp_path_factory.mktemp("model"))
    return request.param, folder, tiny.reference(request.param, folder)


def prompts(count: int, length: int = PROMPT) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, length, WIDTH)).astype(np.float32)


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([torch.tensor(row.inputs) for row in ROWS], batch_first=True)
    labels = pad([torch.tensor(row.targets) for row in ROWS], batch_first=True, padding_value=-100)
    mask = pad([torch.ones(len(row.inputs), dtype=torch.long) for row in ROWS], batch_first=True)
    return ids, mask, labels


@pytest.mark.parametrize("length, quantity", [(0, ""), (PROMPT, "prompted ")], ids=["bare", "prompted"])
def test_forward(pair, compare, length, quantity):
    family, folder, model = pair
    backbone = load_pretrained(str(folder)).backbone
    index, vectors = [1, 0, 1], prompts(2, length)
    batch = tiny.collate(ROWS, index, backbone.layout)
    output = jax.jit(lambda b, p: b(batch, p))(backbone, vectors)
    ids, mask, labels = tensors()
    embedded = torch.cat([torch.tensor(vectors[index]), model.get_input_embeddings()(ids)], dim=1)
    longer = torch.cat([torch.ones(len(ROWS), length, dtype=mask.dtype), mask], dim=1)
    with torch.no_grad():
        theirs = model(
            inputs_embeds=embedded, attention_mask=longer, labels=labels, output_hidden_states=True
        )
    labelled = np.asarray(batch.labelled)
    compare(family, f"{quantity}logits", output.logits[labelled], theirs.logits[labelled])
    encoded, decoded = (np.asarray(part) for part in output.hidden)
    last = theirs.encoder_hidden_states[-1][:, length:]
    compare(family, f"{quantity}hidden", encoded[batch.text], last[mask.bool()])
    last = theirs.decoder_hidden_states[-1]
    compare(family, f"{quantity}hidden", decoded[labelled], last[labelled])


def gradient(backbone, vectors: np.ndarray) -> np.ndarray:
    batch = tiny.collate(ROWS, [0, 0, 0], backbone.layout)

    @jax.jit
    def gradient(backbone, vectors):
        def loss(vectors):
            return cross_entropy(backbone(batch, vectors).logits, batch.targets, batch.labelled).mean

        return jax.grad(loss)(vectors)

    return gradient(backbone, vectors)[0]


def test_prompt_gradient(pair, compare):
    family, folder, model = pair
    vectors = prompts(1)
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=PROMPT, num_transformer_submodules=1
    )
    tuned = peft.get_peft_model(model, config)
    weight = tuned.prompt_encoder["default"].embedding.weight
    weight.data = torch.tensor(vectors[0])
    ids, mask, labels = tensors()
    tuned(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    ours = gradient(load_pretrained(str(folder)).backbone, vectors)
    compare(family, "prompt gradient", ours, weight.grad)


def test_prompts_on_both_sides(pair, compare):
    """Against transformers itself: peft's prompt tuning never gives its second half to the decoder."""
    family, folder, model = pair
    vectors = prompts(1, 2 * PROMPT)
    weight = torch.tensor(vectors[0], requires_grad=True)
    ids, mask, labels = tensors()
    begun = torch.nn.functional.pad(labels.clamp(min=0)[:, :-1], (1, 0))
    embed, count = model.get_input_embeddings(), len(ROWS)
    logits = model(
        inputs_embeds=torch.cat([weight[:PROMPT].expand(count, -1, -1), embed(ids)], dim=1),
        decoder_inputs_embeds=torch.cat([weight[PROMPT:].expand(count, -1, -1), embed(begun)], dim=1),
        attention_mask=torch.cat([torch.ones(count, PROMPT, dtype=mask.dtype), mask], dim=1),
    ).logits[:, PROMPT:]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    ours = gradient(load_pretrained(str(folder), decoder_prompt=PROMPT).backbone, vectors)
    compare(family, "both sides' grad.", ours, weight.grad)
