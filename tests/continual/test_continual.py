"""Tasks learned one after another: what is kept, what is reported, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from toys import refused, stage, tree, write_task

from mpt import cli
from mpt.catalog.library import find_task
from mpt.config.continual import ContinualConfig
from mpt.config.yaml_file import from_plain
from mpt.data.tokenise import encode
from mpt.inference.evaluate import choice_probabilities
from mpt.inference.predict import evaluate
from mpt.metrics.transfer import average_accuracy, backward_transfer, forward_transfer
from mpt.prompts import PlainPrompt, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt
from mpt.recipes.continual import continual

# Rows of one length: what is compiled for one task serves the other.
WORDS = {"verdict": ("good", "bad"), "hue": ("red", "blue")}
TASKS = tuple(WORDS)
METHODS = ["factors", "shared", "progressive", "naive"]


def rows_of(name: str, count: int = 120) -> list[dict[str, str]]:
    words = WORDS[name]
    return [{"text": f"so {words[i % 2]} {100 + i}", "label": ("yes", "no")[i % 2]} for i in range(count)]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Two task files: name -> path."""
    folder = tmp_path_factory.mktemp("sequence")
    return {name: str(write_task(folder, name, rows_of(name))) for name in WORDS}


@pytest.fixture(scope="module")
def plain(tiny_model, files, universal) -> dict:
    """What a config on the tiny model holds, but for its run directory."""
    return {
        "model": {"name": str(tiny_model)},
        "tasks": list(files.values()),
        "prompt": str(universal),
        "train": stage(2),
        "shots": 4,
        "max_length": 24,
        "test_rows": 16,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, plain):
    """The run directory of a finished sequence, from the command line."""
    folder = tmp_path_factory.mktemp("continual")
    config = folder / "continual.yaml"
    config.write_text(json.dumps(plain | {"out": str(folder / "run")}))
    assert cli.main(["continual", str(config)]) == 0
    return folder / "run"


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def timeless(run: Path) -> dict:
    """The results without what depends on the clock."""
    found = results(run)
    for outcome in found["outcomes"].values():
        outcome["seconds"] = 0.0
    return found


def composed(run: Path, name: str) -> jax.Array:
    prompt, _ = load_prompt(run, name)
    assert isinstance(prompt, PlainPrompt)
    return prompt.compose()[0]


@pytest.mark.parametrize("method", ["factors", "progressive"])
def test_earlier_tasks_predictions_stay_bit_identical(finished, pretrained, files, method):
    """A prompt that has just been learned, and the same task's when all have been, on its test rows."""
    for place, name in enumerate(TASKS):
        task = find_task(files[name])
        rows = encode(task.sample("test", 16), pretrained.tokenizer, 24)
        then, now = (
            choice_probabilities(Prompted(pretrained.backbone, SoftPrompt(vectors[None])), rows)
            for vectors in (
                composed(finished / method, f"{place}-{name}"),
                composed(finished / method, f"adapted-{place}"),
            )
        )
        np.testing.assert_array_equal(then, now)
    matrix = np.array(results(finished)["outcomes"][method]["matrix"])
    for place in range(len(TASKS)):
        np.testing.assert_array_equal(matrix[place:, place], matrix[place, place])


def test_frozen_shared_prompt_is_the_universal_one(finished, universal):
    shared = load_file(universal / "prompts" / "universal.safetensors")["shared"]
    for place, name in enumerate(TASKS):
        tensors = {
            method: load_file(finished / method / "prompts" / f"{place}-{name}.safetensors")
            for method in ("factors", "shared")
        }
        np.testing.assert_array_equal(tensors["factors"]["shared"], shared)
        assert not np.array_equal(tensors["shared"]["shared"], shared)


def test_naive_tuning_and_the_shared_prompt_do_move(finished):
    for method in ("naive", "shared"):
        first = composed(finished / method, "0-verdict")
        assert not np.array_equal(first, composed(finished / method, "adapted-0"))


def test_only_later_tasks_of_the_shared_prompt_are_distilled(finished):
    for method in METHODS:
        for place, name in enumerate(TASKS):
            lines = (finished / method / f"{place}-{name}" / "metrics.jsonl").read_text().splitlines()
            assert [json.loads(line)["step"] for line in lines] == [1, 2]
            assert ("kl" in json.loads(lines[0])) is (method == "shared" and place > 0)


def test_reported_figures_are_the_formulas_of_the_matrix(finished):
    found = results(finished)
    assert (found["tasks"], found["rows"]) == (list(TASKS), [16] * 2)
    assert list(found["outcomes"]) == METHODS
    for outcome in found["outcomes"].values():
        matrix = np.array(outcome["matrix"])
        assert outcome["average"] == average_accuracy(matrix)
        assert outcome["backward transfer"] == backward_transfer(matrix)
        assert outcome["forward transfer"] == forward_transfer(matrix, np.array(outcome["before"]))
    # All start from the universal prompt, so they know as much before the first task.
    assert len({tuple(outcome["before"]) for outcome in found["outcomes"].values()}) == 1
    assert found["outcomes"]["factors"]["backward transfer"] == 0.0


def test_numbers_and_pictures_are_written(finished):
    text = (finished / "results.md").read_text()
    for title in ("factors, shared prompt frozen", "Progressive Prompts", "after hue", "task-agnostic"):
        assert title in text
    for picture in ("course", *(f"{method}/matrix" for method in METHODS)):
        assert f"![]({picture}.svg)" in text
        assert "</svg>" in (finished / f"{picture}.svg").read_text()


@pytest.mark.parametrize("method", METHODS)
def test_saved_prompts_score_what_was_reported(finished, method):
    last = results(finished)["outcomes"][method]["matrix"][-1]
    for place in range(len(TASKS)):
        assert evaluate(finished / method, "", "test", 16, place)["accuracy"] == last[place]


