"""Answers to batches, against `mpt predict`'s for one line at a time."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import random, run_of, universal_run

from mpt.data.batches import collate
from mpt.data.records import Record
from mpt.data.task import LONGEST_TEXT
from mpt.errors import UserError
from mpt.inference.generate import SamplingParams, generate
from mpt.inference.predict import open_run, predict
from mpt.prompts import SoftPrompt
from mpt.prompts.class_head import HeadedPrompt
from mpt.serve.engine import Engine, Request
from mpt.serve.text import TextSampling, class_word_length
from mpt.types import Row

GREEDY = TextSampling(0.0, 1.0, 0, 8)
ROWS = [{"text": text, "more": "and"} for text in ("so great", "it is red and red", "a", "we glad")]


def asked(engine: Engine, task: str, row: dict, sampling: TextSampling | None = None) -> Request:
    served = engine.find(task)
    return Request(served, served.ready.unlabelled(Record("here", row)), sampling)


def predicted(run, task: str, row: dict) -> dict:
    (line,) = predict(open_run(run, task), [json.dumps(row)], "here")
    return json.loads(line)


def test_tasks_share_a_batch_and_are_classified_as_predict_does(engine, runs):
    tasks = ["tone", "colour", "colour", "tone"]
    requests = [asked(engine, task, row) for task, row in zip(tasks, ROWS)]
    assert len({request.key for request in requests}) == 1
    for task, row, answer in zip(tasks, ROWS, engine.answer(requests)):
        expected = predicted(runs[task], task, row)["probabilities"]
        np.testing.assert_allclose(answer.probabilities, list(expected.values()), atol=2e-6)


@pytest.mark.parametrize("task", ["long", "mood"], ids=["several tokens", "more than a prompt"])
def test_others_are_classified_in_turn(engine, runs, task):
    requests = [asked(engine, task, row) for row in ROWS]
    assert requests[0].key != asked(engine, "tone", ROWS[0]).key
    for row, answer in zip(ROWS, engine.answer(requests)):
        expected = predicted(runs[task], task, row)["probabilities"]
        np.testing.assert_allclose(answer.probabilities, list(expected.values()), atol=2e-6)


def test_texts_are_those_of_predict(runs):
    engine, run = Engine([runs["title"]], 4, LONGEST_TEXT), runs["title"]
    sampling = GREEDY._replace(max_new_tokens=LONGEST_TEXT)
    answers = engine.answer([asked(engine, "title", row, sampling) for row in ROWS])
    for row, answer in zip(ROWS, answers):
        assert answer.text.strip() == predicted(run, "title", row)["prediction"]
        (read,) = open_run(run).encode([engine.find("title").ready.unlabelled(Record("", row))])
        assert answer.tokens_read == len(read.inputs)
        assert answer.ended == (answer.tokens_written < LONGEST_TEXT)


@pytest.mark.parametrize(
    "text, words, kept",
    [
        (" good good good", ("good", "bad"), " good"),
        ("good", ("good", "bad"), "good"),
        (" good\n\nSo: bad", ("good", "bad"), " good"),
        (" good word word", ("good", "good word"), " good word"),
        (" good bad", ("good", "good word"), " good"),
        (" it is good", ("good", "bad"), ""),
        (" goo", ("good", "bad"), ""),
        (" good", (), ""),
    ],
)
def test_a_class_word_is_found_at_the_start_of_what_is_written(pretrained, text, words, kept):
    tokenizer = pretrained.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids[: class_word_length(ids, words, tokenizer.decode)]) == kept


@pytest.mark.parametrize(
    "words, text, ended",
    [
        (("blue", "bad"), " blue", True),
        (("blue", "blue blue"), " blue blue", True),
        (("good", "bad"), 8 * " blue", False),
    ],
)
def test_a_completion_of_a_class_task_ends_after_the_class_word(tmp_path, tiny_model, words, text, ended):
    """This prompt has the tiny model write " blue" for ever."""
    prompt, verbalizer = SoftPrompt(random(8, 1, 4, 32)), dict(zip(("yes", "no"), words))
    engine = Engine([run_of(tmp_path, tiny_model, prompt, "tone", verbalizer=verbalizer)], 2, 8)
    (answer,) = engine.answer([asked(engine, "tone", {"text": "it is"}, GREEDY)])
    assert (answer.text, answer.ended, answer.tokens_written) == (text, ended, text.count("blue"))


def test_tasks_are_written_in_one_batch_each_to_its_own_length(engine):
    tasks, limits = ["title", "tone", "colour"], [3, 8, 1]
    requests = [
        asked(engine, task, row, GREEDY._replace(max_new_tokens=most))
        for task, row, most in zip(tasks, ROWS, limits)
    ]
    assert len({request.key for request in requests}) == 1
    batched = engine.answer(requests)
    assert batched == [engine.answer([request])[0] for request in requests]
    assert [answer.tokens_written for answer in batched] == limits


def test_a_text_is_told_as_it_grows_and_ends_where_nobody_waits(engine):
    """Two rows of a batch: one is told to its end, the other is given up after the first look."""
    told: dict[str, list] = {"stays": [], "goes": []}
    requests = [
        Request(request.served, request.example, request.sampling, told_to)
        for request, told_to in zip(
            [asked(engine, "title", row, GREEDY) for row in ROWS],
            [lambda text: not told["stays"].append(text), lambda text: bool(told["goes"].append(text))],
        )
    ]
    stayed, _ = engine.answer(requests)
    assert told["stays"][-1] == stayed
    assert [text.more for text in told["stays"]] == [True] * (len(told["stays"]) - 1) + [False]
    assert len(told["stays"]) > 1
    assert stayed == engine.answer([asked(engine, "title", ROWS[0], GREEDY)])[0]
    assert len(told["goes"]) == 1


def test_a_bad_text_is_told_to_its_own_request_alone(engine):
    good, bad = (asked(engine, "tone", row) for row in ROWS[:2])
    bad = Request(bad.served, Row([], [0]))
    answers = engine.answer([good, bad])
    assert answers[0] == engine.answer([good])[0]
    assert "a text is empty" in str(answers[1])


def test_log_probabilities_are_the_models_own(engine):
    """Of the first token: against one run of the model; a temperature changes nothing."""
    drawn = TextSampling(1.5, 0.9, 3, 8, likeliest=4)
    plain, scored = engine.answer(
        [asked(engine, "title", ROWS[0], sampling) for sampling in (drawn._replace(likeliest=None), drawn)]
    )
    assert plain == scored._replace(tokens=())
    served = engine.find("title")
    (row,) = served.ready.encode([asked(engine, "title", ROWS[0]).example])
    batch = jax.tree.map(jnp.asarray, collate([row._replace(targets=[0])], [0]))
    logits = np.asarray(served.ready.model(batch).logits[0, 0])
    expected = logits - np.log(np.sum(np.exp(logits)))
    first, ids = scored.tokens[0], np.argsort(-expected)[:4]
    np.testing.assert_allclose([score for _, score in first.likeliest], expected[ids], atol=1e-5)
    assert [text for text, _ in first.likeliest] == [engine.pretrained.tokenizer.decode([i]) for i in ids]


def test_a_drawn_text_depends_on_its_seed_alone(engine):
    def request(seed: int) -> Request:
        return asked(engine, "title", ROWS[0], TextSampling(1.0, 0.9, seed, 8))

    (alone,) = engine.answer([request(3)])
    greedy, other, again = engine.answer([asked(engine, "tone", ROWS[1], GREEDY), request(4), request(3)])
    assert alone == again != other
    assert greedy == engine.answer([asked(engine, "tone", ROWS[1], GREEDY)])[0]


def test_likely_tokens_only_are_drawn(pretrained):
    """A small top_p, or a low temperature, comes to the likeliest token."""
    batch = collate([Row([5, 6, 7], [0])] * 3, [0] * 3)
    rows = SamplingParams(
        jnp.array([1.0, 1e-4, 0.0]),
        jnp.array([1e-6, 1.0, 1.0]),
        jnp.arange(3),
        jnp.array([6, 6, 6], jnp.int32),
    )
    vectors = jnp.asarray(random(0, 1, 4, 32))
    found = generate(pretrained.backbone, batch, vectors, max_new_tokens=6, stop=[], method=rows)
    assert found == generate(pretrained.backbone, batch, vectors, max_new_tokens=6, stop=[])


def test_an_empty_text_is_refused_beside_others(tmp_path, tiny_model):
    run = run_of(tmp_path, tiny_model, SoftPrompt(random(0, 1, 4, 32)), "tone", template="{text}")
    engine = Engine([run], 4, 8)
    bad, good = engine.answer([asked(engine, "tone", {"text": text}) for text in ("", "so great")])
    assert "empty" in str(bad)
    assert len(good.probabilities) == 2


def test_no_request_compiles_what_warming_has_not(engine):
    for _ in engine.warm():
        pass
    programs = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: programs.append(event))
    try:
        for count in (1, 2, 3, 4):
            for task in ("tone", "long"):
                engine.answer([asked(engine, task, row) for row in ROWS[:count]])
            sampling = [GREEDY, TextSampling(0.7, 0.5, 9, 2), GREEDY, GREEDY]
            engine.answer([asked(engine, "title", *pair) for pair in zip(ROWS[:count], sampling)])
    finally:
        jax.monitoring.clear_event_listeners()
    assert not [event for event in programs if "backend_compile" in event]


@pytest.mark.full
def test_an_encoder_decoder_is_served_too(tmp_path, tiny_t5):
    run = universal_run(tmp_path, tiny_t5)
    engine = Engine([run], 2, 4)
    answers = engine.answer([asked(engine, task, ROWS[0]) for task in ("tone", "colour")])
    for task, answer in zip(("tone", "colour"), answers):
        expected = predicted(run, task, ROWS[0])["probabilities"]
        np.testing.assert_allclose(answer.probabilities, list(expected.values()), atol=2e-6)
    texts = engine.answer([asked(engine, "tone", row, GREEDY._replace(max_new_tokens=4)) for row in ROWS[:2]])
    assert texts == [
        engine.answer([asked(engine, "tone", row, GREEDY._replace(max_new_tokens=4))])[0] for row in ROWS[:2]
    ]


def test_runs_that_cannot_be_served_together_are_told(tmp_path, runs, tiny_t5):
    with pytest.raises(UserError, match=r"model.name is .*; a server has one backbone"):
        Engine([runs["tone"], universal_run(tmp_path, tiny_t5)], 4, 8)
    with pytest.raises(UserError, match="task 'tone' is served already"):
        Engine([runs["title"], runs["tone"], runs["tone"].parent / "run" / ".." / "run"], 4, 8)


def test_the_nearest_task_is_named(engine):
    with pytest.raises(UserError, match="task 'tine' is not served here; did you mean 'tone'"):
        engine.find("tine")


def test_prompts_of_several_layers_do_not_share_a_batch(tmp_path, tiny_model):
    """They have one length and one backbone, and would otherwise; each answers as it does alone."""
    runs = {
        task: run_of(tmp_path / task, tiny_model, SoftPrompt(random(5, 1, 4, 32), layer), task)
        for task, layer in (("tone", 0), ("colour", 1))
    }
    engine = Engine([*runs.values()], 4, 4)
    row = {"text": "so great"}
    requests = {task: asked(engine, task, row) for task in runs}
    assert requests["tone"].key != requests["colour"].key
    for task, request in requests.items():
        (answer,) = engine.answer([request])
        expected = predicted(runs[task], task, row)["probabilities"]
        np.testing.assert_allclose(answer.probabilities, list(expected.values()), atol=2e-6)


@pytest.mark.parametrize("probed", [False, True])
def test_class_heads_of_several_tasks_share_a_batch(tmp_path, tiny_model, probed):
    """Tasks of two and three classes; each answers as it does alone."""
    words = {"tone": {"yes": "good", "no": "bad"}, "colour": {"a": "red", "b": "blue", "c": "green"}}

    def head(seed, classes):
        vectors, *parts = (
            random(seed + place, 1, *shape)
            for place, shape in enumerate([(4, 32), *[(classes, 32)] * 3, (classes,), (classes, 3, 32)])
        )
        return HeadedPrompt(*parts[:4], probe=parts[4] if probed else None, vectors=vectors)

    runs = {
        task: run_of(
            tmp_path / task,
            tiny_model,
            head(10 * len(labels), len(labels)),
            task,
            verbalizer=labels,
            rows=[{"text": "a", "more": "b", "label": label} for label in labels],
        )
        for task, labels in words.items()
    }
    engine = Engine([*runs.values()], 4, 4)
    tasks = ["tone", "colour", "colour", "tone"]
    requests = [asked(engine, task, row) for task, row in zip(tasks, ROWS)]
    assert len({request.key for request in requests}) == 1
    for task, row, answer in zip(tasks, ROWS, engine.answer(requests)):
        expected = predicted(runs[task], task, row)["probabilities"]
        np.testing.assert_allclose(answer.probabilities, list(expected.values()), atol=2e-6)
