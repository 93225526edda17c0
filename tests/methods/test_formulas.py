"""Each method's formula in NumPy, and its gradient against finite differences of that."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mpt.data.batches import collate
from mpt.methods.adept import AdaptivePrompt
from mpt.methods.attempt import AttentionalPrompt
from mpt.methods.dept import DecomposedPrompt
from mpt.methods.spot import similarities
from mpt.methods.ulpt import UltraLowPrompt, random_projection
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.training.losses import task_loss
from mpt.types import Row

J, K, P, D, R, S, F = 2, 3, 4, 32, 5, 6, 7
# Rows of both prompts; one with targets of several tokens, and one longer than DePT's S.
ROWS = [Row([5, 6, 7, 8], [9]), Row([10, 11], [12, 13, 14]), Row([3, 4, 5, 6, 7, 8, 9, 10], [4])]
TASKS = [1, 0, 1]


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ultra_low() -> UltraLowPrompt:
    return UltraLowPrompt(*map(jnp.asarray, (random(0, J, P, R), random(1, J, D), random(2, J, D))), seed=3)


def decomposed() -> DecomposedPrompt:
    return DecomposedPrompt(*map(jnp.asarray, (random(0, J, P, D), random(1, J, S, R), random(2, J, R, D))))


def attentional() -> AttentionalPrompt:
    parts = random(0, K, P, D), random(1, J, P, D), random(2, J, D, F), random(3, J, F, D)
    return AttentionalPrompt(*map(jnp.asarray, (*parts, random(4, J, D), random(5, J, D))))


def adaptive() -> AdaptivePrompt:
    parts = random(0, J, P, D), random(1, J, D, F), random(2, J, F), random(3, J, F, D), random(4, J, D)
    return AdaptivePrompt(*map(jnp.asarray, parts))


MAKERS = {"ulpt": ultra_low, "dept": decomposed, "adept": adaptive, "attempt": attentional}


def doubles(prompt) -> dict[str, np.ndarray]:
    return {
        str(path[-1]): np.asarray(leaf[...], np.float64)
        for path, leaf in nnx.to_flat_state(nnx.state(prompt))
    }


def formula(name: str, parts: dict[str, np.ndarray], table: np.ndarray) -> tuple[list, list]:
    """Each row's prompt, [P, D], and what is added to its inputs' embeddings, as the papers write it."""
    vectors, shifts = [], []
    for row, j in zip(ROWS, TASKS):
        shift = np.zeros((len(row.inputs), D))
        if name == "ulpt":
            m = np.asarray(random_projection(R, D, 3), np.float64)
            own = np.stack([z @ m @ np.diag(parts["scale"][j]) + parts["shift"][j] for z in parts["low"][j]])
        elif name == "dept":
            own = parts["vectors"][j]
            moves = parts["a"][j] @ parts["b"][j]
            for i in range(min(len(row.inputs), S)):
                shift[i] = moves[i]
        elif name == "adept":
            own = parts["vectors"][j]
            for i, token in enumerate(row.inputs):
                hidden = np.maximum(table[token] @ parts["down"][j] + parts["down_bias"][j], 0)
                shift[i] = hidden @ parts["up"][j] + parts["up_bias"][j]
        else:
            x = table[row.inputs].max(axis=0)
            h = x @ parts["net_down"][j]
            h = (h / (1 + np.exp(-h))) @ parts["net_up"][j]
            h = (h - h.mean()) / np.sqrt(h.var() + 1e-5) * parts["norm_scale"][j] + parts["norm_bias"][j]
            prompts = [*parts["sources"], parts["target"][j]]
            scores = np.array([prompt.max(axis=0) @ h for prompt in prompts]) / (np.e * D)
            shares = np.exp(scores) / np.exp(scores).sum()
            own = parts["target"][j] + sum(a * prompt for a, prompt in zip(shares, prompts))
        vectors.append(own)
        shifts.append(shift)
    return vectors, shifts


def read(prompt, backbone) -> tuple[np.ndarray, list[np.ndarray]]:
    """Each row's prompt, and what is added to its text, targets too."""
    batch = jax.tree.map(jnp.asarray, collate(ROWS, TASKS))
    prefix = prompt.prefix(batch, backbone)
    shift = jnp.zeros((len(batch.tokens), D)) if prefix.shift is None else prefix.shift
    ends = np.cumsum([len(row.inputs) + len(row.targets) - 1 for row in ROWS])
    return np.asarray(prefix.vectors[prefix.prompt_index]), np.split(np.asarray(shift)[: ends[-1]], ends[:-1])


