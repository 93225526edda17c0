"""Where new tasks start: the prompts of a finished run, or one of a bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float

from mpt.cards.bank import Bank
from mpt.cards.card import Card
from mpt.config.options import WHOLE, BosRule
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.prompts.initial import instruction_words
from mpt.prompts.multitask import MultitaskPrompt
from mpt.prompts.saved import has_prompt, load_prompt, misfit, read_from
from mpt.prompts.soft import SoftPrompt
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.rundir.found import in_bank
from mpt.system.paths import HUB, finished_run

Startable = MultitaskPrompt | SoftPrompt | UniversalPrefix  # what new tasks can start from


@runtime_checkable
class Source(Protocol):
    """The prompts that new tasks start from.

    Attributes:
        name: as the user gave it: a run directory, or a prompt of a bank.
    """

    @property
    def name(self) -> str: ...

    def prompt(self) -> tuple[Startable, list[str]]:
        """The universal prompt, or a plain one, and the names of the tasks that it was trained on."""
        ...

    def teachers(self) -> tuple[Float[Array, "K P D"], list[str]] | None:
        """The source tasks' own prompts, and the names of those tasks; None if none were saved."""
        ...


@dataclass(frozen=True)
class SavedSource:
    """Prompts on disk.

    Attributes:
        name: the run directory of `pretrain` or `import`, here, at gs:// or hf://; or BANK/NAME.
        pretrained: the backbone that they must fit; None does not check it.
    """

    name: str
    pretrained: Pretrained | None = None

    def prompt(self) -> tuple[Startable, list[str]]:
        prompt, card = saved_start(self.name, self.pretrained)
        return prompt, card.prompts

    @property
    def bos_rule(self) -> BosRule:
        """Whether the texts that the prompts were trained on began with the beginning-of-text token."""
        run = None if in_bank(self.name) else finished_run(self.name)
        if run and not has_prompt(run, "universal") and has_prompt(run, "teachers"):
            return load_prompt(run, "teachers", self.pretrained)[1].bos_rule
        return saved_start(self.name, self.pretrained)[1].bos_rule

    def teachers(self) -> tuple[Float[Array, "K P D"], list[str]] | None:
        folder = None if in_bank(self.name) else finished_run(self.name)
        if folder is None or not folder.is_dir():
            return None
        prompt, card = load_prompt(folder, "teachers", self.pretrained)
        assert isinstance(prompt, SoftPrompt)
        if prompt.layer:
            raise UserError(
                f"{self.name}: its prompts enter before layer {prompt.layer}, and methods that take source "
                "tasks' own prompts put these in front of the embeddings; name a run without vectors.layer"
            )
        return prompt.compose(), card.prompts


def as_trained(pretrained: Pretrained, source: str, rule: BosRule) -> Pretrained:
    """The backbone with the beginning-of-text rule of the texts that the initial prompts were trained on.

    Args:
        source: these prompts' name as the user gave it; empty if there are none.
        rule: the run's own rule, which takes precedence unless it is "auto".
    """
    if not source or rule != "auto":
        return pretrained
    return pretrained.beginning(SavedSource(source, pretrained).bos_rule)


def for_tasks(
    universal: MultitaskPrompt | UniversalPrefix,
    tasks: Sequence[Task],
    pretrained: Pretrained,
    together: bool = False,
) -> MultitaskPrompt | UniversalPrefix:
    """The start of new tasks, with their instructions if the source tasks had theirs."""
    if isinstance(universal, UniversalPrefix):  # its texts had their instructions
        return universal.for_targets(instruction_words(tasks, WHOLE, pretrained))
    words, instructions = universal.words, None
    if words is not None:
        length = WHOLE if reads_instructions(universal) else words.shape[1]
        instructions = instruction_words(tasks, length, pretrained, universal.layer)
    return universal.for_targets(len(tasks), together, instructions)


def reads_instructions(prompt: object) -> bool:
    """Whether each text that a universal prompt was trained on began with its instruction."""
    words = prompt.words if isinstance(prompt, MultitaskPrompt | UniversalPrefix) else None
    return words is not None and not words.shape[1]


def saved_start(path: str, pretrained: Pretrained | None = None) -> tuple[Startable, Card]:
    """The prompt that new tasks start from: the universal one of a run, or a prompt of a bank.

    Args:
        path: the run directory of `pretrain` or `import`, here, at gs:// or hf://; or BANK/NAME.

    Raises:
        UserError: there is none, it is damaged, or it was trained on another backbone.
    """
    if in_bank(path):
        bank, _, name = path.rstrip("/").rpartition("/")
        prompt, card = read_from(Bank(bank or "."), name)
        if pretrained and (fault := misfit(card, pretrained)):
            raise UserError(f"{path}: {fault}")
    else:
        run = finished_run(path)
        if path.startswith(HUB) and not has_prompt(run, "universal"):
            raise UserError(
                f"{path}: no universal prompt in it; for a bank, name the prompt too: {path}/NAME"
            )
        prompt, card = load_prompt(run, "universal", pretrained)
    if not isinstance(prompt, Startable):
        raise UserError(
            f"{path}: it is more than a prompt ({card.kind}), and no other prompt can start from it"
        )
    return prompt, card
