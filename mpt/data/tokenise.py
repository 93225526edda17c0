"""Tokenises examples into rows of token ids, truncated to a maximum length."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedTokenizerBase

from mpt.config.options import BosRule
from mpt.data.task import Example, Task
from mpt.data.text.chat import check_chat, opened, reply_form, reply_tokens, up_to_user
from mpt.data.text.opening import Opening
from mpt.errors import UserError, warn
from mpt.types import Layout, Row

BLANKS = " \t"


def encode(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    layout: Layout = "decoder",
    vocab: int | None = None,
    bos: int | None = None,
    opening: Opening | None = None,
) -> list[Row]:
    """Tokenises examples into rows.

    For a decoder, the target follows the input after one blank; free text ends with the end-of-text token,
    class words only where they need it. For an encoder-decoder, inputs and targets are separate texts; a
    target ends with that token, and an input as ``input_end`` says. Of a chat, the input is the conversation
    up to where the reply begins, and the target follows as the chat template has it; the end of the
    assistant's turn ends it.

    Args:
        examples: those of one task.
        max_length: maximum number of tokens of an input; a longer one loses the end of its longest field,
            never words of the template, nor half a character.
        layout: whether the model is a decoder or an encoder-decoder.
        vocab: number of rows of the model's embedding; None where there is no model.
        bos: the token that every input begins with, which counts among its tokens; None where it has none.
        opening: what the model reads in front of prompts inside a user's turn. Inputs are without it, though
            it counts among their tokens.

    Raises:
        UserError: a text has a token that the embedding does not have, the template's own words leave no
            room for a text, or a chat begins with other turns than the opening's.
    """
    if any((example.place == "user") != (opening is not None) for example in examples):
        raise UserError(
            "place: only adapt, evaluate, predict and serve have prompts inside the user's turn, and tasks"
            " of one run have theirs in one place; leave it out"
        )

    def read(several: Sequence[Example]) -> list[list[int]]:
        texts = [_text(each, tokenizer, layout, opening) for each in several]
        return [ids if opening else begun(ids, bos) for ids in token_ids(tokenizer, texts)]

    ending = [] if layout == "decoder" else input_end(tokenizer)
    reserved = len(ending) + (len(opening.tokens) if opening else 0)
    chat = any(example.turns for example in examples)
    each = dict.fromkeys(example.choices for example in examples if example.choices)
    tokens_of = {
        choices: dict(zip(choices, class_tokens(choices, tokenizer, layout, chat), strict=True))
        for choices in each
    }
    texts = list(dict.fromkeys(example.target for example in examples if not example.choices))
    if texts:
        spelled, end = spell(texts, tokenizer, layout, chat), answer_end(tokenizer, chat)
        tokens_of[()] = {text: [*ids, end] for text, ids in zip(texts, spelled)}
    rows = []
    for example, inputs in zip(examples, read(examples)):
        whole = len(inputs)
        if whole > max_length - reserved:
            inputs = _shortened(example, tokenizer, max_length, reserved, read)
        lost = whole - len(inputs)
        inputs, target = [*inputs, *ending], tokens_of[example.choices][example.target]
        for ids in (inputs, target):
            if vocab is not None:
                check_ids(ids, tokenizer, vocab, f"the text {example.inputs[:60]!r}")
        if example.choices:
            choices = tuple(tokens_of[example.choices].values())
            rows.append(Row(inputs, target, choices, example.label, scoring=example.scoring, lost=lost))
        else:
            rows.append(Row(inputs, target, lost=lost))
    return rows


def opening_of(
    tasks: Sequence[Task], tokenizer: PreTrainedTokenizerBase, layout: Layout, bos: int | None = None
) -> Opening | None:
    """What stands in front of the tasks' prompts; None where these stand in front of everything.

    Args:
        bos: the token that every text begins with; None where none does.

    Raises:
        UserError: the tasks differ in it, or the model reads no conversations.
    """
    distinct: dict[Opening | None, Task] = {}
    for task in tasks:
        if is_inside := task.place == "user":
            check_chat(task.name, tokenizer, layout)
        distinct.setdefault(_opening(task, tokenizer, bos) if is_inside else None, task)
    if len(distinct) > 1:
        one, other, *_ = (task.name for task in distinct.values())
        raise UserError(
            f"tasks {one} and {other} have other text in front of their prompts (place, system); give them a "
            "run each"
        )
    return next(iter(distinct), None)


def _opening(task: Task, tokenizer: PreTrainedTokenizerBase, bos: int | None) -> Opening:
    text = up_to_user(task.with_system([]), tokenizer)
    return Opening.of(task.system, text, begun(token_ids(tokenizer, [text])[0], bos))


def first_token(tokenizer: PreTrainedTokenizerBase, rule: BosRule) -> int | None:
    """The beginning-of-text token that every text begins with; None where none does.

    Where the rule is "auto", it is the tokenizer's own: a model was trained on what its tokenizer makes of
    a text, and some tokenizers have such a token without ever adding it.

    Raises:
        UserError: it must be there, and the tokenizer has none.
    """
    bos: Any = tokenizer.bos_token_id
    if rule == "false" or (rule == "auto" and bos is None):
        return None
    if bos is None:
        raise UserError(
            "model.bos is true, and the tokenizer has no beginning-of-text token; name one as bos_token in "
            "tokenizer_config.json, or leave the option out"
        )
    whole, bare = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (True, False))
    adds = len(whole) > len(bare) and whole[0] == bos
    return bos if adds or rule == "true" else None


def input_end(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an encoder's text: those that the tokenizer adds at its end.

    Those of T5 add the end-of-text token, those of T5Gemma none. Where a tokenizer adds nothing at all, in
    front or at the end, it does not define how texts end, and they end as T5's.

    Raises:
        UserError: there is no end-of-text token.
    """
    whole, bare = (list(tokenizer("a", add_special_tokens=added)["input_ids"]) for added in (True, False))
    first = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
    return [end_token(tokenizer)] if whole == bare else whole[first + len(bare) :]