def test_guessed_tasks_are_reported(finished):
    found = results(finished)
    assert all(0 <= share <= 1 for share in found["identified"])
    # The toy tasks share their class words, so a wrong guess may yet be a right answer.
    for outcome in found["outcomes"].values():
        assert len(outcome["guessed"]) == 2
    keys = load_file(finished / "keys.safetensors")
    assert keys["means"].shape == (2, 32)
    assert keys["rows"] == 2 * 8


@pytest.mark.full
def test_interrupted_sequence_ends_the_same(tmp_path, plain, pretrained, finished, monkeypatch):
    """It stops in the middle of the second task of the second method, and the first task is not needed."""
    from mpt.continual_learning import sequence

    config = from_plain(ContinualConfig, plain | {"out": str(tmp_path / "run")}, "test")
    train_stage, calls = sequence.train_stage, []

    def train_until(stage, run):
        calls.append(stage.name)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return train_stage(stage, run)

    monkeypatch.setattr(sequence, "train_stage", train_until)
    with pytest.raises(KeyboardInterrupt):
        continual(config, pretrained)
    assert not (tmp_path / "run" / "results.json").exists()
    calls.clear()
    calls += ["done"] * 6
    continual(config, pretrained)
    assert calls[6:] == ["1-hue"] * 3
    assert timeless(tmp_path / "run") == timeless(finished)
    files = sorted(path.relative_to(finished) for path in finished.rglob("*.safetensors"))
    assert len(files) == 1 + 4 * 4
    for file in files:
        assert (tmp_path / "run" / file).read_bytes() == (finished / file).read_bytes(), file


def test_finished_sequence_is_read_back(finished, plain, pretrained, capsys):
    before = tree(finished)
    assert cli.main(["continual", str(finished / "config.yaml")]) == 0
    assert "naive" in capsys.readouterr().out
    assert tree(finished) == before


def test_without_a_universal_prompt_the_others_start_from_words(tmp_path, plain, pretrained):
    keys = {"out": str(tmp_path / "run"), "prompt": "", "vectors": {"length": 4}}
    found = continual(from_plain(ContinualConfig, plain | keys, "test"), pretrained)
    assert list(found.outcomes) == ["progressive", "naive"]
    assert found.outcomes["progressive"].parameters == [4 * 32] * 2


@pytest.fixture
def continual_with(tmp_path, config_file, plain, capsys):
    """Runs a sequence with other keys, which must be refused."""

    def run(**keys) -> str:
        return refused(capsys, "continual", config_file(plain | {"out": str(tmp_path / "run")} | keys))

    return run


def test_task_that_stands_there_twice(continual_with, files):
    error = continual_with(tasks=[*files.values(), files["hue"]])
    assert "continual: tasks: 'hue' is in the sequence twice; name each task once" in error


def test_too_few_tasks(continual_with, files):
    error = continual_with(tasks=[files["hue"]])
    assert "continual: tasks: name at least two, see `mpt tasks`, or one sequence of four_1, " in error


def test_unknown_method(continual_with):
    assert "run.yaml: methods[1] is 'facters'; did you mean 'factors'?" in continual_with(
        methods=["naive", "facters"]
    )


def test_method_that_is_named_twice(continual_with):
    assert "continual: methods: one is named twice" in continual_with(methods=["naive", "naive"])


def test_method_without_a_universal_prompt(continual_with):
    error = continual_with(prompt="", methods=["naive", "shared"])
    assert "continual: method shared starts from a universal prompt; give --prompt" in error


def test_run_without_a_universal_prompt(continual_with, adapted):
    assert "no prompt 'universal' in it; it has adapted" in continual_with(prompt=str(adapted))


@pytest.fixture
def model_copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def test_prompt_of_another_backbone(continual_with, model_copy):
    file = model_copy / "model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    error = continual_with(model={"name": str(model_copy)})
    assert "universal.safetensors: trained on " in error
    assert error.endswith("; use that backbone\n")


def test_prompt_of_another_width(continual_with, model_copy):
    config, file = json.loads((model_copy / "config.json").read_text()), model_copy / "model.safetensors"
    (model_copy / "config.json").write_text(json.dumps(config | {"hidden_size": 48, "head_dim": 12}))
    wider = {32: 48, 16: 24}  # the width and all query heads; all key and value heads
    tensors = {
        name: np.resize(tensor, [wider.get(length, length) for length in tensor.shape])
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, metadata={"format": "pt"})
    assert "universal.safetensors: trained on " in continual_with(model={"name": str(model_copy)})


def test_prompt_of_another_tokenizer(continual_with, model_copy):
    file = model_copy / "tokenizer.json"
    whole = json.loads(file.read_text())
    whole["model"]["merges"] = whole["model"]["merges"][:-1]
    file.write_text(json.dumps(whole))
    error = continual_with(model={"name": str(model_copy)})
    assert "universal.safetensors: trained with another tokenizer than that of " in error


def test_classes_with_fewer_rows_than_asked_for_are_told(tmp_path, plain, pretrained, files, capsys):
    few = write_task(tmp_path, "few", rows_of("verdict", 30))
    keys = {"out": str(tmp_path / "run"), "tasks": [files["hue"], str(few)], "shots": 20}
    continual(from_plain(ContinualConfig, plain | keys | {"methods": ["naive"]}, "test"), pretrained)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mpt: warning")]
    assert [line for line in lines if "task few has" in line and "not 20; all are used" in line]


def test_end_that_goes_to_a_decoder(continual_with, tiny_model):
    error = continual_with(model={"name": str(tiny_model), "decoder_prompt": 2})
    assert "continual: model.decoder_prompt: prompts that become longer cannot have it" in error
