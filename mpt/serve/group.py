"""Prompts whose rows can share a batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from mpt.data.records import Record
from mpt.data.task import Task
from mpt.inference.predict import Ready
from mpt.loading.hf import Pretrained
from mpt.prompts import PlainPrompt, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Ids


def grouped(opened: Iterable[Ready], pretrained: Pretrained) -> list[Group]:
    """Plain prompts of one length share batches; what is more than a prompt has its own."""
    alike: dict[Hashable, list[Ready]] = {}
    for ready in opened:
        prompt, key = ready.model.prompt, ready.task.name
        if isinstance(prompt, PlainPrompt) and ready.model.backbone is pretrained.backbone:
            key = prompt.compose().shape[1]
        alike.setdefault(key, []).append(ready)
    return [Group(members, isinstance(key, int)) for key, members in alike.items()]


class Group:
    """Tasks whose rows are read by one program.

    Args:
        members: the tasks' prompts.
        plain: they are plain prompts of one length on one backbone; else there is only one.

    Attributes:
        choices: each task's class words as tokens.
        longest_choice: tokens of the longest of these.
        longest: tokens of the longest text, with a class word behind it.
    """

    def __init__(self, members: Sequence[Ready], plain: bool):
        self.members = members
        self.choices = {ready.task.name: _choices(ready) for ready in members}
        self.longest_choice = max((len(ids) for words in self.choices.values() for ids in words), default=1)
        self.longest = max(ready.max_length for ready in members) + self.longest_choice - 1
        self._stacked = _stacked(members) if plain else None

    def one_token(self, task: Task) -> bool:
        """Whether each of the task's class words is one token: then one pass gives all of them."""
        return all(len(ids) == 1 for ids in self.choices[task.name])

    def narrowed(self, places: Sequence[int], rows: int) -> tuple[Prompted, list[int]]:
        """The backbone behind the prompts in use, and each row's among them.

        So many tasks cost no more than a batch's rows. The number of prompts follows from the number of
        rows, so that it adds no programs.

        Args:
            places: each row's prompt among all members.
            rows: rows of the batch, filled up.
        """
        model = self.members[0].model
        if self._stacked is None:
            return model, [self.members[place].place for place in places]
        used, index = np.unique(places, return_inverse=True)
        shown = np.resize(used, min(len(self.members), rows))
        return Prompted(model.backbone, SoftPrompt(self._stacked[shown])), index.tolist()


def _stacked(members: Sequence[Ready]) -> jnp.ndarray:
    prompts = []
    for ready in members:
        assert isinstance(ready.model.prompt, PlainPrompt)
        prompts.append(ready.model.prompt.compose()[ready.place])
    return jnp.stack(prompts)


def _choices(ready: Ready) -> tuple[Ids, ...]:
    task = ready.task
    if not task.choices:
        return ()
    blank = task.example(Record("", dict.fromkeys(task.columns, "")), task.choices[0])
    return ready.encode([blank])[0].choices