def begun(ids: list[int], bos: int | None) -> list[int]:
    """A text's tokens with the beginning-of-text token in front, once; as they are where it is None.

    >>> begun([5, 6], 1), begun([1, 5], 1), begun([5], None)
    ([1, 5, 6], [1, 5], [5])
    """
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


def spell(
    words: Sequence[str], tokenizer: PreTrainedTokenizerBase, layout: Layout, chat: bool = False
) -> list[list[int]]:
    """The tokens of words as they follow a text: after one space in a decoder's, else as texts of their own.

    Blanks around a word do not count, and a tokenizer that begins every text with a blank gets no second one.
    In a chat, they follow the opening of the assistant's turn as its template has it.
    """
    if chat:
        return reply_tokens(words, tokenizer)
    after, colon, alone = token_ids(tokenizer, [": a", ":", "a"])
    blank = "" if layout == "encoder-decoder" or after == colon + alone else " "
    return token_ids(tokenizer, [blank + word.strip() for word in words])


def class_tokens(
    words: Sequence[str], tokenizer: PreTrainedTokenizerBase, layout: Layout, chat: bool = False
) -> list[list[int]]:
    """The tokens by which the class words of a task are scored.

    An encoder-decoder's end with the token that ends an answer. A decoder's do where one of them begins
    another, which would else never be the likelier one.
    """
    spelled = spell(words, tokenizer, layout, chat)
    if layout == "decoder" and not begins_another(spelled):
        return spelled
    return [[*ids, answer_end(tokenizer, chat)] for ids in spelled]


def begins_another(words: Sequence[Sequence[int]]) -> bool:
    """Whether one of several sequences begins another, or is the same.

    >>> begins_another([[5, 6], [7], [5]]), begins_another([[5, 6], [7], [6]])
    (True, False)
    """
    # In alphabetical order, sequences that begin with a sequence follow right after it.
    return any(second[: len(first)] == first for first, second in pairwise(sorted(map(list, words))))


