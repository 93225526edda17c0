"""Which texts begin with the beginning-of-text token: those of tokenizers that add it, once each."""

from __future__ import annotations

import pytest
from tokenizers import processors
from toys import beginning_tokenizer, tiny_tokenizer, write_task

from mpt.catalog.library import find_task
from mpt.data.stored import stored_rows
from mpt.data.task import Example
from mpt.data.tokenise import encode, first_token
from mpt.errors import UserError

WORDS = ("good", "bad")


def example(text: str, target: str = "good", choices=WORDS) -> Example:
    return Example("{text}\nSo:", {"text": text}, target, choices)


def idle_tokenizer():
    """It has the token, and never adds it, as SmolLM2's."""
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = tokenizer.pad_token
    return tokenizer


def closing_tokenizer():
    """It adds the token, and one after the text."""
    tokenizer = beginning_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> $A <eos>", pair="$A $B", special_tokens=[("<pad>", 1), ("<eos>", 0)]
    )
    return tokenizer


def ending_tokenizer():
    """It has the token, and adds another one after the text alone."""
    tokenizer = idle_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <pad>", pair="$A $B", special_tokens=[("<pad>", 1)]
    )
    return tokenizer


@pytest.mark.parametrize(
    ("make", "rule", "token"),
    [
        (beginning_tokenizer, "auto", 1),
        (closing_tokenizer, "auto", 1),
        (idle_tokenizer, "auto", None),
        (ending_tokenizer, "auto", None),
        (tiny_tokenizer, "auto", None),
        (beginning_tokenizer, "false", None),
        (idle_tokenizer, "true", 1),
        (beginning_tokenizer, "true", 1),
    ],
)
def test_the_tokenizers_own_behaviour_decides_and_the_option_before_it(make, rule, token):
    assert first_token(make(), rule) == token


def test_what_the_tokenizer_lacks_cannot_be_asked_for():
    with pytest.raises(UserError, match=r"model\.bos is true, and the tokenizer has no beginning-of-text"):
        first_token(tiny_tokenizer(), "true")


@pytest.mark.parametrize("text", ["so we go", "<pad>so we go", "", "a " * 40])
@pytest.mark.parametrize("choices", [WORDS, ()])
def test_an_input_has_it_once_in_front_and_a_target_never(text, choices):
    tokenizer = beginning_tokenizer()
    (row,) = encode([example(text, choices=choices)], tokenizer, 24, bos=1)
    (bare,) = encode([example(text.removeprefix("<pad>"), choices=choices)], tokenizer, 23)
    assert list(row.inputs) == [1, *bare.inputs]
    assert (row.targets, row.choices, row.lost) == (bare.targets, bare.choices, bare.lost)
    assert len(row.inputs) <= 24


@pytest.mark.parametrize(
    ("make", "front", "end"),
    [
        (beginning_tokenizer, [1], []),  # as T5Gemma's
        (closing_tokenizer, [1], [0]),
        (ending_tokenizer, [], [1]),
        (tiny_tokenizer, [], [0]),  # it says nothing
    ],
)
def test_an_encoders_text_ends_as_the_tokenizer_ends_it(make, front, end):
    tokenizer = make()
    bare = tokenizer("so we go\nSo:", add_special_tokens=False)["input_ids"]
    bos = first_token(tokenizer, "auto")
    (row,) = encode([example("so we go")], tokenizer, 24, "encoder-decoder", bos=bos)
    assert list(row.inputs) == [*front, *bare, *end]
    assert row.targets[-1] == tokenizer.eos_token_id


def test_it_counts_where_nothing_of_a_text_is_left():
    tokenizer = tiny_tokenizer()
    words = len(tokenizer("\nSo:")["input_ids"])
    with pytest.raises(UserError, match=rf"the template's own words take {words + 1} tokens"):
        encode([example("so we go")], tokenizer, words + 1, bos=1)


def test_rows_on_disk_with_it_are_others_than_those_without(tmp_path):
    task, tokenizer = find_task(str(write_task(tmp_path, "tone"))), beginning_tokenizer()
    with_it, without = (stored_rows(task, "train", tokenizer, 24, "decoder", bos=bos) for bos in (1, None))
    assert [list(row.inputs) for row in with_it] == [[1, *row.inputs] for row in without]
