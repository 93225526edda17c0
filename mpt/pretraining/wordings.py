"""Other wordings of an example: a prompt then learns to read what is asked, and not the tasks by heart.

The instruction stands in front of the text, with the classes in any order, or is left out. Of many classes
there are some. In a part of the wordings, arbitrary words that the text explains stand for the classes
(symbol tuning: Wei et al., EMNLP 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mpt.data.text.example import Example

MOST = 8  # classes of a wording
FEWER = 0.2  # of the wordings of four classes and more leave some out
# The ways of wording, and how often each is taken.
WAYS = {"instruction": 0.25, "both": 0.25, "classes": 0.15, "nothing": 0.05, "renamed": 0.3}

ASKING = ("Answer with", "Choose", "The answer is", "Say")
LISTING = ("Answer", "Choose one", "Classes", "Options")
EXPLAINING = ("Answer", "Say", "Write")
# Common words, most of which are one token to any tokenizer of English.
# fmt: off
SYMBOLS = (
    "apple", "river", "stone", "cloud", "tiger", "lamp",
    "green", "seven", "paper", "music", "north", "silver",
    "bread", "glass", "window", "horse", "table", "garden",
    "winter", "orange", "metal", "rabbit", "forest", "candle",
    "yellow", "doctor", "engine", "pencil", "summer", "bridge",
)
# fmt: on


def reworded(example: Example, instruction: str, rng: np.random.Generator) -> Example:
    """An example in another wording, with what is asked in front of its text.

    Free text has its instruction in front of it, or not.

    >>> example = Example("{text}\\nIt is", {"text": "A joy."}, "good", ("bad", "good"))
    >>> print(reworded(example, "Is it good or bad?", np.random.default_rng(2)).inputs)
    Is it good or bad? Choose good or bad.
    A joy.
    It is
    """
    if not example.choices:
        return _asked(example, instruction if rng.random() < 0.75 else "")
    choices = _some(example, rng)
    left_out = {*example.choices} - {*choices}
    if any(word in instruction for word in left_out):  # it would ask for them
        instruction = ""
    way = str(rng.choice([*WAYS], p=[*WAYS.values()]))
    example = replace(example, choices=tuple(choices))
    if way == "renamed":
        return _renamed(example, instruction if rng.random() < 0.5 else "", rng)
    told = {
        "instruction": instruction,
        "both": f"{instruction} {_one(ASKING, rng)} {either(choices)}.",
        "classes": f"{_one(LISTING, rng)}: {', '.join(choices)}.",
        "nothing": "",
    }
    return _asked(example, told["both" if left_out and way == "instruction" else way])


def either(words: Sequence[str]) -> str:
    """The words as alternatives.

    >>> either(["bad", "good", "neither"])
    'bad, good or neither'
    """
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _some(example: Example, rng: np.random.Generator) -> list[str]:
    """The classes that a wording has, in any order: the right one, and some or all of the others."""
    others = [word for word in example.choices if word != example.target]
    count = len(others)
    if count >= MOST:
        count = int(rng.integers(3, MOST))
    elif count >= 3 and rng.random() < FEWER:
        count = int(rng.integers(1, count))
    chosen = [example.target, *rng.permutation(others)[:count].tolist()]
    return rng.permutation(chosen).tolist()


def _renamed(example: Example, instruction: str, rng: np.random.Generator) -> Example:
    """Arbitrary words in the classes' place, which the text explains."""
    symbols = rng.permutation(SYMBOLS)[: len(example.choices)].tolist()
    meant = either([f"{symbol} for {word}" for symbol, word in zip(symbols, example.choices)])
    target = symbols[example.label]
    renamed = replace(example, choices=tuple(symbols), target=target, references=(target,), scoring="sum")
    return _asked(renamed, f"{instruction} {_one(EXPLAINING, rng)} {meant}.".strip())


def _asked(example: Example, asked: str) -> Example:
    """The example with words of the template's own in front of it."""
    escaped = asked.strip().replace("{", "{{").replace("}", "}}")
    return replace(example, template=f"{escaped}\n{example.template}") if escaped else example


def _one(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
