"""Conversations from a file to an answer: adapted, scored and answered by the commands."""

from __future__ import annotations

import json

import pytest
from golden import tiny
from toys import refused, tiny_tokenizer

from mpt import cli
from mpt.inference.predict import open_run
from mpt.prompts.saved import load_prompt

TEMPLATE = (
    "{% for message in messages %}{{ message['role'][0] }}:{{ message['content'] }}<pad>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


def talk(number: int) -> dict:
    said = [("user", f"so {number}"), ("assistant", "red"), ("user", "and?"), ("assistant", "blue")]
    return {"messages": [{"role": role, "content": text} for role, text in said]}


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    """A model that reads chats, and a task file with nothing but its source and its metric."""
    folder, tokenizer = tmp_path_factory.mktemp("talks"), tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    model = tiny.write(folder / "model", "toy-llama", tokenizer, tiny.weights("toy-llama"))
    (folder / "talks.jsonl").write_text("".join(json.dumps(talk(i)) + "\n" for i in range(60)))
    task = folder / "talks.yaml"
    task.write_text("source: talks.jsonl\nmetric: exact_match\ninstruction: So?\n")
    return model, task


@pytest.fixture(scope="module")
def run(talks, tmp_path_factory, plain_adapt):
    model, task = talks
    folder = tmp_path_factory.mktemp("adapted")
    changed = {"model": {"name": str(model)}, "task": str(task), "max_length": 40, "test_rows": 4}
    config = plain_adapt | changed | {"out": str(folder / "run"), "validate_every": 0}
    config["train"] = config["train"] | {"steps": 1}
    (folder / "run.yaml").write_text(json.dumps(config))
    assert cli.main(["adapt", str(folder / "run.yaml")]) == 0
    return folder / "run"


def test_conversations_are_adapted_to(run):
    card = load_prompt(run, "adapted")[1]
    assert card.task("talks").reads_conversations
    assert "test exact_match" in " ".join(card.metrics)


def test_and_scored(run, capsys):
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), "--rows", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4


def test_and_answered(run, tmp_path, capsys):
    lines = [talk(1), {"messages": talk(1)["messages"][:3]}, {"prompt": "so 1"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert cli.main(["predict", str(run), "--input", str(tmp_path / "in.jsonl")]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 3
    assert answers[0] == answers[1]  # a reply that is there already is not read
    ready = open_run(run)
    (row,) = ready.encode([ready.unlabelled(ready.task.records("inputs", ["so 1"])[0])])
    assert ready.pretrained.tokenizer.decode(row.inputs) == "u:so 1<pad>a:"


def test_a_model_without_a_chat_template_is_refused(
    talks, tiny_model, plain_adapt, config_file, capsys, tmp_path
):
    changed = {"model": {"name": str(tiny_model)}, "task": str(talks[1]), "out": str(tmp_path / "run")}
    error = refused(capsys, "adapt", config_file(plain_adapt | changed))
    assert "task talks: chat: the model's tokenizer has no chat template" in error
    assert not (tmp_path / "run").exists()
