"""Examples become rows of tokens, and rows become padded arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from mpt.data.batches import bucket, collate
from mpt.data.task import Example
from mpt.data.tokenise import decoded, encode, warn_of_cut
from mpt.errors import UserError, warnings_once
from mpt.types import Row

CHOICES = ("good", "bad")
IDS = st.lists(st.integers(2, 99), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def tokenizer(pretrained):
    return pretrained.tokenizer


def example(template="{a}\nSo:", target="good", choices=CHOICES, **fields) -> Example:
    return Example(template, fields, target, choices)


def test_target_and_choices_follow_the_input_after_a_space(tokenizer):
    (row,) = encode([example(a="it is", target="bad")], tokenizer, 64)
    assert tokenizer.decode(row.inputs) == "it is\nSo:"
    assert [tokenizer.decode(choice) for choice in row.choices] == [" good", " bad"]
    assert row.targets == row.choices[1]
    assert row.label == 1


def test_free_text_ends_with_the_end_of_text(tokenizer):
    (row,) = encode([example(a="it is", target="red", choices=())], tokenizer, 64)
    assert row.targets[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row.targets[:-1]) == " red"
    assert (row.choices, row.label) == ((), -1)


@given(a=st.text(max_size=60), b=st.text(max_size=60), max_length=st.integers(16, 40))
def test_cut_input_keeps_the_templates_words(tokenizer, a, b, max_length):
    (row,) = encode([example("A: {a}\nB: {b}\nSo:", a=a, b=b)], tokenizer, max_length)
    text = tokenizer.decode(row.inputs)
    assert len(row.inputs) <= max_length
    assert text.startswith("A: ")
    assert "\nB: " in text
    assert text.endswith("\nSo:")


def test_cut_takes_the_end_of_the_longest_field_only(tokenizer):
    (row,) = encode([example("{a}|{b}\nSo:", a="red", b="1 2 3 4 5 6 7 8 9 10 11 12")], tokenizer, 16)
    text = tokenizer.decode(row.inputs)
    assert text.startswith("red|1 2 3")
    assert text.endswith("\nSo:")
    assert 12 <= len(row.inputs) <= 16


SCRIPTS = st.text("aé日本語🙂👩‍👩‍👧ñ \u0301א", max_size=40)


@pytest.fixture(scope="module", params=["fast", "slow"])
def either(request, tokenizer):
    """A tokenizer that knows where its tokens stand in a text, and one that does not; both read bytes."""
    return tokenizer if request.param == "fast" else ByT5Tokenizer()


@given(a=SCRIPTS, b=SCRIPTS, max_length=st.integers(20, 60))
def test_cut_leaves_beginnings_in_whole_characters(either, a, b, max_length):
    a, b = a.strip(), b.strip()
    (row,) = encode([example("A: {a}\nB: {b}\nSo:", a=a, b=b)], either, max_length)
    first, second = str(either.decode(row.inputs)).removeprefix("A: ").removesuffix("\nSo:").split("\nB: ")
    assert a.startswith(first) and b.startswith(second)
    (whole,) = encode([example("A: {a}\nB: {b}\nSo:", a=a, b=b)], either, 1000)
    assert len(row.inputs) == len(whole.inputs) - row.lost <= max_length
    assert (first, second) == (a, b) or (row.lost and max_length - len(row.inputs) < 16)
    assert whole.lost == 0


@pytest.mark.parametrize("layout", ["decoder", "encoder-decoder"])
def test_template_without_room_for_a_text_is_refused(tokenizer, layout):
    words = "Read this review with great care: {a}\nSo:"
    bare = len(tokenizer(words.format(a=""))["input_ids"]) + (layout == "encoder-decoder")
    for max_length in (1, bare // 2, bare):
        with pytest.raises(UserError, match=rf"max_length is {max_length}, .* take {bare} tokens: no room"):
            encode([example(words, a="so good")], tokenizer, max_length, layout)
    (row,) = encode([example(words, a="so good")], tokenizer, bare + 1, layout)
    assert str(tokenizer.decode(row.inputs)).startswith(words.format(a="s"))


def test_cut_rows_are_told_of_once(capsys, tokenizer):
    rows = encode([example(a=a) for a in ("x", "1 2 3 4 5 6 7 8", "1 2 3 4 5 6 7 8 9 0")], tokenizer, 16)
    lost = [row.lost for row in rows]
    assert lost[0] == 0 < lost[1] < lost[2]
    with warnings_once():
        for _ in range(2):
            warn_of_cut("train rows of task toy", lost, 16)
    which = "mpt: warning: 2 of 3 train rows of task toy"
    told = f"{which} are longer than max_length, 16 tokens, and are truncated: "
    average = round((lost[1] + lost[2]) / 2)
    assert capsys.readouterr().err == f"{told}they lose {average} tokens on average, {lost[2]} at most\n"
    warn_of_cut("train rows of task other", [0, 0], 16)
    assert capsys.readouterr().err == ""


def test_text_that_ends_within_a_character_is_written_without_its_half(tokenizer):
    ids = tokenizer("so é日")["input_ids"]
    assert [decoded(tokenizer, ids[:end]) for end in (len(ids), len(ids) - 1)] == ["so é日", "so é"]


def test_short_input_is_left_alone(tokenizer):
    (row,) = encode([example(a="x" * 10)], tokenizer, 64)
    assert tokenizer.decode(row.inputs) == "x" * 10 + "\nSo:"


@given(st.integers(1, 5000), st.sampled_from([2, 4, 8]))
def test_bucket_is_a_little_larger_and_one_of_few(count, parts):
    assert count <= bucket(count, parts) <= max(16, count * (1 + 1 / parts))
    sizes = {bucket(smaller, parts) for smaller in range(1, count + 1)}
    assert len(sizes) <= 1 + parts * np.ceil(np.log2(max(count, 16) / 16))


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=6))
def test_collated_row_can_be_read_back(pairs):
    rows = [Row(inputs, targets) for inputs, targets in pairs]
    batch = collate(rows, range(len(rows)))
    for i, row in enumerate(rows):
        read = batch.tokens[batch.grid[i][batch.filled[i]]]
        assert read.tolist() == [*row.inputs, *row.targets[:-1]]
        assert batch.targets[i][batch.labelled[i]].tolist() == row.targets
    assert batch.prompt_index.tolist() == list(range(len(rows)))


@given(st.lists(st.tuples(IDS, IDS), min_size=1, max_size=6))
def test_each_target_is_predicted_from_the_token_before_it(pairs):
    rows = [Row(inputs, targets) for inputs, targets in pairs]
    batch = collate(rows, [0] * len(rows))
    for i, row in enumerate(rows):
        whole, start = [*row.inputs, *row.targets], batch.grid[i, 0]
        for position, target in zip(batch.positions[i][batch.labelled[i]], row.targets):
            assert whole[position - start + 1] == target
            assert whole[: position - start + 1] == batch.tokens[start : position + 1].tolist()


@given(st.lists(IDS, min_size=1, max_size=6))
def test_grid_and_cells_are_inverse(texts):
    batch = collate([Row(ids, [1]) for ids in texts], [0] * len(texts))
    places, cells = np.arange(batch.tokens.size), np.arange(batch.grid.size)
    assert (batch.grid.reshape(-1)[batch.cells[batch.text]] == places[batch.text]).all()
    assert (batch.cells[batch.grid[batch.filled]] == cells[batch.filled.reshape(-1)]).all()
    assert batch.text.sum() == batch.filled.sum() == sum(map(len, texts))


def test_rows_lie_end_to_end_and_only_the_end_is_filled_up():
    batch = collate([Row([5, 6], [7]), Row([5, 6, 7, 8], [9, 9])], [0, 1])
    assert batch.tokens.tolist() == [5, 6, 5, 6, 7, 8, 9] + [0] * 9
    assert batch.text.tolist() == [True] * 7 + [False] * 9
    assert batch.filled.sum(axis=1).tolist() == [2, 5]
    assert batch.labelled.tolist() == [[True, False], [True, True]]
