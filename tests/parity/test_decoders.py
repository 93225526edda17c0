"""Every decoder family equals transformers, and its prompts' gradients equal peft's."""

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
    Row([5, 9, 11, 4, 7, 7, 30, 21, 22, 40, 3, 17], [8, 12, 6]),
    Row([33, 5], [9]),
    Row([6, 14, 25, 36, 47, 2, 19], [20, 41]),
]
PROMPT, WIDTH = 4, 32


@pytest.fixture(scope="module", params=tiny.DECODERS)
def pair(request, tmp_path_factory):
    folder = tiny.save(request.param, tmp_path_factory.mktemp("model"))
    return request.param, load_pretrained(str(folder)).backbone, tiny.reference(request.param, folder)


def prompts(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, PROMPT, WIDTH)).astype(np.float32)


def whole(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids with all targets, the mask of real tokens, and the labels, as torch tensors."""
    texts = [torch.tensor([*row.inputs, *row.targets]) for row in rows]
    labels = [torch.tensor([-100] * len(row.inputs) + row.targets) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad(texts, batch_first=True)
    mask = pad([torch.ones_like(text) for text in texts], batch_first=True)
    return ids, mask, pad(labels, batch_first=True, padding_value=-100)


def at_labels(values: torch.Tensor, past: int = 0) -> np.ndarray:
    """The entries at the positions that predict a target."""
    return np.concatenate(
        [
            values[i, past + len(row.inputs) - 1 :][: len(row.targets)].detach().numpy()
            for i, row in enumerate(ROWS)
        ]
    )


def texts(values: torch.Tensor) -> np.ndarray:
    """The entries at the tokens that are read, row after row: all but each row's last target."""
    lengths = [len(row.inputs) + len(row.targets) - 1 for row in ROWS]
    return np.concatenate([values[i, :length].detach().numpy() for i, length in enumerate(lengths)])


def test_padded_texts_without_a_prompt(pair, compare):
    family, backbone, model = pair
    batch = tiny.collate(ROWS, [0, 0, 0])
    output = jax.jit(lambda b, p: b(batch, p))(backbone, np.zeros((1, 0, WIDTH), np.float32))
    ids, mask, _ = whole(ROWS)
    with torch.no_grad():
        theirs = model(ids, attention_mask=mask, output_hidden_states=True)
    compare(family, "logits", output.logits[batch.labelled], at_labels(theirs.logits))
    compare(family, "hidden", output.hidden[0][batch.text], texts(theirs.hidden_states[-1]))


def test_mixed_prompts_in_front(pair, compare):
    family, backbone, model = pair
    index, vectors = [1, 0, 1], prompts(2)
    batch = tiny.collate(ROWS, index)
    output = jax.jit(lambda b, p: b(batch, p))(backbone, vectors)
    ids, mask, _ = whole(ROWS)
    embedded = torch.cat([torch.tensor(vectors[index]), model.get_input_embeddings()(ids)], dim=1)
    mask = torch.cat([torch.ones(len(ROWS), PROMPT, dtype=mask.dtype), mask], dim=1)
    with torch.no_grad():
        theirs = model(inputs_embeds=embedded, attention_mask=mask, output_hidden_states=True)
    compare(family, "prompted logits", output.logits[batch.labelled], at_labels(theirs.logits, PROMPT))
    last = theirs.hidden_states[-1][:, PROMPT:]
    compare(family, "prompted hidden", output.hidden[0][batch.text], texts(last))


def test_prompt_gradient(pair, compare):
    family, backbone, model = pair
    batch, vectors = tiny.collate(ROWS, [0, 0, 0]), prompts(1)

    @jax.jit
    def gradient(backbone, vectors):
        def loss(vectors):
            return cross_entropy(backbone(batch, vectors).logits, batch.targets, batch.labelled).mean

        return jax.grad(loss)(vectors)

    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=PROMPT)
    tuned = peft.get_peft_model(model, config)
    weight = tuned.prompt_encoder["default"].embedding.weight
    weight.data = torch.tensor(vectors[0])
    ids, mask, labels = whole(ROWS)
    tuned(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
    compare(family, "prompt gradient", gradient(backbone, vectors)[0], weight.grad)
