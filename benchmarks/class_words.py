"""Class words of several tokens: each text read once, beside each text read once per class.

    python benchmarks/class_words.py [--rows 32] [--rounds 3]

77 intents of a bank's customers (the label names of BANKING77, Casanueva et al. 2020), as questions of about
twelve words, on SmolLM2-135M. Both ways must find the same probabilities.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.special import softmax

import work
from duel import peak, report
from mpt.data.task import Example
from mpt.data.tokenise import encode
from mpt.inference.evaluate import BATCH, choice_probabilities, in_batches, target_scores
from mpt.loading.hf import load_pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

PROMPT = 20
INTENTS = """
activate my card; age limit; apple pay or google pay; atm support; automatic top up
balance not updated after bank transfer; balance not updated after cheque or cash deposit
beneficiary not allowed; cancel transfer; card about to expire; card acceptance; card arrival
card delivery estimate; card linking; card not working; card payment fee charged
card payment not recognised; card payment wrong exchange rate; card swallowed; cash withdrawal charge
cash withdrawal not recognised; change pin; compromised card; contactless not working; country support
declined card payment; declined cash withdrawal; declined transfer
direct debit payment not recognised; disposable card limits; edit personal details; exchange charge
exchange rate; exchange via app; extra charge on statement; failed transfer; fiat currency support
get disposable virtual card; get physical card; getting spare card; getting virtual card
lost or stolen card; lost or stolen phone; order physical card; passcode forgotten
pending card payment; pending cash withdrawal; pending top up; pending transfer; pin blocked
receiving money; refund not showing up; request refund; reverted card payment; supported cards and currencies
terminate account; top up by bank transfer charge; top up by card charge; top up by cash or cheque
top up failed; top up limits; top up reverted; topping up by card; transaction charged twice
transfer fee charged; transfer into account; transfer not received by recipient; transfer timing
unable to verify identity; verify my identity; verify source of funds; verify top up; virtual card not working
visa or mastercard; why verify identity; wrong amount of cash received
wrong exchange rate for cash withdrawal
"""
WORDS = tuple(word.strip() for line in INTENTS.strip().split("\n") for word in line.split(";"))
assert len(set(WORDS)) == 77

OPENINGS = ("please tell me", "i ask", "help me understand")
MIDDLES = ("why", "what to do when", "how come")
SUBJECTS = ("my new card", "the transfer to my brother", "a payment at the shop", "the cash machine")
ENDINGS = ("shows an error", "has not gone through", "costs more than before")


def queries(count: int, seed: int = 0) -> list[str]:
    """Made-up questions of about twelve words."""
    rng = np.random.default_rng(seed)
    return [
        " ".join(rng.choice(part) for part in (OPENINGS, MIDDLES, SUBJECTS, ENDINGS)) for _ in range(count)
    ]


def class_by_class(model: Prompted, rows: list[Row]) -> np.ndarray:
    """The probabilities of the classes, each text read again for each class."""
    graph, state = nnx.split(model)
    each = [row._replace(targets=choice) for row in rows for choice in row.choices]
    scores = np.zeros(len(each), np.float32)
    for indices, batch in in_batches(each, [0] * len(each), BATCH, model.backbone.layout):
        scores[indices] = np.asarray(target_scores(graph, state, batch))[: len(indices)]
    return softmax(scores.reshape(len(rows), -1), axis=1)


def timed(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    began = time.perf_counter()
    return function(), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pretrained = load_pretrained(work.SMOLLM2)
    vectors = work.prompts(1, PROMPT, pretrained.backbone.embedding.shape[1])
    model = Prompted(pretrained.backbone, SoftPrompt(jnp.asarray(vectors)))
    examples = [
        Example("Query: {text}\nIntent:", {"text": text}, WORDS[0], WORDS) for text in queries(options.rows)
    ]
    rows = encode(examples, pretrained.tokenizer, 64)
    ways = {
        "once": lambda: choice_probabilities(model, rows),
        "by class": lambda: class_by_class(model, rows),
    }
    found, seconds = {}, {name: [] for name in ways}
    memory = {}
    for name, way in ways.items():  # compiled, and the one that needs less memory first
        found[name] = way()
        memory[name] = peak()
    np.testing.assert_allclose(found["once"], found["by class"], atol=1e-5)
    for _ in range(options.rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way)[1])
    took = {name: median(each) for name, each in seconds.items()}
    report(
        "class_words",
        [
            {
                "classes": len(WORDS),
                "class tokens": float(np.mean([len(word) for word in rows[0].choices])),
                "text tokens": float(np.mean([len(row.inputs) for row in rows])),
                "rows": len(rows),
                "once s": took["once"],
                "by class s": took["by class"],
                "times": took["by class"] / took["once"],
                "once MB": memory["once"],
                "differ by": float(np.abs(found["once"] - found["by class"]).max()),
            }
        ],
    )


if __name__ == "__main__":
    main()
