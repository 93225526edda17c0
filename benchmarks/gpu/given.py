"""What both programs are given: rows of a public task as token ids, and models as configs and shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cases import REAL, Scale, Step


class Rows(NamedTuple):
    """Tokenised rows of a task.

    Attributes:
        inputs: token ids of each row's text.
        choices: token ids of each class word.
    """

    inputs: list[list[int]]
    choices: list[list[int]]

    @classmethod
    def read(cls, folder: Path) -> Rows:
        return cls(**json.loads((folder / "rows.json").read_text()))

    def for_step(self, step: Step, vocab: int) -> list:
        """Rows of exactly so many tokens, out of all texts end to end, and the token that follows each."""
        text = np.concatenate(self.inputs) % vocab
        starts = range(0, step.rows * step.tokens, step.tokens)
        cuts = [text[start : start + step.tokens + 1].tolist() for start in starts]
        return [(cut[:-1], cut[-1:], (), 0) for cut in cuts]


def write_rows(folder: Path, count: int) -> None:
    """Tweets with their sentiment, from a Python package."""
    from mpt.catalog.library import find_task
    from mpt.data.tokenise import encode
    from mpt.loading.hf import load_tokenizer

    tokenizer, layout = load_tokenizer(REAL)
    examples = list(find_task("tweets").examples("train"))
    drawn = np.random.default_rng(0).permutation(len(examples))[:count]
    rows = encode([examples[i] for i in drawn], tokenizer, 64, layout)
    _write(folder, Rows([list(map(int, row.inputs)) for row in rows], [list(ids) for ids in rows[0].choices]))


def write_random_rows(folder: Path, scale: Scale) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 12, size=scale.answers)
    _write(folder, Rows([rng.integers(256, size=length).tolist() for length in lengths], [[7], [8], [9]]))


def _write(folder: Path, rows: Rows) -> None:
    (folder / "rows.json").write_text(json.dumps(rows._asdict()))


def write_model(folder: Path, facts: dict[str, Any]) -> None:
    """A model's config, and the names and shapes of its tensors, as transformers has them."""
    import torch
    import transformers

    from peft_worker import auto_class

    facts = dict(facts)
    config = transformers.AutoConfig.for_model(facts.pop("model_type"), **facts)
    with torch.device("meta"):
        model = auto_class(config).from_config(config)
    config.save_pretrained(folder)
    shapes = {name: list(weight.shape) for name, weight in model.named_parameters()}
    (folder / "shapes.json").write_text(json.dumps(shapes))


def write_models(folder: Path, scale: Scale) -> None:
    for name, facts in scale.models.items():
        write_model(folder / name, facts)
