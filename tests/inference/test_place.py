"""A prompt inside the user's turn has the numbers of vectors within an embedded text, in all commands."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import tiny
from runs import random, run_of
from toys import refused, tiny_tokenizer, toy_rows, write_task

from mpt import cli
from mpt.catalog.library import find_task
from mpt.comparison.config import CompareConfig
from mpt.config.yaml_file import from_plain
from mpt.data.records import Record
from mpt.data.text.messages import Turn
from mpt.errors import UserError
from mpt.inference.evaluate import choice_probabilities
from mpt.inference.predict import open_run, predicted
from mpt.interop.exporting import export_run
from mpt.loading.hf import load_pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt
from mpt.recipes.checks import check
from mpt.serve.chat import row_of
from mpt.serve.engine import Engine, Request
from mpt.serve.group import grouped

TEMPLATE = (
    "{% for message in messages %}{{ message['role'][0] }}:{{ message['content'] }}<pad>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
KEYS = {"chat": True, "system": "do", "place": "user"}
FREE = {"verbalizer": {}, "metric": "exact_match"}
RECORD = Record("here", {"text": "so we"})
OPENING = "s:do<pad>u:"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model whose tokenizer has a chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    folder = tmp_path_factory.mktemp("chatting") / "model"
    return tiny.write(folder, "toy-llama", tokenizer, tiny.weights("toy-llama"))


@pytest.fixture(scope="module")
def vectors():
    return random(5, 1, 4, 32)


@pytest.fixture(scope="module")
def run(tmp_path_factory, model, vectors):
    return run_of(tmp_path_factory.mktemp("placed"), model, SoftPrompt(vectors), "tone", **KEYS)


def rendered(tokenizer, text: str) -> list[int]:
    """A text's tokens in one piece, as the template writes it."""
    turns = [{"role": "system", "content": "do"}, {"role": "user", "content": f"{text}\nSo:"}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_the_card_has_the_place_and_what_stands_in_front(run):
    card, tokenizer = load_prompt(run, "adapted")[1], open_run(run).pretrained.tokenizer
    assert card.opening.text == OPENING and card.opening.system == "do"
    assert tokenizer.decode(card.opening.tokens) == OPENING
    assert card.task("tone").place == "user"
    assert f"inside the first user turn, after the template's {OPENING!r}" in card.markdown()


def test_a_run_answers_as_vectors_by_hand_do(run, model, vectors):
    """Against a prompt in front of everything that is made of the embedded opening and the vectors."""
    ready, pretrained = open_run(run), load_pretrained(str(model))
    whole = rendered(pretrained.tokenizer, "so we")
    (row,) = ready.encode([ready.unlabelled(RECORD)])
    front = whole[: len(whole) - len(row.inputs)]
    assert [*front, *row.inputs] == whole and pretrained.tokenizer.decode(front) == OPENING
    embedded = pretrained.backbone.embed(jnp.array([front]))
    by_hand = Prompted(pretrained.backbone, SoftPrompt(jnp.concatenate([embedded, vectors], axis=1)))
    wanted = choice_probabilities(by_hand, [row])
    np.testing.assert_allclose(choice_probabilities(ready.model, [row]), wanted, rtol=1e-4)
    (answer,) = predicted(ready, [RECORD])
    np.testing.assert_allclose([*answer["probabilities"].values()], wanted[0], rtol=1e-3)


@pytest.mark.full
def test_logits_and_the_gradient_are_those_of_embeddings_in_transformers(run, model, vectors, torch):
    from transformers import AutoModelForCausalLM

    ready, texts = open_run(run), ["so we", "it", "a great"]
    rows = ready.encode([ready.task.example(Record("here", {"text": text}), "good") for text in texts])
    batch = tiny.collate(rows, [0] * len(rows))

    def loss(vectors, model):
        logits = Prompted(model, SoftPrompt(vectors))(batch).logits
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.targets[..., None], -1)[..., 0]
        return -jnp.sum(log_p, where=batch.labelled), logits

    gradient, logits = jax.grad(loss, has_aux=True)(vectors, ready.model.backbone)

    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    inside, total = torch.tensor(np.asarray(vectors[0]), requires_grad=True), 0.0
    for i, (text, row) in enumerate(zip(texts, rows)):
        ids = torch.tensor(rendered(ready.pretrained.tokenizer, text) + list(row.targets))
        place = len(ready.pretrained.opening.tokens)
        embedded = reference.get_input_embeddings()(ids)
        sequence = torch.cat([embedded[:place], inside, embedded[place:]])
        read = reference(inputs_embeds=sequence[None]).logits[0, -len(row.targets) - 1 : -1]
        total = total - torch.log_softmax(read, -1)[range(len(row.targets)), list(row.targets)].sum()
        np.testing.assert_allclose(logits[i, : len(row.targets)], read.detach(), rtol=1e-4, atol=1e-4)
    total.backward()
    np.testing.assert_allclose(gradient[0], inside.grad, rtol=1e-4, atol=1e-4)


def test_a_servers_chat_is_the_row_that_training_reads(run):
    ready = open_run(run)
    (row,) = ready.encode([ready.unlabelled(RECORD)])
    asked = row_of([Turn("user", "so we\nSo:")], ready)
    assert list(asked.inputs) == list(row.inputs)
    more = row_of([Turn("user", "so"), Turn("assistant", "we"), Turn("user", "go")], ready)
    assert ready.pretrained.tokenizer.decode(more.inputs) == "so<pad>a:we<pad>u:go<pad>a:"
    with pytest.raises(UserError, match="inside the first user turn"):
        row_of([Turn("system", "be"), Turn("user", "so")], ready)
    whole = len(asked.inputs) + len(ready.pretrained.opening.tokens)
    with pytest.raises(UserError, match=f"messages take {whole} tokens"):
        row_of([Turn("user", "so we\nSo:")], ready._replace(max_length=whole - 1))


