"""Groups of prompts whose rows can share a batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mpt.data.class_tree import NO_TREE, TreeSizes
from mpt.data.records import Record
from mpt.data.task import Task
from mpt.inference.predict import Ready
from mpt.prompts import PlainPrompt, SoftPrompt
from mpt.prompts.class_head import HeadedPrompt, in_front
from mpt.prompts.prompted import Prompted, take_prompts
from mpt.types import Ids


def grouped(opened: Iterable[Ready]) -> list[Group]:
    """Groups plain prompts, and those with a class head, by place and length; each other one stands alone."""
    by_key: dict[Hashable, list[Ready]] = {}
    for ready in opened:
        prompt, backbone, key = ready.model.prompt, ready.model.backbone, ready.task.name
        if isinstance(in_front(prompt), PlainPrompt) and backbone is ready.pretrained.backbone:
            probed = isinstance(prompt, HeadedPrompt) and prompt.probe is not None
            place = backbone.opening, prompt.layer
            key = isinstance(prompt, HeadedPrompt), probed, prompt.extent(1)[1], *place
        by_key.setdefault(key, []).append(ready)
    return [Group(members, isinstance(key, tuple)) for key, members in by_key.items()]


class Group:
    """Tasks whose rows can share a batch.

    Args:
        members: the tasks, each with its prompt.
        stackable: whether the prompts can stand side by side in one model; otherwise there is only one
            member.

    Attributes:
        choices: the token ids of each task's class words.
        longest: maximum number of tokens of a text.
    """

    def __init__(self, members: Sequence[Ready], stackable: bool):
        self.members = members
        self.choices = {ready.task.name: _choices(ready) for ready in members}
        self.longest = max(ready.max_length for ready in members)
        self._stacked = _stacked(members) if stackable else None

    def one_token(self, task: Task) -> bool:
        """Whether every class word of a task is a single token: its rows need no inner nodes."""
        return _one_token(self.choices[task.name])

    def tree(self, one_token: bool) -> TreeSizes:
        """The lengths that one row's class words need in any batch of those tasks, or of all others."""
        words = [choices for choices in self.choices.values() if _one_token(choices) == one_token]
        return jax.tree.map(
            lambda *each: max(each), NO_TREE, *(TreeSizes.of_words(choices) for choices in words)
        )

    def narrowed(self, members: Sequence[int], batch_size: int) -> tuple[Prompted, list[int]]:
        """The model with only those prompts that a batch uses, and the index of each row's among them.

        So a batch costs the same however many tasks are served. The number of prompts is determined by the
        batch size, so that no further programs need to be compiled.

        Args:
            members: the index of each row's prompt among all members.
            batch_size: number of rows of the batch, with padding.
        """
        model = self.members[0].model
        if self._stacked is None:
            return model, [self.members[i].prompt_index for i in members]
        used, index = np.unique(members, return_inverse=True)
        selected = np.resize(used, min(len(self.members), batch_size))
        return Prompted(model.backbone, take_prompts(self._stacked, selected)), index.tolist()


def _stacked(members: Sequence[Ready]) -> SoftPrompt | HeadedPrompt:
    """The prompts of all members, side by side."""
    prompts, indices = [ready.model.prompt for ready in members], [ready.prompt_index for ready in members]
    headed = [prompt for prompt in prompts if isinstance(prompt, HeadedPrompt)]
    if headed:
        return HeadedPrompt.side_by_side(headed, indices)
    plain = [prompt for prompt in prompts if isinstance(prompt, PlainPrompt)]
    return SoftPrompt(jnp.stack([p.compose()[i] for p, i in zip(plain, indices)]), plain[0].layer)


def _one_token(choices: Sequence[Ids]) -> bool:
    return all(len(ids) == 1 for ids in choices)


def _choices(ready: Ready) -> tuple[Ids, ...]:
    task = ready.task
    if not task.choices:
        return ()
    blank = task.example(Record("", dict.fromkeys(task.columns, "")), task.choices[0])
    return ready.encode([blank])[0].choices
