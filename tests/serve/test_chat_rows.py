"""Chats are read alike in training and on a server, and end where the assistant's turn does."""

from __future__ import annotations

import pytest
from golden import tiny
from runs import random, run_of
from toys import tiny_tokenizer

from mpt.data.records import Record
from mpt.data.text.messages import Turn
from mpt.inference import evaluate
from mpt.inference.predict import open_run, predicted
from mpt.prompts import SoftPrompt
from mpt.prompts.saved import load_prompt
from mpt.serve.chat import answer_ends, row_of, turn_ends
from mpt.serve.engine import Engine

TEMPLATE = (
    "{% for message in messages %}{{ message['role'][0] }}:{{ message['content'] }}<pad>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
FREE = {"verbalizer": {}, "metric": "exact_match", "template": "{text}"}
ROWS = [{"text": "so we", "label": "go"}]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Of a model that reads chats: a task of free text as a chat, and the same as plain text."""
    folder, tokenizer = tmp_path_factory.mktemp("chats"), tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    model = tiny.write(folder / "model", "toy-llama", tokenizer, tiny.weights("toy-llama"))
    prompt = SoftPrompt(random(4, 1, 4, 32))
    keys = {"chat": {"chat": True, "system": "do"}, "plain": {}}
    return {
        name: run_of(folder / name, model, prompt, name, rows=ROWS, **FREE | more)
        for name, more in keys.items()
    }


def test_the_card_has_what_a_chat_is_made_of(runs):
    card = load_prompt(runs["chat"], "adapted")[1]
    task = card.task("chat")
    assert (task.chat, task.system, task.template) == (True, "do", "{text}")
    assert "chat" not in load_prompt(runs["plain"], "adapted")[1].templates["plain"]
    assert open_run(runs["chat"]).task.chat


def test_a_servers_chat_is_the_row_that_training_reads(runs):
    ready = open_run(runs["chat"])
    (row,) = ready.encode([ready.task.example(Record("here", ROWS[0]))])
    asked = row_of([Turn("user", "so we")], ready)
    assert list(asked.inputs) == list(row.inputs)
    assert asked.targets[-1] == row.targets[-1] == 1  # the end of the turn
    assert turn_ends(ready) == (1,)


@pytest.mark.parametrize(("name", "ends"), [("chat", [0, 1]), ("plain", [0])])
def test_a_written_answer_ends_with_the_turn(name, ends, runs, monkeypatch):
    seen = []

    def generate(model, batch, *, max_new_tokens, stop):
        seen.append(list(stop))
        return [[5]] * len(batch.grid)

    monkeypatch.setattr(evaluate, "generate_after_prompt", generate)
    predicted(open_run(runs[name]), [Record("here", {"text": "so we"})])
    assert seen == [ends]


@pytest.mark.parametrize(("name", "ends"), [("chat", (1,)), ("plain", ())])
def test_a_completion_ends_with_the_turn_where_the_task_is_a_chat(name, ends, runs):
    assert answer_ends(Engine(list(runs.values()), 2, 4).find(name).ready) == ends
