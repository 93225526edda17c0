"""What a chat template writes in front of the first user's own text.

It is the same in every text of a task: the beginning-of-text token, the system turn, the header of the user's
turn. A prompt inside the user's turn stands after it, so the model reads it once for all rows, in front of
the prompt's vectors, and rows are tokenised without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from mpt.data.text.chat import opened
from mpt.data.text.messages import Turn
from mpt.errors import UserError

SHOWN = 60  # characters of an opening that an error shows


@dataclass(frozen=True)
class Opening:
    """What stands in front of a prompt inside the first user turn.

    Attributes:
        system: the text of the system turn in it; empty where there is none.
        text: as the chat template writes it.
        tokens: as the model reads it.
    """

    system: str
    text: str
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, system: str, text: str, tokens: Sequence[int]) -> Opening:
        """The same from plain values, as JSON has them."""
        return cls(system, text, tuple(map(int, tokens)))

    @property
    def turns(self) -> list[Turn]:
        """The turns in front of the user's."""
        return [Turn("system", self.system)] if self.system else []

    def after(self, turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> str:
        """The text of a conversation after the opening, up to where the assistant's reply begins.

        Raises:
            UserError: it begins in another way, or the template does not take these turns.
        """
        count = len(self.turns)
        roles = [turn.role for turn in turns[count : count + 1]]
        text = opened(turns, tokenizer)
        if list(turns[:count]) != self.turns or roles != ["user"] or not text.startswith(self.text):
            shown = self.text if len(self.text) <= SHOWN else f"{self.text[:SHOWN]}…"
            raise UserError(
                "the prompt stands inside the first user turn (place: user), and the conversation does not "
                f"begin with {shown!r} as the task's do; leave out what stands in front of that turn"
            )
        return text[len(self.text) :]
