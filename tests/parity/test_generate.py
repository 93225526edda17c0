"""Written texts equal transformers', token for token; a wide beam finds the best text of all."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import torch

from mpt.data.tokenise import Row
from mpt.generate import Beam, Sample, generate
from mpt.models.hf import load_pretrained

INPUTS = [[5, 9, 11, 4, 7, 7, 30, 21, 22, 40, 3, 17], [33, 5], [6, 14, 25, 36, 47, 19]]
STOP, MOST, PROMPT, WIDTH = [2, 11, 23], 12, 4, 32


def prompts() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, PROMPT, WIDTH)).astype(np.float32))


def batch(backbone, inputs=INPUTS, index=(1, 0, 1)):
    return tiny.collate([Row(ids, [0]) for ids in inputs], index, backbone.layout)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load_pretrained(str(tiny.save("llama", tmp_path_factory.mktemp("llama")))).backbone


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3_text", "gpt2", "t5-1.1", "umt5"])
def test_greedy_equals_transformers(family, tmp_path):
    tiny.save(family, tmp_path)
    backbone, model, vectors = (
        load_pretrained(str(tmp_path)).backbone,
        tiny.reference(family, tmp_path),
        prompts(),
    )
    ours = generate(backbone, batch(backbone), vectors, most=MOST, stop=STOP)
    for ids, which, text in zip(INPUTS, (1, 0, 1), ours):
        embedded = model.get_input_embeddings()(torch.tensor([ids]))
        embedded = torch.cat([torch.tensor(np.asarray(vectors[which]))[None], embedded], dim=1)
        theirs = model.generate(
            inputs_embeds=embedded,
            attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=MOST,
            eos_token_id=STOP,
            pad_token_id=0,
        )[0].tolist()
        theirs = theirs[1:] if backbone.layout == "encoder-decoder" else theirs  # the start token
        assert text == list(itertools.takewhile(lambda token: token not in STOP, theirs))


def log_probabilities(backbone, ids: list[int], which: int, texts: list[tuple[int, ...]]) -> np.ndarray:
    rows = tiny.collate([Row(ids, list(text)) for text in texts], [which] * len(texts))
    logits = jax.nn.log_softmax(jax.jit(lambda b, p: b(rows, p).logits)(backbone, prompts()))
    taken = np.take_along_axis(np.asarray(logits), rows.targets[..., None], axis=2)[..., 0]
    return np.sum(taken, axis=1, where=rows.labelled)


def test_an_exhaustive_beam_finds_the_best_text(llama, monkeypatch):
    """With three tokens and room for three, all 27 texts and their beginnings fit the beam."""
    vocab, most, stop = (4, 8, 15), 3, 15
    monkeypatch.setattr(type(llama), "logits", _only(type(llama).logits, vocab))
    whole = itertools.product(vocab, repeat=most)
    texts = sorted({text[: text.index(stop) + 1] if stop in text else text for text in whole})
    lengths = np.array([len(text) for text in texts])
    for penalty in (0.0, 1.0):
        method = Beam(27, length_penalty=penalty)
        found = generate(llama, batch(llama), prompts(), most=most, stop=[stop], method=method)
        for ids, which, text in zip(INPUTS, (1, 0, 1), found):
            scores = log_probabilities(llama, ids, which, texts) / lengths**penalty
            assert text == [token for token in texts[scores.argmax()] if token != stop]


def _only(logits, vocab):
    """A model's logits with all other tokens impossible."""
    allowed = np.isin(np.arange(tiny.VOCAB), vocab)
    return lambda self, x: jax.numpy.where(allowed, logits(self, x), -1e9)


def test_a_beam_of_one_is_greedy(llama):
    greedy = generate(llama, batch(llama), prompts(), most=MOST, stop=STOP)
    assert generate(llama, batch(llama), prompts(), most=MOST, stop=STOP, method=Beam(1)) == greedy


def test_sampling_is_repeatable_and_narrows_to_greedy(llama):
    def sample(**options):
        return generate(llama, batch(llama), prompts(), most=MOST, stop=[], method=Sample(**options))

    greedy = generate(llama, batch(llama), prompts(), most=MOST, stop=[])
    assert sample(seed=1) == sample(seed=1) != sample(seed=2)
    assert sample(top_p=1e-6) == sample(temperature=1e-6) == greedy


def test_sampled_tokens_follow_the_distribution(llama):
    rows = 2000
    one = batch(llama, [INPUTS[1]] * rows, [0] * rows)
    drawn = generate(llama, one, prompts(), most=1, stop=[], method=Sample(seed=3))
    logits, _ = llama.start(batch(llama, [INPUTS[1]], [0]), prompts(), 1)
    expected = rows * np.asarray(jax.nn.softmax(logits[0]))
    counts = np.bincount([text[0] for text in drawn], minlength=tiny.VOCAB)
    likely = expected > 20
    assert likely.sum() > 5
    assert (np.abs(counts - expected)[likely] < 5 * np.sqrt(expected[likely])).all()
