"""The tokens nearest to vectors, as a plain formulation finds them."""

import jax.numpy as jnp
import numpy as np

from mpt.insight import tokens
from mpt.insight.tokens import nearest_tokens, spelled, token_norms


def test_nearest_tokens_equal_the_plain_formulation(pretrained, monkeypatch):
    """In parts of the vocabulary, of which the last is shorter."""
    monkeypatch.setattr(tokens, "CHUNK", 100)
    backbone = pretrained.backbone
    table = np.asarray(backbone.embedding[...], np.float64)
    vectors = np.random.default_rng(0).normal(size=(6, 32)).astype(np.float32)
    found = nearest_tokens(backbone, vectors, 4)
    sizes = np.maximum(np.linalg.norm(table, axis=1), 1e-9)  # that of padding is zero
    cosines = (vectors @ table.T) / np.outer(np.linalg.norm(vectors, axis=1), sizes)
    np.testing.assert_array_equal(found.ids, np.argsort(-cosines, axis=1)[:, :4])
    np.testing.assert_allclose(found.cosines, -np.sort(-cosines, axis=1)[:, :4], rtol=1e-5)
    scale = np.asarray(backbone.ends["final_norm"][...], np.float64)
    normed = vectors / np.sqrt(np.square(vectors).mean(axis=1, keepdims=True) + backbone.spec.norm_eps)
    np.testing.assert_array_equal(found.read_out, np.argsort(-(normed * scale) @ table.T, axis=1)[:, :4])
    np.testing.assert_allclose(token_norms(backbone), np.linalg.norm(table, axis=1), rtol=1e-5)


def test_an_embedded_token_is_nearest_to_itself(pretrained):
    ids = np.array([7, 200, 41])
    found = nearest_tokens(pretrained.backbone, np.asarray(pretrained.backbone.embed(jnp.asarray(ids))), 2)
    np.testing.assert_array_equal(found.ids[:, 0], ids)
    np.testing.assert_allclose(found.cosines[:, 0], 1, rtol=1e-5)


def test_tokens_can_be_told_apart_on_the_screen(pretrained):
    tokenizer = pretrained.tokenizer
    seen = [spelled(tokenizer, token) for token in range(len(tokenizer))]
    assert "·good" in seen and "↵" in seen
    assert all(word and word.isprintable() and " " not in word for word in seen)
    assert len(set(seen)) == len(seen)
    assert spelled(tokenizer, len(tokenizer) + 5)  # a row of the table that no token has
