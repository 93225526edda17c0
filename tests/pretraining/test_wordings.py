"""Rows in other wordings ask for the same as before, and a universal prompt learns from them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from toys import stage

from mpt.catalog.library import find_task
from mpt.comparison.estimates import pretraining_seconds
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import from_plain
from mpt.data.text.example import Example
from mpt.data.tokenise import encode
from mpt.errors import UserError
from mpt.inference.predict import open_run
from mpt.methods import AdaptConfig
from mpt.pretraining.reworded_rows import RewordedRows
from mpt.pretraining.wordings import MOST, SYMBOLS, reworded
from mpt.recipes.adapt import adapt
from mpt.recipes.pretrain import pretrain

CLASSES = st.lists(
    st.text("abcdefgh {}", min_size=1, max_size=6).map(str.strip).filter(bool),
    min_size=2,
    max_size=20,
    unique=True,
)


@given(
    classes=CLASSES,
    place=st.integers(0),
    seed=st.integers(0, 2**32 - 1),
    instruction=st.text("xyz {}?", max_size=20),
)
def test_a_wording_asks_for_the_same_class(classes, place, seed, instruction):
    target = classes[place % len(classes)]
    example = Example(
        "{text}\nIt is", {"text": "A {joy}."}, target, tuple(classes), (target,), scoring="mean"
    )
    found = reworded(example, instruction, np.random.default_rng(seed))
    assert found.inputs.endswith("A {joy}.\nIt is")
    assert found.target in found.choices and len(set(found.choices)) == len(found.choices) <= MOST
    if set(found.choices) <= set(classes):
        assert found.target == target
        assert found.scoring == "mean"
    else:  # renamed: the text says what stands for what
        assert set(found.choices) <= {*SYMBOLS}
        assert f"{found.target} for {target}" in found.inputs


def test_all_ways_of_wording_are_taken():
    example = Example("{text}", {"text": "A joy."}, "good", ("bad", "good"), ("good",))
    found = [reworded(example, "Is it good or bad?", np.random.default_rng(seed)) for seed in range(300)]
    texts = [each.inputs.removesuffix("A joy.") for each in found]
    assert 0.2 < np.mean([each.target != "good" for each in found]) < 0.4
    assert 0.15 < np.mean([text == "Is it good or bad?\n" for text in texts]) < 0.35
    assert any(text == "" for text in texts)
    assert {each.choices for each in found} >= {("bad", "good"), ("good", "bad")}


def test_an_instruction_never_asks_for_a_class_that_is_left_out():
    classes = tuple(f"kind{i:02}" for i in range(30))
    example = Example("{text}", {"text": "A joy."}, classes[3], classes, (classes[3],))
    for seed in range(50):
        found = reworded(example, f"Which of {', '.join(classes)}?", np.random.default_rng(seed))
        left_out = {*classes} - {*found.choices}
        assert not any(word in found.inputs for word in left_out) or found.choices[0] in SYMBOLS
        assert not found.inputs.startswith("Which")


def test_free_text_has_its_instruction_or_none():
    example = Example("{text}", {"text": "A joy."}, "Good.", (), ("Good.", "Fine."))
    found = [reworded(example, "Say {it}.", np.random.default_rng(seed)) for seed in range(20)]
    assert {each.inputs for each in found} == {"Say {it}.\nA joy.", "A joy."}
    assert all(each.references == example.references for each in found)


def test_a_row_depends_on_its_place_alone(pretrained, toy):
    task = find_task(toy["tone"])
    examples, read = task.sample("train", 5), []

    def tokenised(examples):
        read.extend(examples)
        return encode(examples, pretrained.tokenizer, 64)

    rows = RewordedRows(task, examples, 3, 0, tokenised)
    assert len(rows) == 15
    first, other, again = rows[7], rows[2], rows[7]
    assert first == again and (first.inputs != other.inputs or first.choices != other.choices)
    assert read[0] == read[2] != read[1]
    assert read[0].fields == read[1].fields == examples[2].fields
    with pytest.raises(IndexError):
        rows[15]
    with pytest.raises(UserError, match="tone is a chat, which cannot be reworded"):
        RewordedRows(replace(task, chat=True), examples, 3, 0, tokenised)


def test_universal_prompt_of_wordings_has_each_new_tasks_whole_instruction(
    tmp_path, plain_pretrain, plain_adapt, pretrained
):
    universal = stage(2) | {"wordings": 4, "kl_weight": 0.0, "hidden_weight": 0.0, "objective": "classes"}
    keys = {
        "out": str(tmp_path / "run"),
        "teachers": stage(0),
        "universal": universal,
        "max_length": 64,
        "gain_rows": 4,
    }
    run = pretrain(from_plain(PretrainConfig, plain_pretrain | keys, "test"), pretrained)
    assert not (run / "prompts" / "teachers.safetensors").exists()
    assert load_file(run / "prompts" / "universal.safetensors")["words"].shape == (2, 0, 32)
    assert [gain["teacher"] for gain in json.loads((run / "gains.json").read_text())] == [None, None]

    assert pretraining_seconds(run) > 0
    with pytest.raises(UserError, match="no prompt 'teachers' in it; it has universal"):
        adapt(
            from_plain(AdaptConfig, plain_adapt | {"prompt": str(run), "method": "spot"}, "test"), pretrained
        )

    task = find_task(plain_adapt["task"])
    ids = pretrained.tokenizer(task.instruction)["input_ids"]
    ready = open_run(run, plain_adapt["task"], 0, pretrained)
    composed = np.asarray(ready.model.prompt.compose())[0]
    np.testing.assert_array_equal(
        composed[4:], np.asarray(pretrained.backbone.embed(np.array(ids)), np.float32)
    )

    keys = {"out": str(tmp_path / "target"), "prompt": str(run), "train": stage(1)}
    assert (
        adapt(from_plain(AdaptConfig, plain_adapt | keys, "test"), pretrained).parameters
        == 4 * 33 + 32 + len(ids) * 32
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kl_weight": 0.9}, "teachers were trained on other texts; set kl_weight and hidden_weight to 0"),
        ({"hidden_weight": 0.0, "kl_weight": 0.0, "balanced": True}, "leave out balanced"),
        ({"hidden_weight": 0.0, "kl_weight": 0.0, "instruction": 4}, "leave out instruction"),
    ],
)
def test_what_does_not_go_with_wordings_is_refused(keys, message, plain_pretrain):
    with pytest.raises(UserError, match=message):
        from_plain(PretrainConfig, plain_pretrain | {"universal": stage(2) | {"wordings": 2} | keys}, "test")
