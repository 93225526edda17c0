"""Written texts equal transformers', token for token; a wide beam finds the best text of all."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import kept, tiny
from golden.inputs import INDEX, MOST, STOP, TEXTS, WRITTEN, prompts

from mpt.inference.generate import Beam, Sample, generate
from mpt.loading.hf import load_pretrained
from mpt.types import Row

VECTORS = jnp.asarray(prompts(2))


def batch(backbone, inputs=TEXTS, index=INDEX):
    return tiny.collate([Row(ids, [0]) for ids in inputs], index, backbone.layout)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load_pretrained(str(tiny.save("llama", tmp_path_factory.mktemp("llama")))).backbone


@pytest.mark.parametrize("family", WRITTEN)
def test_greedy_equals_transformers(family, tmp_path):
    backbone = load_pretrained(str(tiny.save(family, tmp_path))).backbone
    ours = generate(backbone, batch(backbone), VECTORS, max_new_tokens=MOST, stop=STOP)
    theirs = kept("greedy", family)
    assert ours == [theirs[str(i)].tolist() for i in range(len(TEXTS))]


def log_probabilities(backbone, ids: list[int], which: int, texts: list[tuple[int, ...]]) -> np.ndarray:
    rows = tiny.collate([Row(ids, list(text)) for text in texts], [which] * len(texts))
    logits = jax.nn.log_softmax(jax.jit(lambda b, p: b(rows, p).logits)(backbone, VECTORS))
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
        found = generate(llama, batch(llama), VECTORS, max_new_tokens=most, stop=[stop], method=method)
        for ids, which, text in zip(TEXTS, INDEX, found):
            scores = log_probabilities(llama, ids, which, texts) / lengths**penalty
            assert text == [token for token in texts[scores.argmax()] if token != stop]


def _only(logits, vocab):
    """A model's logits with all other tokens impossible."""
    allowed = np.isin(np.arange(tiny.VOCAB), vocab)
    return lambda self, x: jax.numpy.where(allowed, logits(self, x), -1e9)


def test_a_beam_of_one_is_greedy(llama):
    greedy = generate(llama, batch(llama), VECTORS, max_new_tokens=MOST, stop=STOP)
    assert generate(llama, batch(llama), VECTORS, max_new_tokens=MOST, stop=STOP, method=Beam(1)) == greedy


def test_sampling_is_repeatable_and_narrows_to_greedy(llama):
    def sample(**options):
        return generate(llama, batch(llama), VECTORS, max_new_tokens=MOST, stop=[], method=Sample(**options))

    greedy = generate(llama, batch(llama), VECTORS, max_new_tokens=MOST, stop=[])
    assert sample(seed=1) == sample(seed=1) != sample(seed=2)
    assert sample(top_p=1e-6) == sample(temperature=1e-6) == greedy


def test_sampled_tokens_follow_the_distribution(llama):
    rows = 2000
    one = batch(llama, [TEXTS[1]] * rows, [0] * rows)
    drawn = generate(llama, one, VECTORS, max_new_tokens=1, stop=[], method=Sample(seed=3))
    logits, _ = llama.prefill(batch(llama, [TEXTS[1]], [0]), VECTORS, 1)
    expected = rows * np.asarray(jax.nn.softmax(logits[0]))
    counts = np.bincount([text[0] for text in drawn], minlength=tiny.VOCAB)
    likely = expected > 20
    assert likely.sum() > 5
    assert (np.abs(counts - expected)[likely] < 5 * np.sqrt(expected[likely])).all()
