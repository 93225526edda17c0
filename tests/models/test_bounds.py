"""What is looked up has a bound on the host: JAX would clamp it without a word."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from golden import normal, tiny
from toys import refused, tiny_tokenizer, toy_rows, write_task

from mpt.adaptation.draws import held_out, training_rows
from mpt.catalog.library import find_task
from mpt.config.options import PromptConfig
from mpt.data.batches import collate
from mpt.data.stored import stored_rows
from mpt.errors import UserError
from mpt.inference.generate import Beam, Greedy, generate
from mpt.inference.predict import open_run, predict, predicted, scored
from mpt.loading.hf import load_pretrained
from mpt.models.backbone import check_positions
from mpt.prompts.initial import starting_vectors
from mpt.types import Row

POSITIONS, P = 64, 4
PROMPT = jnp.asarray(normal(0, 1, P, tiny.WIDTH))


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory):
    return tiny.save("gpt2", tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def gpt2(gpt2_folder):
    return load_pretrained(str(gpt2_folder)).backbone


@pytest.mark.parametrize(("max_length", "target", "fits"), [(59, 1, True), (60, 1, False), (58, 3, False)])
def test_rows_longer_than_the_positions_are_refused(gpt2, pretrained, max_length, target, fits):
    check_positions(pretrained.backbone, P, 10_000, [[5] * target])  # rotary positions have no bound
    if fits:
        return check_positions(gpt2, P, max_length, [[5], [5] * target])
    room = POSITIONS - P - target
    with pytest.raises(UserError, match=f"has {POSITIONS} positions; .* max_length to at most {room}"):
        check_positions(gpt2, P, max_length, [[5], [5] * target])


def test_rows_longer_than_a_rotation_is_known_for_are_refused(tmp_path):
    """LongRoPE has other factors beyond it, which would change what a prompt does to shorter texts, too."""
    backbone = load_pretrained(str(tiny.save("llama-longrope", tmp_path))).backbone
    check_positions(backbone, P, 59)
    with pytest.raises(UserError, match=r"has 64 positions; .* max_length to at most 59"):
        check_positions(backbone, P, 60)


@pytest.mark.parametrize("method", ["prompt", "classifier", "prefix"])
@pytest.mark.parametrize("command", ["adapt", "pretrain"])
def test_long_rows_are_refused_before_training(capsys, tmp_path, gpt2_folder, command, method):
    words = {"verbalizer": {"yes": "w5", "no": "w6"}}
    tasks = [str(write_task(tmp_path, name, toy_rows("tone"), **words)) for name in ("one", "two")]
    run = tmp_path / "run"
    options = ["--model.name", str(gpt2_folder), "--max-length", "60", "--vectors.length", "8"]
    options += ["--vectors.start", "vocabulary", "--out", str(run)]
    if command == "pretrain":
        told = refused(capsys, "pretrain", "--tasks", *tasks, *options)
    else:
        told = refused(capsys, "adapt", "few_shot", "--task", tasks[0], "--method", method, *options)
    assert "a prompt of 8, an input of max_length 60 and a target of 1 take 69: " in told
    assert not list(run.glob("*/metrics.jsonl"))


@pytest.mark.parametrize("method", [Greedy(), Beam(2)])
def test_generation_stops_at_the_last_position(gpt2, method):
    rows = [Row([5] * length, [2]) for length in (55, 57)]
    many = generate(gpt2, tiny.collate(rows[:1], [0]), PROMPT, max_new_tokens=50, stop=[], method=method)
    assert list(map(len, many)) == [POSITIONS - P - 55 + 1]
    few = generate(gpt2, tiny.collate(rows[:1], [0]), PROMPT, max_new_tokens=3, stop=[], method=method)
    assert many[0][:3] == few[0] or isinstance(method, Beam)
    both = generate(gpt2, tiny.collate(rows, [0, 0]), PROMPT, max_new_tokens=50, stop=[2], method=method)
    assert len(both[1]) <= POSITIONS - P - 57 + 1


BARE = {"template": "{text}", "verbalizer": {"yes": "good", "no": "bad"}}


def test_empty_text_is_refused_by_its_name(adapted, pretrained, tmp_path):
    ready = open_run(adapted, pretrained=pretrained)
    bare = find_task(str(write_task(tmp_path, "bare", toy_rows("mood"), **BARE)))
    ready = ready._replace(task=bare)
    for texts in ([""], ["so sad", ""]):
        with pytest.raises(UserError, match=rf"inputs\[{len(texts) - 1}\] is an empty text"):
            predicted(ready, bare.records("inputs", texts))
    with pytest.raises(UserError, match="lines:2 is an empty text"):
        list(predict(ready, ["so sad\n", json.dumps({"text": " "})], "lines"))
    assert len(predicted(ready, bare.records("inputs", ["so sad"]))) == 1


@pytest.mark.parametrize("verbalizer", [BARE["verbalizer"], {}])
def test_empty_row_is_refused_in_training_and_evaluation(adapted, pretrained, tmp_path, verbalizer):
    rows = [*toy_rows("mood"), {"text": "", "label": "yes"}]
    source = {"train": "bare.jsonl", "test": "bare.jsonl"}
    keys = {"template": "{text}", "verbalizer": verbalizer, "source": source}
    bare = find_task(str(write_task(tmp_path, "bare", rows, **keys)))
    with pytest.raises(UserError, match=f"task bare: train row {len(rows)} is an empty text"):
        training_rows(bare, 0, [0], 24, pretrained)
    with pytest.raises(UserError, match="task bare: a test row is an empty text"):
        held_out(bare, "test", 0, 24, pretrained)
    with pytest.raises(UserError, match="task bare: a test row is an empty text"):
        scored(open_run(adapted, pretrained=pretrained)._replace(task=bare), bare, "test", 0)


def test_batch_has_no_empty_text_of_a_decoder():
    with pytest.raises(UserError, match="is an empty text"):
        collate([Row([3, 4], [5]), Row([], [5])], [0, 0])
    assert len(collate([Row([], [5]), Row([3], [5])], [0, 0], "encoder-decoder").grid) == 2


@pytest.mark.parametrize("token", [-1, 48, 9999])
@pytest.mark.parametrize("family", ["t5-1.0", "mt5", "umt5"])
def test_an_answer_begins_with_a_token_of_the_embedding(tmp_path, family, token):
    tiny.save(family, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"decoder_start_token_id": token}))
    with pytest.raises(UserError, match=f"decoder_start_token_id is {token}, and the embedding has 48 rows"):
        load_pretrained(str(tmp_path))


@pytest.mark.parametrize("start", ["instruction", "text"])
def test_words_that_a_prompt_starts_from_are_within_the_embedding(pretrained, toy, start):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<{i}>" for i in range(40)])
    read = replace(pretrained, tokenizer=tokenizer)
    task = replace(find_task(toy["tone"]), instruction="<39> good?")
    told = (
        "the text that its prompt starts from: token '<39>' has number 322, .* has 283 rows for .* 323 tokens"
    )
    config = PromptConfig(length=4, start=start, text="<39>")
    with pytest.raises(UserError, match=told):
        starting_vectors(config, [task], [0], read)
    assert starting_vectors(
        replace(config, text="good"), [replace(task, instruction="good")], [0], read
    ).any()


def test_cached_rows_are_checked_for_each_model(tmp_path, pretrained):
    """The cache goes by the tokenizer: a model of fewer embeddings may read what another has left there."""
    task = find_task(str(write_task(tmp_path, "mine", toy_rows("tone"))))
    stored_rows(task, "train", pretrained.tokenizer, 24, "decoder", 320)
    told = f"task mine: train: token .* has 100 rows for .* {len(pretrained.tokenizer)} tokens"
    with pytest.raises(UserError, match=told):
        stored_rows(task, "train", pretrained.tokenizer, 24, "decoder", 100)


def test_a_late_row_does_not_move_with_its_neighbours(gpt2):
    """The last learned position is one of its own: rows that fill the table are not clamped."""
    row = Row(np.arange(5, 5 + POSITIONS - P).tolist(), [7])
    alone = gpt2(tiny.collate([row], [0]), PROMPT).logits
    beside = gpt2(tiny.collate([Row([5], [7]), row], [0, 0]), PROMPT).logits
    np.testing.assert_allclose(alone[0], beside[1], atol=1e-4)
