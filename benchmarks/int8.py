"""What 8-bit weights cost on SmolLM2: perplexity and accuracy on real text, and the memory saved.

    python benchmarks/int8.py [--rows 200]

Perplexity is per token of news articles; accuracy is that of movie snippets' sentiment after the
task's hard prompt. Takes about five minutes on two cores.
"""

from __future__ import annotations

import argparse
import math

import jax
import numpy as np
from flax import nnx

from mpt.catalog.library import find_task
from mpt.config.options import PromptConfig
from mpt.data.batches import collate
from mpt.data.task import Example
from mpt.data.tokenise import encode
from mpt.inference.evaluate import grade, predictions
from mpt.loading.hf import load_pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.initial import starting_vectors
from mpt.prompts.prompted import Prompted
from mpt.training.losses import cross_entropy

TOKENS = 64  # of an article


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200, help="texts of each kind")
    count = parser.parse_args().rows
    movies, news = find_task("movies"), find_task("bbc")
    snippets = list(movies.examples("test"))[:count]
    # An article's lead is a free text to write after its title.
    articles = [
        Example("{title}.", example.fields, example.fields["lead"]) for example in news.examples("train")
    ][:count]
    for weights in ("full", "int8"):
        pretrained = load_pretrained("smollm2-135m", weights=weights)
        prose = [
            row._replace(targets=row.targets[:TOKENS])
            for row in encode(articles, pretrained.tokenizer, TOKENS)
        ]
        rows = encode(snippets, pretrained.tokenizer, TOKENS)
        hard = SoftPrompt(starting_vectors(PromptConfig(length=0), [movies], [0], pretrained))
        model = Prompted(pretrained.backbone, hard)
        found = predictions(model, movies, rows, pretrained.tokenizer)
        accuracy = grade(movies, snippets, found)["accuracy"]
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(pretrained.backbone))) / 1e6
        print(
            f"{weights:5} {size:6.0f} MB  perplexity {perplexity(pretrained.backbone, prose):7.3f}"
            f"  accuracy {accuracy:.3f}"
        )


def perplexity(backbone, rows, batch_size: int = 20) -> float:
    """Per target token, with no prompt in front."""
    graph, weights = nnx.split(backbone)
    none = np.zeros((1, 0, backbone.embedding.shape[1]), np.float32)

    @jax.jit
    def nats(weights, batch):
        logits = nnx.merge(graph, weights)(batch, none).logits
        return cross_entropy(logits, batch.targets, batch.labelled).pooled

    rows = sorted(rows, key=lambda row: len(row.inputs) + len(row.targets))
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    terms = [nats(weights, collate(batch, [0] * len(batch))) for batch in batches]
    return math.exp(sum(float(term.sum) for term in terms) / sum(float(term.weight) for term in terms))


if __name__ == "__main__":
    main()
