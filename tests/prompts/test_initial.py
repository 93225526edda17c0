"""Prompts start as rows of the embedding table."""

import numpy as np
import pytest

from mpt.config.options import WHOLE, PromptConfig
from mpt.data.sources import Files
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.prompts import text_rows, vocabulary_rows
from mpt.prompts.initial import instruction_words, starting_vectors


@pytest.mark.parametrize("vocab", [50, 100_000])
def test_sampled_rows_are_distinct_and_common(vocab):
    rows = vocabulary_rows(vocab, 40, seed=0)
    assert len(set(rows.tolist())) == 40
    assert rows.max() < min(vocab, 5000)
    assert not np.array_equal(rows, vocabulary_rows(vocab, 40, seed=1))


@pytest.mark.parametrize(("length", "rows"), [(2, [7, 8]), (3, [7, 8, 9]), (5, [7, 8, 9, 7, 8])])
def test_text_is_cut_or_repeated(length, rows):
    assert text_rows([7, 8, 9], length).tolist() == rows


@pytest.mark.parametrize("start", ["instruction", "text", "vocabulary"])
def test_prompts_start_as_embedded_tokens_exactly(pretrained, start):
    task = Task("t", Files({}), "{text}", instruction="good or bad")
    config = PromptConfig(length=3, start=start, text="red or blue")
    prompts = np.asarray(starting_vectors(config, [task, task], [0, 1], pretrained))
    table = np.asarray(pretrained.backbone.embedding[...])
    ids = {
        "instruction": [text_rows(pretrained.tokenizer("good or bad")["input_ids"], 3)] * 2,
        "text": [text_rows(pretrained.tokenizer("red or blue")["input_ids"], 3)] * 2,
        "vocabulary": [vocabulary_rows(len(table), 3, seed) for seed in (0, 1)],
    }[start]
    np.testing.assert_array_equal(prompts, table[np.stack(ids)])


@pytest.mark.parametrize("instruction", ["good or bad", "good or bad\n", "good or bad "])
def test_an_instruction_stands_apart_from_the_text_after_it(pretrained, instruction):
    task = Task("t", Files({}), "{text}", instruction=instruction)
    written = instruction if instruction != "good or bad" else "good or bad\n"
    ids = pretrained.tokenizer(written)["input_ids"]
    table = np.asarray(pretrained.backbone.embedding[...])
    whole = starting_vectors(PromptConfig(length=0, start="instruction"), [task], [0], pretrained)
    np.testing.assert_array_equal(whole[0], table[ids])
    np.testing.assert_array_equal(instruction_words([task], WHOLE, pretrained)[0], table[ids])


def test_prompts_start_from_class_words_then_vocabulary(pretrained):
    task = Task("t", Files({}), "{text}", verbalizer={"1": "good", "0": "red blue"})
    prompts = np.asarray(starting_vectors(PromptConfig(length=5, start="classes"), [task], [1], pretrained))
    table = np.asarray(pretrained.backbone.embedding[...])
    words = [table[pretrained.tokenizer(word)["input_ids"]].mean(axis=0) for word in (" good", " red blue")]
    np.testing.assert_allclose(prompts[0, :2], words, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(prompts[0, 2:], table[vocabulary_rows(len(table), 3, 1)])
    short = starting_vectors(PromptConfig(length=1, start="classes"), [task], [1], pretrained)
    np.testing.assert_array_equal(short[0], prompts[0, :1])


@pytest.mark.parametrize("start", ["vocabulary", "classes"])
def test_more_vectors_than_there_are_words_to_start_from_are_refused(pretrained, start):
    task = Task("t", Files({}), "{text}", verbalizer={"1": "good", "0": "bad"})
    with pytest.raises(UserError, match=r"vectors.length: it must be at most 283, .* not "):
        starting_vectors(PromptConfig(length=5001, start=start), [task], [0], pretrained)


@pytest.mark.parametrize("start", ["vocabulary", "classes", "uniform"])
def test_a_start_without_a_text_has_a_length(start):
    with pytest.raises(
        UserError, match=f"vectors.length: 0 takes the length of .*vectors.start {start} has none; give"
    ):
        PromptConfig(length=0, start=start)


def test_instructions_of_several_lengths_need_a_number(pretrained):
    tasks = [Task("t", Files({}), "{text}", instruction=" good" * count + "\n") for count in (1, 2)]
    assert starting_vectors(PromptConfig(length=0), tasks[:1], [0], pretrained).shape[1] == 2
    with pytest.raises(UserError, match=r"vectors.length: 0 needs instructions of one length"):
        starting_vectors(PromptConfig(length=0), tasks, [0, 0], pretrained)


def test_task_without_class_words_cannot_start_from_them(pretrained):
    task = Task("t", Files({}), "{text}")
    with pytest.raises(UserError, match="task t has no class words"):
        starting_vectors(PromptConfig(start="classes"), [task], [0], pretrained)


def test_uniform_start_is_half_a_unit_wide_and_each_seeds_own(pretrained):
    task = Task("t", Files({}), "{text}")
    config = PromptConfig(length=40, start="uniform")
    prompts = np.asarray(starting_vectors(config, [task] * 3, [0, 1, 0], pretrained))
    assert prompts.shape == (3, 40, pretrained.backbone.embedding[...].shape[1])
    assert -0.5 <= prompts.min() < -0.49 and 0.49 < prompts.max() <= 0.5
    assert abs(prompts.mean()) < 0.02
    np.testing.assert_array_equal(prompts[0], prompts[2])
    assert not np.array_equal(prompts[0], prompts[1])
