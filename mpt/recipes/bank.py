"""Adds prompts to a bank, and reads them for new tasks to start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from mpt.adaptation.result import read_results
from mpt.cards.bank import Bank
from mpt.cards.card import Card
from mpt.config.yaml_file import read_yaml
from mpt.errors import UserError
from mpt.inference.run_prompts import trained
from mpt.prompts import MultitaskPrompt, SoftPrompt
from mpt.prompts.saved import files_of, has_prompt, load_prompt, read_from
from mpt.prompts.source import Startable
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.system.paths import AnyPath


class Entry(NamedTuple):
    """A prompt of a bank: a plain one of one task, or a universal one."""

    name: str
    prompt: Startable
    card: Card


def add(run: AnyPath, bank: Bank) -> Iterator[tuple[str, bool]]:
    """Puts a run's prompts into a bank; each one's name there, and whether it is new.

    Raises:
        UserError: the run has no prompts, or ones that nothing can start from.
    """
    for name, prompt, card in list(_offered(run)):  # all are sound before one is written
        yield bank.add(name, files_of(prompt, card))


def _offered(run: AnyPath) -> Iterator[Entry]:
    """A universal prompt of several tasks, whole; and one plain prompt for each task.

    A task's plain prompt is what was trained for it alone: an adaptation's of its first seed, or a
    teacher; of a run without teachers, the universal prompt's alone for that task.
    """
    model, file = trained(run)
    if model.decoder_prompt:
        raise UserError(
            f"{run}: the last vectors of its prompts go to the decoder (model.decoder_prompt is "
            f"{model.decoder_prompt}), which a bank does not support; train without it"
        )
    prompt, card = _plain(run, file)
    if isinstance(prompt, UniversalPrefix):
        yield Entry("universal" if len(card.prompts) > 1 else card.prompts[0], prompt, card)
        return
    if isinstance(prompt, MultitaskPrompt) and len(card.prompts) > 1:
        yield Entry("universal", prompt, card)
        if has_prompt(run, "teachers"):
            prompt, card = _plain(run, "teachers")
    assert not isinstance(prompt, UniversalPrefix)
    several = len(set(card.prompts)) < len(card.prompts)  # seeds
    vectors = prompt.compose()
    for place, task in enumerate(dict.fromkeys(card.prompts)):
        alone = card.alone(task)
        metrics = _first_seeds(run) if several else alone.metrics
        alone = replace(alone, kind="soft", seeds=card.seeds[:1], metrics=metrics)
        yield Entry(task, SoftPrompt(vectors[place : place + 1], prompt.layer), alone)


def _plain(run: AnyPath, file: str) -> tuple[Startable, Card]:
    prompt, card = load_prompt(run, file)
    if not isinstance(prompt, Startable):
        raise UserError(
            f"{run}: what it holds is more than a prompt ({card.kind}), and only vectors in front of a text "
            "are a start for others; add a run of `--method prompt`, spot or ulpt"
        )
    return prompt, card


def _first_seeds(run: AnyPath) -> dict[str, float]:
    """The figure of an adaptation's first prompt: its card has the mean over all."""
    results = read_results(run)
    if not results:
        raise UserError(f"{run}: no results.json in it; let its run finish first")
    result = results[0]
    return {f"{read_yaml(run / 'config.yaml')['scored']} {result.metric}": result.scores[0]}


def entries(bank: Bank) -> Iterator[Entry]:
    """The prompts of a bank that new tasks can start from; one that cannot be read is reported."""
    for name, (prompt, card) in bank.each(partial(read_from, bank)):
        if isinstance(prompt, Startable):
            yield Entry(name, prompt, card)
