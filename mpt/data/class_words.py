"""Checks that a tokenizer can represent a task's words, and that its classes have different tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from mpt.data.task import Task
from mpt.data.text.chat import check_chat
from mpt.data.tokenise import begins_another, beyond, class_tokens, spell
from mpt.errors import UserError
from mpt.types import Layout

MOST = 5  # faults that are reported
BLANK_TOKENS = "▁Ġ "  # how tokenizers write a blank


def check_words(task: Task, tokenizer: PreTrainedTokenizerBase, layout: Layout, vocab: int) -> None:
    """Refuses a task whose class words or template the tokenizer cannot represent.

    Args:
        layout: whether the model is a decoder or an encoder-decoder.
        vocab: number of rows of its embedding.

    Raises:
        UserError: a class has no token of its own, or two have the same tokens, or a token of the classes or
            of the template is beyond the embedding.
    """
    if task.chat:
        check_chat(task.name, tokenizer, layout)
    words = [word for word in task.choices if word.strip()]
    spelled = dict(zip(words, spell(words, tokenizer, layout, task.chat)))
    scored = dict(zip(words, class_tokens(words, tokenizer, layout, task.chat)))
    faults = [f"class '{word}' is an empty word" for word in task.choices if not word.strip()]
    faults += _unknown(spelled, tokenizer)
    if not faults:
        faults += _alike(spelled)
    if not faults and begins_another(list(scored.values())):
        faults.append("a class word contains the end-of-text token; leave it out")
    for where, ids in [*((f"class '{word}'", scored[word]) for word in words), _template(task, tokenizer)]:
        if fault := beyond(ids, tokenizer, vocab):
            faults.append(f"{where}: {fault}")
    if faults:
        more = f"; and {len(faults) - MOST} more" if len(faults) > MOST else ""
        raise UserError(f"task {task.name}: {'; '.join(faults[:MOST])}{more}")


def _unknown(spelled: Mapping[str, Sequence[int]], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """The fault of words that consist of unknown tokens and blanks."""
    for word, ids in spelled.items():
        tokens: Any = tokenizer.convert_ids_to_tokens([i for i in ids if i != tokenizer.unk_token_id])
        if not any(token.strip(BLANK_TOKENS) for token in tokens):
            yield f"class '{word}' has only unknown tokens in this tokenizer; give it another word"


def _alike(spelled: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """The fault of words with the same tokens."""
    by_tokens = defaultdict(list)
    for word, ids in spelled.items():
        by_tokens[tuple(ids)].append(f"'{word}'")
    for alike in by_tokens.values():
        if len(alike) > 1:
            names = " and ".join(alike)
            yield f"classes {names} have the same tokens in this tokenizer; give them other words"


def _template(task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[str, Sequence[int]]:
    """The words of a task's template, which are checked."""
    text = task.template.format_map(dict.fromkeys(task.columns, " "))
    return "the template", tokenizer(text, add_special_tokens=False)["input_ids"]
