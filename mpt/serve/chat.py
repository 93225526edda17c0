"""Messages of a chat as the text that the model was trained to read, by its tokenizer's own template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from mpt.data.tokenise import check_ids, end_token
from mpt.errors import UserError, one_line
from mpt.inference.predict import Ready
from mpt.types import Row

Message = dict[str, str]
REPLY = "reply"  # any text that a template leaves as it is


def row_of(messages: Sequence[Message], ready: Ready) -> Row:
    """Messages as the backbone reads them, with the opening of the assistant's turn behind them.

    Raises:
        UserError: the tokenizer has no template, its template does not take these messages, or they are too
            long.
    """
    tokenizer = ready.pretrained.tokenizer
    if not tokenizer.chat_template:
        raise UserError("the model's tokenizer has no chat template; ask /v1/completions")
    ids = _ids(_rendered(messages, tokenizer, opening=True), tokenizer)
    check_ids(ids, tokenizer, ready.pretrained.backbone.embedding.shape[0], "messages")
    if len(ids) > ready.max_length:
        raise UserError(
            f"messages take {len(ids)} tokens, and task {ready.task.name} was trained on at most "
            f"{ready.max_length} (max_length); leave some out"
        )
    return Row(ids, [end_token(tokenizer)])


def turn_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The special token with which the template ends the assistant's turn; none if it has none."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": REPLY}]
    try:
        behind = _rendered(turns, tokenizer, opening=False).rpartition(REPLY)[2]
    except UserError:
        return ()
    first = _ids(behind.strip(), tokenizer)[:1]
    return tuple(token for token in first if token in tokenizer.added_tokens_decoder)


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]  # the template writes them out
    return ids


def _rendered(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, opening: bool) -> str:
    try:
        # A template with a switch for thinking aloud has it off; others do not know the word.
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=opening, enable_thinking=False
        )
    except Exception as error:  # a template is a program of the model's, and raises what it likes
        raise UserError(f"messages: the model's chat template refuses them: {one_line(error)}") from None
    return str(text)