def answer_end(tokenizer: PreTrainedTokenizerBase, chat: bool = False) -> int:
    """The token that ends an answer: of a chat the end of the assistant's turn, else the end of the text.

    Raises:
        UserError: the tokenizer has none.
    """
    end = reply_form(tokenizer).end if chat else None
    return end_token(tokenizer) if end is None else end


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end-of-text token.

    Raises:
        UserError: the tokenizer has none.
    """
    end: Any = tokenizer.eos_token_id
    if end is None:
        raise UserError(
            "the tokenizer has no end-of-text token; name one as eos_token in tokenizer_config.json"
        )
    return end


def beyond(ids: Iterable[int], tokenizer: PreTrainedTokenizerBase, vocab: int) -> str:
    """Why a model with so many embeddings cannot read tokens; empty where it can."""
    lost = max(map(int, ids), default=0)
    if lost < vocab:
        return ""
    token: Any = tokenizer.convert_ids_to_tokens(lost)
    return (
        f"token '{token}' has number {lost}, and the model's embedding has {vocab} rows for the tokenizer's "
        f"{len(tokenizer)} tokens; leave that token out, or use the model's own tokenizer"
    )


def check_ids(ids: Iterable[int], tokenizer: PreTrainedTokenizerBase, vocab: int, name: str) -> None:
    """Refuses tokens that a model cannot read, see ``beyond``; ``name`` is what their text is called."""
    if fault := beyond(ids, tokenizer, vocab):
        raise UserError(f"{name}: {fault}")


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all that determines a tokenizer's output: its vocabulary, rules and special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    serialised = backend.to_str() if backend else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(serialised.encode()).hexdigest()


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of token ids; half a character at its end, where the ids were cut, is left out."""
    return str(tokenizer.decode([*ids])).rstrip("\ufffd")


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The tokens of texts as they stand: nothing is added that is not written there."""
    ids: Any = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return ids


def _text(
    example: Example, tokenizer: PreTrainedTokenizerBase, layout: Layout, opening: Opening | None
) -> str:
    """The input; a decoder's without blanks at its end, since one stands in front of the target."""
    if example.turns:
        try:
            turns = example.conversation
            return opening.after(turns, tokenizer) if opening else opened(turns, tokenizer)
        except UserError as error:
            raise UserError(f"the text {example.inputs[:60]!r}: {error}") from None
    return example.inputs.rstrip(BLANKS) if layout == "decoder" else example.inputs


def warn_of_cut(name: str, lost: Sequence[int] | Int[np.ndarray, " R"], max_length: int) -> None:
    """Says, once, how many of some rows were cut, and by how much.

    Args:
        name: what the rows are.
        lost: how many tokens each of them lost.
    """
    if cut := [int(count) for count in lost if count]:
        mean = round(sum(cut) / len(cut))
        warn(
            f"{len(cut)} of {len(lost)} {name} are longer than max_length, {max_length} tokens, and are "
            "truncated: "
            f"they lose {mean} tokens on average, {max(cut)} at most"
        )


def warn_of_long_targets(task: Task, split: str, rows: Sequence[Row]) -> None:
    """Says how many rows of free text have a longer target than the model will write."""
    count = sum(not row.choices and len(row.targets) > task.max_new_tokens for row in rows)
    if count:
        warn(
            f"{count} of {len(rows)} {split} rows of task {task.name} have a target of more than "
            f"{task.max_new_tokens} tokens, where the model stops; give the task more: max_new_tokens"
        )


def _shortened(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    ending: int,
    read: Callable[[Sequence[Example]], list[list[int]]],
) -> list[int]:
    """The token ids of an input whose longest field is cut at the end until it fits before the ending.

    Args:
        read: gives the token ids of examples' inputs.
    """
    fields, room = dict(example.fields), max_length - ending
    empty = replace(example, fields=dict.fromkeys(fields, ""))
    bare = len(read([empty])[0])
    if bare >= room:
        raise UserError(
            f"max_length is {max_length}, and the template's own words take {bare + ending} tokens: no room "
            f"is left for a text; raise max_length, or shorten the template {example.template!r:.60}"
        )
    while True:
        inputs = read([replace(example, fields=fields)])[0]
        longest = max(fields, key=lambda name: len(fields[name]))
        if len(inputs) <= room or not fields[longest]:
            return inputs
        cut = _beginning(fields[longest], tokenizer, len(inputs) - room)
        fields[longest] = cut if len(cut) < len(fields[longest]) else fields[longest][:-1]


def _beginning(text: str, tokenizer: PreTrainedTokenizerBase, excess: int) -> str:
    """A text without its last ``excess`` tokens, in whole characters and without a blank at its end."""
    if tokenizer.is_fast:
        starts: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text[: starts[-excess][0]].rstrip() if excess <= len(starts) else ""
    kept = len(token_ids(tokenizer, [text])[0]) - excess
    lengths = range(len(text) + 1)
    longest = bisect(lengths, kept, key=lambda length: len(token_ids(tokenizer, [text[:length]])[0])) - 1
    return text[: max(longest, 0)].rstrip()
