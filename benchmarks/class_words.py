"""Class words of several tokens: each text read once, beside each text read once per class.

    python benchmarks/class_words.py [--rows 32] [--rounds 3] [--words 12 36]

77 intents of a bank's customers (the label names of BANKING77, Casanueva et al. 2020), as questions of 12 and
of 36 words, on SmolLM2-135M. Both ways must find the same probabilities.
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
from mpt.data.class_tree import Trie
from mpt.data.task import Example
from mpt.data.tokenise import encode
from mpt.inference.evaluate import BATCH, choice_probabilities, in_batches, target_scores
from mpt.loading.hf import load_pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

PROMPT = 100
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

QUESTIONS = (
    "please tell me why a payment at the shop shows an error",
    "help me understand how come the transfer to my brother is late",
    "what can i do when my new card has not come yet",
    "i ask why the cash machine took more than it gave me",
)


def questions(count: int, words: int) -> list[str]:
    """Made-up questions of about so many words."""
    mixed = np.random.default_rng(0).choice(QUESTIONS, (count, -(-words // 12)))
    return [", ".join(parts) for parts in mixed]


def class_by_class(model: Prompted, rows: list[Row]) -> np.ndarray:
    """The probabilities of the classes, each text read again for each class."""
    graph, state = nnx.split(model)
    each = [row._replace(targets=choice) for row in rows for choice in row.choices]
    scores = np.zeros(len(each), np.float32)
    for indices, batch in in_batches(each, [0] * len(each), BATCH, model.backbone.layout):
        scores[indices] = np.asarray(target_scores(graph, state, batch))[: len(indices)]
    return softmax(scores.reshape(len(rows), -1), axis=1)


def processor_seconds(function: Callable[[], np.ndarray]) -> float:
    """What a call takes of the processor, which other programs on the machine hardly change."""
    began = time.process_time()
    function()
    return time.process_time() - began


def measured(model: Prompted, rows: list[Row], apart: int, rounds: int) -> dict[str, float]:
    """Both ways in turn, on all rows and on the first few; the one that needs less memory first."""
    few = rows[:apart]
    ways = {
        "once": lambda: choice_probabilities(model, rows),
        "by class": lambda: class_by_class(model, few),
    }
    before, found = peak(), ways["once"]()
    memory = peak() - before
    differ = float(np.abs(found[:apart] - ways["by class"]()).max())
    if differ > 1e-4:
        raise SystemExit(f"the probabilities differ by {differ:.1e}: nothing is compared")
    took = [{name: processor_seconds(way) for name, way in ways.items()} for _ in range(rounds)]
    once = median(each["once"] for each in took) / len(rows)
    by_class = median(each["by class"] for each in took) / len(few)
    return {
        "text tokens": float(np.mean([len(row.inputs) for row in rows])),
        "class tokens": float(sum(map(len, rows[0].choices))),
        "inner nodes": float(len(Trie.of(rows[0].choices).tokens)),
        "by class, CPU s per row": by_class,
        "once, CPU s per row": once,
        "times": by_class / once,
        "MB beside the model": memory,
        "differ by": differ,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--apart", type=int, default=4, help="rows that are read class by class")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, nargs="+", default=[12, 36])
    options = parser.parse_args()
    pretrained = load_pretrained(work.SMOLLM2)
    vectors = work.prompts(1, PROMPT, pretrained.backbone.embedding.shape[1])
    model = Prompted(pretrained.backbone, SoftPrompt(jnp.asarray(vectors)))
    found = []
    for words in options.words:
        texts = questions(options.rows, words)
        examples = [Example("Query: {text}\nIntent:", {"text": text}, WORDS[0], WORDS) for text in texts]
        rows = encode(examples, pretrained.tokenizer, 128)
        found.append(
            {"words": words, "classes": len(WORDS), **measured(model, rows, options.apart, options.rounds)}
        )
    report("class_words", found)


if __name__ == "__main__":
    main()
