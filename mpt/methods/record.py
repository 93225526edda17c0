"""The record of a method: everything that the rest of mpt uses of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from flax import nnx
from flax.nnx.filterlib import Filter

from mpt.methods.setting import Setting
from mpt.prompts import PlainPrompt, PromptParam, SoftPrompt
from mpt.prompts.prompted import Prompted


class Start(NamedTuple):
    """A model before training.

    Attributes:
        origin: what it starts from, in a few words.
        trainable: what is trained of it, an NNX filter.
        weight_rate: Adam's peak learning rate for weights, where there are any to train.
    """

    model: Prompted
    origin: str
    trainable: Filter = PromptParam
    weight_rate: float | None = None


def kept_prompt(model: Prompted) -> nnx.Module:
    """The saved form of a trained prompt: plain vectors, if it does not depend on the text."""
    prompt = model.prompt
    if isinstance(prompt, PlainPrompt):
        return SoftPrompt(prompt.compose(), prompt.layer)
    assert isinstance(prompt, nnx.Module)
    return prompt


@dataclass(frozen=True)
class Method:
    """A way to specialise a frozen backbone for a task.

    Attributes:
        name: its name as an option: `--method NAME`.
        title: its name in tables and on cards.
        start: makes the model before training, with a filter for its trained parameters.
        options: the dataclass of its own options, which are given as `--NAME.OPTION`; None: it has none.
        learning_rates: the names of its options that are peak learning rates; tuning multiplies them.
        side_by_side: the prompts of all seeds train in one job; else each seed has a job of its own.
        trained: it is trained by gradient steps; else it is used without training.
        needs_teachers: it starts from the source tasks' own prompts.
        new_vectors: in addition to a source's prompts, it trains vectors that start from scratch.
        has_shared_part: with a universal prompt, it trains the shared part, which can be frozen or shared by
            several tasks.
        late: its prompts can enter before a later layer than the first.
        every_layer: its prompts can be keys and values in every layer.
        keep: returns what is saved of a trained model; None: it is scored, and nothing is saved.
        compared: it is an entry of `mpt compare` under its title, one of ENTRY_NAMES; else there are entries
            for its different starts.
    """

    name: str
    title: str
    start: Callable[[Setting], Start]
    options: type | None = None
    learning_rates: tuple[str, ...] = ()
    side_by_side: bool = True
    trained: bool = True
    needs_teachers: bool = False
    new_vectors: bool = False
    has_shared_part: bool = False
    late: bool = False
    every_layer: bool = False
    keep: Callable[[Prompted], nnx.Module] | None = kept_prompt
    compared: bool = True
