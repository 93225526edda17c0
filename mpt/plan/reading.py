"""Tasks as a model reads them, whose weights need not be here: how many rows, and how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mpt.catalog.library import find_task
from mpt.config.options import ModelConfig
from mpt.data.class_tree import Trie
from mpt.data.splits import SPLITS
from mpt.data.task import Task
from mpt.data.tokenise import encode, first_token, opening_of
from mpt.errors import UserError
from mpt.loading.hf import Pretrained, load_tokenizer
from mpt.loading.shapes import abstract_backbone, local_path
from mpt.pretraining.wordings import MOST
from mpt.system.said import say
from mpt.training.stage import SAMPLE, Lengths

AMONG = 2000  # the rows whose tokens are counted are drawn from the first so many
CLASS_TOKENS, TEXT_TOKENS = 2, 32  # a target's, where they cannot be counted
GUESSED = "?"  # the hash of a backbone whose weights are not read


def outline(config: ModelConfig) -> Pretrained:
    """A backbone in shapes alone, with its tokenizer if that is here; else words stand for its tokens."""
    backbone = abstract_backbone(config.name, decoder_prompt=config.decoder_prompt)
    tokenizer = _tokenizer(config.name) or word_counter()
    return Pretrained(config.name, backbone, tokenizer, GUESSED, first_token(tokenizer, config.bos))


def _tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    here = local_path(name)
    try:
        return load_tokenizer(str(here))[0] if here else None
    except UserError:  # a folder with a config alone
        return None


def word_counter() -> PreTrainedTokenizerFast:
    """A tokenizer that makes one token of each word: it stands in for one that is not here."""
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, name_or_path=GUESSED, eos_token="?")


@dataclass(frozen=True)
class Reading:
    """A task as a model reads it.

    Attributes:
        rows: split -> number of its rows; None if it is not known.
        inputs: tokens of a row's input; ``labels`` of its target.
        counted: True: measured means over rows; False: upper bounds.
        nodes: mean inner nodes of the tree of class words, without the root; None for free text.
        longest: the most tokens that an input can have.
        decoder: the model is a decoder, which reads the targets too, but for their last token.
    """

    task: Task
    rows: dict[str, int | None]
    inputs: float
    labels: float
    nodes: float | None
    counted: bool
    longest: int
    decoder: bool

    @classmethod
    def of(cls, name: str, max_length: int, pretrained: Pretrained) -> Reading:
        """A task by its name or file.

        Args:
            max_length: the most tokens of an input.
            pretrained: see ``outline``.
        """
        task, layout = find_task(name), pretrained.backbone.layout
        say(f"counting the rows of {task.name}")
        rows = {split: _count(task, split) for split in SPLITS}
        if not task.source.is_local or pretrained.tokenizer.name_or_path == GUESSED:
            labels = CLASS_TOKENS if task.choices else TEXT_TOKENS
            nodes = len(task.choices) * (CLASS_TOKENS - 1) if task.choices else None
            return cls(task, rows, max_length, labels, nodes, False, max_length, layout == "decoder")
        first = list(islice(task.examples("train"), AMONG))
        sample = np.random.default_rng(0).permutation(len(first))[:SAMPLE]
        drawn_rows = [first[i] for i in sample]
        tokenizer, bos = pretrained.tokenizer, pretrained.bos
        opening = opening_of([task], tokenizer, layout, bos)
        encoded = encode(drawn_rows, tokenizer, max_length, layout, bos=bos, opening=opening)
        inputs = float(np.mean([len(row.inputs) for row in encoded]))
        labels = float(np.mean([len(row.targets) for row in encoded]))
        trees = [len(Trie.of(row.choices).tokens) for row in encoded if row.choices]
        nodes = float(np.mean(trees)) if trees else None
        return cls(task, rows, inputs, labels, nodes, True, max_length, layout == "decoder")

    def lengths(self, rows: int | None) -> Lengths:
        """What a stage must know of so many of its rows."""
        text = self.inputs + (self.labels - 1 if self.decoder else 0)
        return Lengths(rows, text, self.labels, self.longest, self.nodes)


def reworded(reading: Reading, wordings: int, pretrained: Pretrained) -> Lengths:
    """The lengths of a task's rows in other wordings, at most: after its instruction and its classes."""
    ids: Any = pretrained.tokenizer(reading.task.hard_prompt)["input_ids"]
    asked = len(ids) + min(len(reading.task.choices), MOST) * (reading.labels + 1)
    rows = reading.rows["train"]
    lengths = reading.lengths(None if rows is None else rows * wordings)
    return replace(lengths, text=min(lengths.text + asked, reading.longest))


def _count(task: Task, split: str) -> int | None:
    """The rows of a split; None also where there is no such split, which not every run needs."""
    if task.learned == "all" and task.source.is_local and task.source.has(split):
        return sum(1 for _ in task.load(split))  # a conversation is several
    return task.source.count(split, task.hashed) if task.source.has(split) else None


def drawn(reading: Reading, shots: int, per: Literal["class", "task"] = "class") -> int | None:
    """The training rows that few shots leave of a task's; None if they are not known."""
    rows = reading.rows["train"]
    classes = max(len(reading.task.choices), 1) if per == "class" else 1
    return min(rows, shots * classes) if shots and rows is not None else rows