def test_a_server_answers_as_prediction_does_and_counts_the_whole_text(run, model, vectors, tmp_path):
    """Beside a prompt that stands in front of everything, which has other programs."""
    other = run_of(tmp_path, model, SoftPrompt(vectors), "colour", **KEYS | {"place": "front"})
    engine = Engine([run, other], 2, 4)
    served = engine.find("tone")
    (answer,) = engine.answer([Request(served, served.ready.unlabelled(RECORD))])
    whole = rendered(engine.pretrained.tokenizer, "so we")
    assert answer.tokens_read == len(whole)
    (wanted,) = predicted(open_run(run), [RECORD])
    np.testing.assert_allclose(answer.probabilities, [*wanted["probabilities"].values()], rtol=1e-3)
    front = engine.find("colour")
    (answer,) = engine.answer([Request(front, front.ready.unlabelled(RECORD))])
    assert answer.tokens_read == len(whole)
    assert len(grouped([served.ready, front.ready])) == 2
    assert len(grouped([served.ready, open_run(run)])) == 1


def test_a_template_that_writes_another_opening_is_told(run, model, capsys):
    """Such as one that writes the day: the opening of training is read, whatever it writes today."""
    pretrained = load_pretrained(str(model))
    answer = predicted(open_run(run, pretrained=pretrained), [RECORD])
    pretrained.tokenizer.chat_template = f"x{TEMPLATE}"
    ready = open_run(run, pretrained=pretrained)
    assert f"the prompt was trained after {OPENING!r}" in capsys.readouterr().err
    assert predicted(ready, [RECORD]) == answer


def test_only_embeddings_are_exported_and_they_say_the_place(run):
    with pytest.raises(UserError, match="PEFT puts prompts in front of everything"):
        export_run(run, "peft")
    readme = (export_run(run, "embeddings") / "README.md").read_text()
    assert "They stand inside the first user turn, in front of the user's own embedded text." in readme
    assert '"type": "prompt_embeds"' in readme


def adapting(plain_adapt, model, task, out, **changed) -> dict:
    config = plain_adapt | {
        "model": {"name": str(model)},
        "task": str(task),
        "max_length": 60,
        "test_rows": 4,
    }
    config["train"] = config["train"] | {"steps": 1}
    return config | {"out": str(out), "validate_every": 0, "prompt": ""} | changed


@pytest.mark.full
def test_a_task_is_adapted_to_scored_and_answered(model, plain_adapt, config_file, tmp_path, capsys):
    """With a class head; the file has no place, the task's name has."""
    task = write_task(tmp_path, "tone", rows=toy_rows("tone", 60))
    config = adapting(plain_adapt, model, f"{task}:chat:user", tmp_path / "run", method="classifier")
    assert cli.main(["adapt", config_file(config)]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", str(tmp_path / "run"), "--rows", "4"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    (tmp_path / "in.txt").write_text("so we\n")
    assert cli.main(["predict", str(tmp_path / "run"), "--input", str(tmp_path / "in.txt")]) == 0
    assert json.loads(capsys.readouterr().out)["prediction"] in ("yes", "no")
    assert load_prompt(tmp_path / "run", "adapted")[1].opening.text == "u:"
    with pytest.raises(UserError, match="with the prompt of tone:chat:user in another place"):
        open_run(tmp_path / "run", replace(find_task(str(task)), name="tone:chat:user"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vectors": {"length": 4, "layer": 1}}, "and cannot enter before layer 1"),
        ({"vectors": {"length": 4, "every_layer": True}}, "as keys and values of every layer"),
        ({"method": "prefix"}, "method prefix: a prompt inside the user's turn"),
    ],
)
def test_what_cannot_stand_inside_is_refused(
    changed, message, model, plain_adapt, config_file, tmp_path, capsys
):
    task = write_task(tmp_path, "tone", rows=toy_rows("tone", 60), **KEYS)
    config = adapting(plain_adapt, model, task, tmp_path / "run", **{"method": "prompt"} | changed)
    assert message in refused(capsys, "adapt", config_file(config))


def test_source_tasks_have_theirs_in_front(plain_pretrain, config_file, tmp_path, capsys):
    tasks = [str(write_task(tmp_path, name, **KEYS)) for name in ("tone", "colour")]
    config = config_file(plain_pretrain | {"tasks": tasks, "out": str(tmp_path / "run")})
    assert "pretrain: task tone: place: prompts stand in front of everything" in refused(
        capsys, "pretrain", config
    )


def test_a_comparison_with_prefixes_is_refused(tmp_path):
    target = str(write_task(tmp_path, "tone", **KEYS))
    config = from_plain(CompareConfig, {"targets": [target], "methods": ["LoRA", "prefix tuning"]}, "test")
    with pytest.raises(UserError, match="'prefix tuning' has its prompt in later layers"):
        check(config)


def test_a_text_is_shown_with_the_prompt_in_its_place(model, tmp_path, capsys):
    task = write_task(tmp_path, "tone", **KEYS)
    capsys.readouterr()
    assert cli.main(["tasks", "show", str(task), "--rows", "1", "--model", str(model)]) == 0
    assert "u:[prompt]" in capsys.readouterr().out
