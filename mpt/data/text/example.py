"""One text-to-text example, as plain text or as a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mpt.data.text.messages import Turn

# How a class word's score is computed from its tokens' log-probabilities.
Scoring = Literal["sum", "mean"]
# Where a prompt stands: in front of everything, or inside a chat's first user turn.
Place = Literal["front", "user"]


@dataclass(frozen=True)
class Example:
    """One text-to-text example.

    Attributes:
        template: the input text with placeholders such as ``{field}``.
        fields: the texts of the placeholders. They are kept apart so that truncation shortens a field and
            never the words of the template.
        target: the text to produce.
        choices: the class words to choose from; empty for free text.
        references: all texts that count as correct, the target first.
        group: the name of the group that it is scored with, for metrics that score groups.
        scoring: how the choices are scored.
        turns: of a chat, the turns before the reply, with placeholders as in ``template``; empty if the
            input is plain text.
        place: where the prompt stands.
    """

    template: str
    fields: Mapping[str, str]
    target: str
    choices: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    group: str = ""
    scoring: Scoring = "sum"
    turns: tuple[Turn, ...] = ()
    place: Place = "front"

    @property
    def inputs(self) -> str:
        """The input text: the template with its fields filled in."""
        return self.template.format_map(self.fields)

    @property
    def is_of_conversation(self) -> bool:
        """Whether it comes from a conversation in the data, each of whose turns is a field."""
        return bool(self.turns) and len(self.turns) == len(self.fields) and "turn0" in self.fields

    @property
    def conversation(self) -> list[Turn]:
        """The turns before the reply, with the fields filled in."""
        return [Turn(role, content.format_map(self.fields)) for role, content in self.turns]

    @property
    def label(self) -> int:
        """The index of the target among the choices."""
        return self.choices.index(self.target)