@pytest.mark.parametrize("name", MAKERS)
def test_prompt_is_the_papers_formula(pretrained, name):
    prompt, table = MAKERS[name](), np.asarray(pretrained.backbone.embedding[...], np.float64)
    expected, moves = formula(name, doubles(prompt), table)
    vectors, shifts = read(prompt, pretrained.backbone)
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    for row, shift, move in zip(ROWS, shifts, moves):
        np.testing.assert_allclose(shift[: len(row.inputs)], move, rtol=1e-4, atol=1e-5)
        assert not shift[len(row.inputs) :].any(), "targets are left where they are"


@pytest.mark.parametrize("name", MAKERS)
def test_gradient_is_that_of_the_formula(pretrained, name):
    """Of a random projection of all that the prompt gives; in NumPy by central differences."""
    prompt, table = MAKERS[name](), np.asarray(pretrained.backbone.embedding[...], np.float64)
    weights, moved = random(7, len(ROWS), P, D), [random(8, len(row.inputs), D) for row in ROWS]
    batch = jax.tree.map(jnp.asarray, collate(ROWS, TASKS))
    graph, trainable, frozen = nnx.split(prompt, PromptParam, ...)
    starts = np.cumsum([0, *[len(row.inputs) + len(row.targets) - 1 for row in ROWS]])

    def ours(trainable):
        prefix = nnx.merge(graph, trainable, frozen).prefix(batch, pretrained.backbone)
        total = jnp.sum(weights * prefix.vectors[prefix.prompt_index])
        if prefix.shift is not None:
            total += sum(jnp.sum(m * prefix.shift[s : s + len(m)]) for s, m in zip(starts, moved))
        return total

    def theirs(parts) -> float:
        vectors, shifts = formula(name, parts, table)
        return float(np.sum(weights * vectors) + sum(np.sum(m * s) for m, s in zip(moved, shifts)))

    gradient = jax.jit(jax.grad(ours))(trainable)
    rng = np.random.default_rng(9)
    for path, leaf in nnx.to_flat_state(gradient):
        parts, key, found = doubles(prompt), str(path[-1]), np.asarray(leaf[...], np.float64)
        way = rng.normal(size=found.shape)
        ahead, behind = (theirs(parts | {key: parts[key] + step * way}) for step in (1e-6, -1e-6))
        assert np.sum(found * way) == pytest.approx((ahead - behind) / 2e-6, rel=1e-3, abs=1e-3), key


@pytest.mark.parametrize(
    ("name", "count"), [("soft", 76_800), ("ulpt", 7_936), ("dept", 76_800), ("attempt", 231_936)]
)
def test_parameters_on_t5_base_are_the_papers(name, count):
    """Length 100, width 768; ULPT of rank 64, DePT of length 40 and rank 45 at 256 tokens."""

    def make():
        key, vectors = jax.random.key(0), jnp.zeros((1, 100, 768))
        return {
            "soft": lambda: SoftPrompt(vectors),
            "ulpt": lambda: UltraLowPrompt.start(vectors, 64, 0),
            "dept": lambda: DecomposedPrompt.start(vectors[:, :40], 256, 45, key),
            "attempt": lambda: AttentionalPrompt.start(jnp.zeros((6, 100, 768)), vectors, 100, key),
        }[name]()

    params = nnx.state(nnx.eval_shape(make), PromptParam)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("name", MAKERS)
def test_rows_read_their_prompt_whatever_batch_they_are_in(pretrained, name):
    model = Prompted(pretrained.backbone, MAKERS[name]())
    summed = jax.jit(lambda batch: task_loss(model, batch)["task"].pooled.sum)
    alone = [float(summed(collate([row], [j]))) for row, j in zip(ROWS, TASKS)]
    assert float(summed(collate(ROWS, TASKS))) == pytest.approx(sum(alone), rel=1e-5)


def test_prompts_start_where_they_are_told():
    vectors = jnp.asarray(random(0, J, P, D))
    start = DecomposedPrompt.start(vectors, S, R, jax.random.key(0))
    np.testing.assert_array_equal(start.vectors[...], vectors)
    assert not np.asarray(start.b[...]).any()
    # P-1 dimensions are enough for P vectors about their mean, if they are the right ones: D are.
    np.testing.assert_allclose(UltraLowPrompt.start(vectors, D, 0).compose(), vectors, rtol=1e-3, atol=1e-4)
    near, far = (UltraLowPrompt.start(vectors, rank, 0).compose() for rank in (16, 2))
    assert np.square(near - vectors).sum() < np.square(far - vectors).sum() < np.square(vectors).sum()


def test_similarity_is_the_cosine_of_mean_vectors():
    targets, sources = random(0, J, P, D), random(1, K, P + 1, D)
    for j in range(J):
        for k in range(K):
            a, b = targets[j].mean(axis=0), sources[k].mean(axis=0)
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert similarities(targets, sources)[j, k] == pytest.approx(cosine, rel=1e-4)
