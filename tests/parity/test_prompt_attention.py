"""What attention looks at equals the weights that transformers gives, in every family."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import torch

from mpt.data.tokenise import Row
from mpt.insight.attention import prompt_mass
from mpt.models.hf import load_pretrained

# Of several lengths, also longer than the families' windows; targets of one token and of two.
ROWS = [Row([5, 9, 11, 4, 7, 7, 30], [21, 22]), Row([33, 2], [9]), Row([6, 14, 25, 36], [20, 41])]
INDEX, P, D = [1, 0, 1], 4, 32


def prompts() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, P, D)).astype(np.float32)


def mean(weights: torch.Tensor, row: int, queries: range, keys: int) -> np.ndarray:
    """Over heads and queries, by key."""
    return weights[row, :, list(queries), :keys].mean(dim=(0, 1)).numpy()


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_labels_of_a_decoder(family, compare, tmp_path):
    folder = tiny.save(family, tmp_path)
    backbone, model = load_pretrained(str(folder)).backbone, tiny.reference(family, folder)
    found = prompt_mass(backbone, tiny.collate(ROWS, INDEX), jnp.asarray(prompts()))
    assert list(found) == ["labels"]
    wanted = []
    for i, row in enumerate(ROWS):
        read = model.get_input_embeddings()(torch.tensor([*row.inputs, *row.targets[:-1]]))
        embedded = torch.cat([torch.tensor(prompts()[INDEX[i]]), read])[None]
        with torch.no_grad():
            theirs = model(inputs_embeds=embedded, output_attentions=True).attentions
        labels = range(P + len(row.inputs) - 1, embedded.shape[1])
        wanted.append([mean(layer, 0, labels, P) for layer in theirs])
    # All rows at once: a window may hide the prompt from one of them.
    compare(family, "attention", found["labels"], np.swapaxes(wanted, 0, 1))


@pytest.mark.parametrize("family", tiny.ENCODER_DECODERS)
def test_text_and_labels_of_an_encoder_decoder(family, compare, tmp_path):
    folder = tiny.save(family, tmp_path)
    backbone, model = load_pretrained(str(folder)).backbone, tiny.reference(family, folder)
    batch = tiny.collate(ROWS, INDEX, backbone.layout)
    found = prompt_mass(backbone, batch, jnp.asarray(prompts()))
    assert set(found) == {"text", "labels"}
    for i, row in enumerate(ROWS):
        read = model.get_input_embeddings()(torch.tensor(row.inputs))
        embedded = torch.cat([torch.tensor(prompts()[INDEX[i]]), read])[None]
        with torch.no_grad():
            theirs = model(inputs_embeds=embedded, labels=torch.tensor([row.targets]), output_attentions=True)
        text, labels = range(P, embedded.shape[1]), range(len(row.targets))
        wanted = np.stack([mean(layer, 0, text, P) for layer in theirs.encoder_attentions])
        compare(family, "attention", found["text"][:, i], wanted)
        wanted = np.stack([mean(layer, 0, labels, P) for layer in theirs.cross_attentions])
        compare(family, "attention", found["labels"][:, i], wanted)


def test_a_decoders_own_part_of_a_prompt(compare, tmp_path):
    """Its first vectors are what the decoder reads before its own text."""
    folder = tiny.save("t5-1.0", tmp_path)
    backbone, model = (
        load_pretrained(str(folder), decoder_prompt=1).backbone,
        tiny.reference("t5-1.0", folder),
    )
    found = prompt_mass(backbone, tiny.collate(ROWS[:1], [0], backbone.layout), jnp.asarray(prompts()))
    table, row = model.get_input_embeddings(), ROWS[0]
    vectors = torch.tensor(prompts()[0])
    with torch.no_grad():
        theirs = model(
            inputs_embeds=torch.cat([vectors[:-1], table(torch.tensor(row.inputs))])[None],
            decoder_inputs_embeds=torch.cat([vectors[-1:], table(torch.tensor([0, *row.targets[:-1]]))])[
                None
            ],
            output_attentions=True,
        )
    wanted = np.stack([mean(layer, 0, range(1, 3), P - 1) for layer in theirs.cross_attentions])
    compare("t5-1.0", "attention", found["labels"][:, 0], wanted)
    wanted = np.stack([mean(layer, 0, range(1, 3), 1) for layer in theirs.decoder_attentions])
    compare("t5-1.0", "attention", found["labels, decoder"][:, 0], wanted)
