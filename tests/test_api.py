"""The Python API on the tiny model: its runs are those of the commands."""

import inspect
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toys import stage, toy_rows, tree

import mpt
from mpt import cli
from mpt.catalog.library import find_task
from mpt.errors import UserError

SHORT = {"method": "prompt", "shots": 4, "max_length": 24, "test_rows": 16, "train": stage(1)}
UNTRAINED = {**SHORT, "train": {"steps": 0}, "vectors": {"length": 2, "start": "uniform"}}


@pytest.fixture(scope="module")
def backbone(tiny_model):
    return mpt.load_backbone(tiny_model)


def of_rows(name: str, count: int = 120) -> mpt.Task:
    """A task that only Python knows; its rows have a column that JSON has no word for."""
    rows = [row | {"more": object()} for row in toy_rows(name, count)]
    words = {"yes": "good", "no": "bad"}
    return mpt.make_task(
        rows, name, template="{text}\nSo:", verbalizer=words, instruction="Is it good or bad?"
    )


@pytest.fixture(scope="module")
def source(backbone, toy, tmp_path_factory):
    """A universal prompt of a task file and of rows."""
    folder = tmp_path_factory.mktemp("source") / "run"
    options = {"max_length": 24, "vectors": {"length": 4}, "teachers": stage(1), "universal": stage(1)}
    return mpt.pretrain(backbone, [toy["tone"], of_rows("colour")], folder, **options)


@pytest.fixture(scope="module")
def prompt(source, tmp_path_factory):
    """An adaptation to rows."""
    return mpt.adapt(source, of_rows("mood"), tmp_path_factory.mktemp("api") / "run", seeds=range(2), **SHORT)


def test_command_finds_a_pretraining_finished(source, capsys):
    before = tree(source.path)
    assert cli.main(["pretrain", str(source.path / "config.yaml")]) == 0
    assert str(source.path) in capsys.readouterr().out
    assert tree(source.path) == before


def test_adaptation_to_rows_is_that_of_the_command(prompt, tmp_path, monkeypatch):
    """The run holds its task, and its config runs it again, from any folder."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["adapt", str(prompt.path / "config.yaml"), "--out", "again"]) == 0
    file = "prompts/adapted.safetensors"
    assert (tmp_path / "again" / file).read_bytes() == (prompt.path / file).read_bytes()


def test_predictions_are_those_of_the_command(prompt, tmp_path, capsys):
    texts = ["so glad", "it {is} sad", "é"]
    (tmp_path / "rows.txt").write_text("\n".join(texts))
    capsys.readouterr()
    assert cli.main(["predict", str(prompt.path), "--input", str(tmp_path / "rows.txt"), "--index", "1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert prompt.predict(texts, index=1) == lines
    assert prompt.predict(pd.DataFrame({"text": texts, "more": [1, 2, 3]}), index=1) == lines
    assert prompt.predict([]) == []
    assert prompt.predict(texts[0], index=1) == lines[:1]
    assert prompt.predict({"text": texts[0], "more": 1}, index=1) == lines[:1]


def test_figures_are_those_of_the_run(prompt):
    (result,) = prompt.results
    assert (result.task, result.rows, len(result.scores)) == ("mood", 16, 2)
    for index, score in enumerate(result.scores):
        found = prompt.evaluate(rows=16, index=index)
        assert found == {"task": "mood", "split": "test", "rows": 16, "accuracy": score}
    assert prompt.card.metrics["test accuracy"] == np.mean(result.scores)
    assert "mood" in prompt._repr_markdown_()


def test_what_is_printed_is_short_and_has_the_score(prompt, source, backbone, tmp_path):
    task = of_rows("mood", 4000)
    assert repr(task) == "<Task mood: the classes good, bad, scored by accuracy; rows given in Python>"
    many = replace(task, verbalizer={str(i): f"word {i}" for i in range(77)})
    assert "mood: 77 classes, scored" in repr(many)
    assert "mood: free text, scored" in repr(replace(task, verbalizer={}))
    score = f"{100 * np.mean(prompt.results[0].scores):.1f} ["
    assert repr(prompt).startswith(f"<Run {prompt.path}: mood: accuracy {score}")
    assert repr(prompt).endswith("] over 2 seeds, 16 rows>")
    assert ", of tone, colour>" in repr(source)
    assert str(prompt) == repr(prompt)
    assert len(repr(prompt)) - len(str(prompt.path)) < 80
    gone = replace(prompt, path=tmp_path / "gone")
    assert repr(gone) == f"<Run {tmp_path / 'gone'}>"


@pytest.mark.parametrize("count", [1, 2, 4])
def test_too_few_rows_are_told_with_how_many_it_takes(backbone, tmp_path, count):
    rows = [(row["text"], row["label"]) for row in toy_rows("tone", count)]
    with pytest.raises(mpt.UserError, match=r"split of .* is empty; .* it needs about \d+ rows"):
        mpt.adapt(backbone, rows, tmp_path / "run", **UNTRAINED)


def test_prompt_is_evaluated_on_other_rows(prompt):
    rows = [("so glad", "yes"), ("so sad", "no")]
    assert prompt.evaluate(data=rows)["rows"] == 2
    frame = pd.DataFrame(rows, columns=["text", "label"])
    assert prompt.evaluate(data=frame) == prompt.evaluate(data=rows)


def test_universal_prompt_knows_its_tasks_and_starts_on_others(source, toy):
    assert source.vectors.shape == (2, 4, 32)
    assert source.results == []
    assert source.evaluate("tone", rows=8) == source.evaluate(toy["tone"], rows=8)
    assert source.evaluate("colour", rows=8)["task"] == "colour"
    assert source.evaluate(of_rows("mood"), rows=8) == source.evaluate(toy["mood"], rows=8)
    assert source.predict(["so glad"], find_task(toy["mood"])) == source.predict(["so glad"], toy["mood"])


def test_comparison_is_that_of_the_command(backbone, toy, tmp_path, capsys):
    options = {"methods": ["hard prompt", "prompt tuning from instruction"], "adapt": SHORT | {"seeds": [0]}}
    compared = mpt.compare(backbone, [], [of_rows("mood")], tmp_path / "run", **options)
    assert [len(each) for each in compared.results.values()] == [1, 1]
    before = tree(compared.path)
    assert cli.main(["compare", str(compared.path / "config.yaml")]) == 0
    kept = {name for name in before if not name.endswith(("report.html", ".svg", "machine.json"))}
    assert {name: tree(compared.path)[name] for name in kept} == {name: before[name] for name in kept}
    assert "| hard prompt |" in compared._repr_markdown_()
    first, hard, _ = repr(compared).splitlines()
    assert first == f"<ComparedRun {compared.path}: mood, k = 4"
    assert hard.startswith("  hard prompt: ")
    assert f"{100 * np.mean(compared.results['hard prompt'][0].scores):.1f} [" in hard
    with pytest.raises(mpt.UserError, match="no method 'Lora'; did you mean 'LoRA'"):
        mpt.compare(backbone, [], [toy["mood"]], tmp_path / "other", methods=["Lora"])


def test_sequence_is_learned_as_by_the_command(source, tmp_path, capsys):
    options = {
        "shots": 4,
        "max_length": 24,
        "test_rows": 8,
        "train": stage(1),
        "methods": ["factors", "naive"],
    }
    learned = mpt.continual(source, [of_rows("mood"), of_rows("tone")], tmp_path / "run", **options)
    assert learned.results.tasks == ["mood", "tone"]
    assert [len(run.predict(["so glad"], index=1)) for run in learned.runs.values()] == [1, 1]
    first, *lines = repr(learned).splitlines()
    assert first == f"<SequenceRun {learned.path}: mood → tone"
    assert len(lines) == 2
    before = tree(learned.path)
    assert cli.main(["continual", str(learned.path / "config.yaml")]) == 0
    assert tree(learned.path) == before


def test_opened_run_has_its_own_backbone_unless_one_is_given(prompt, tiny_model):
    run = mpt.load(prompt.path)
    assert run == prompt
    assert run.backbone.pretrained is not prompt.backbone.pretrained
    assert run.backbone.config == mpt.ModelConfig(str(tiny_model))
    assert mpt.load(prompt.path, prompt.backbone).backbone is prompt.backbone


def test_words_are_the_nearest_tokens(prompt):
    words = prompt.words(count=3)
    assert [len(line) for line in words] == [3] * 4
    assert words == [near[:3] for near in prompt.inspect(rows=0).words[0].near]
    assert (prompt.path / "inspect.html").is_file()


def test_saved_copy_predicts_alike(prompt, backbone, tmp_path):
    copy = prompt.save(tmp_path / "copy")
    assert {path.name for path in copy.iterdir()} == {"README.md", "config.yaml", "prompts", "results.json"}
    run = mpt.load(copy, backbone)
    assert run.predict(["so glad"]) == prompt.predict(["so glad"])
    assert run.results == prompt.results
    with pytest.raises(mpt.UserError, match="exists already"):
        prompt.save(copy)


def test_export_is_that_of_the_command(prompt, tmp_path):
    out = prompt.export("embeddings", tmp_path / "a")
    assert cli.main(["export", str(prompt.path), "--format", "embeddings", "--out", str(tmp_path / "b")]) == 0
    assert tree(out) == tree(tmp_path / "b")


@pytest.mark.parametrize("format", ["onnx", "PEFT", "embedding", ""])
def test_no_other_format_is_taken_for_a_known_one(prompt, tmp_path, format):
    with pytest.raises(UserError, match=f"export: no format '{format}'; "):
        prompt.export(format, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prompt_from_scratch_starts_from_a_backbone(backbone, tmp_path):
    pairs = [(row["text"], row["label"]) for row in toy_rows("mood")]
    vectors = mpt.PromptConfig(length=3, start="vocabulary")
    run = mpt.adapt(backbone, pairs, tmp_path / "run", **UNTRAINED | {"vectors": vectors})
    assert run.vectors.shape == (1, 3, 32)
    assert run.card.prompts == ["rows"]
    assert run.predict(["so glad"])[0]["probabilities"].keys() == {"yes", "no"}


def test_folder_follows_from_what_a_run_is_made_of(backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = mpt.adapt(backbone, of_rows("mood"), **UNTRAINED)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*.*")}
    assert mpt.adapt(backbone, of_rows("mood"), **UNTRAINED) == run
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*.*")} == before
    other = mpt.adapt(backbone, of_rows("mood", 60), **UNTRAINED)
    assert run.path != other.path
    assert all(str(each.path).startswith("runs/mood-") for each in (run, other))


def test_config_is_what_options_change(backbone, toy, tmp_path, config_file):
    plain = {"train": {"steps": 0, "clip_norm": 0.5}, "shots": 3, "test_rows": 8, "max_length": 24}
    base = mpt.AdaptConfig(**plain | {"train": replace(mpt.AdaptConfig().train, steps=0, clip_norm=0.5)})
    options = {"vectors": UNTRAINED["vectors"], "train": {"clip_norm": 0.25}}
    runs = [
        mpt.adapt(backbone, toy["mood"], tmp_path / str(place), config, **options)
        for place, config in enumerate([base, config_file(plain)])
    ]
    first, second = ((run.path / "config.yaml").read_text().splitlines() for run in runs)
    assert first[1:] == second[1:]
    assert {"  clip_norm: 0.25", "  steps: 0", "shots: 3"} <= set(first)


def mistakes(backbone, source, toy, folder):
    mood = toy["mood"]
    # As users have them: the types of arguments are checked in tests alone.
    adapt, compare, continual, pretrain = map(
        inspect.unwrap, (mpt.adapt, mpt.compare, mpt.continual, mpt.pretrain)
    )
    yield "no such file or folder", lambda: mpt.load_backbone("no/such/folder")
    yield "load_backbone: unknown key 'dtpye'; did you mean 'dtype'?", lambda: mpt.load_backbone(dtpye=1)
    yield "no run directory", lambda: mpt.load(folder)
    yield "adapt: unknown key 'shot'; did you mean 'shots'?", lambda: mpt.adapt(source, mood, shot=4)
    yield "adapt: unknown key 'step'; did you mean 'train.steps'?", lambda: mpt.adapt(source, mood, step=4)
    yield (
        "adapt: the first argument is a run or a backbone",
        lambda: adapt(str(source.path), mood),
    )
    yield (
        "adapt: the first argument is a run or a backbone",
        lambda: adapt(of_rows("mood"), source),
    )
    yield (
        "continual: the first argument is a run",
        lambda: continual("smollm2-135m", [mood, mood]),
    )
    yield "pretrain: the first argument is a backbone", lambda: pretrain(source, [mood, mood])
    yield (
        "compare: the first argument is a backbone",
        lambda: compare("smollm2-135m", [], [mood]),
    )
    yield "give a list of tasks, not 'movies'", lambda: mpt.compare(backbone, [mood], "movies")
    yield "give a list of tasks, not 'movies'", lambda: mpt.adapt(source, mood, also="movies")
    yield "no split 'tset'; did you mean 'test'?", lambda: source.evaluate("tone", split="tset")
    yield "rows: it must be", lambda: source.evaluate("tone", rows=-1)
    yield "unknown key 'train.step'; did you mean", lambda: mpt.adapt(source, mood, train={"step": 4})
    yield "shots must be a whole number, not '4'", lambda: mpt.adapt(source, mood, shots="4")
    yield "model is not an option here", lambda: mpt.adapt(source, mood, model="gpt2")
    yield "task 'moood' is unknown", lambda: mpt.adapt(source, "moood")
    yield "there are no rows", lambda: mpt.adapt(source, [])
    yield "neither a mapping nor a (text, label) pair", lambda: mpt.adapt(source, ["so glad"])
    yield "two tasks are called 'mood'", lambda: mpt.adapt(source, mood, also=[of_rows("mood")])
    yield "give a list of tasks", lambda: mpt.pretrain(backbone, mood)
    yield "at least two source tasks", lambda: mpt.pretrain(backbone, [of_rows("mood")])
    yield "it knows tone, colour; name one", lambda: source.predict(["so glad"])
    yield "give a list or a pandas frame", lambda: source.evaluate("tone", data="so glad")
    yield "no column 'text'", lambda: source.predict([{"txt": "so glad"}], "tone")
    yield "neither a mapping nor a (text, label) pair", lambda: source.evaluate("tone", data=["so glad"])


def test_mistake_is_told_in_one_line_and_leaves_nothing(backbone, source, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for reason, ask in mistakes(backbone, source, toy, tmp_path):
        with pytest.raises(mpt.UserError) as error:
            ask()
        assert reason in str(error.value)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_other_rows_are_another_run(prompt, source):
    with pytest.raises(mpt.UserError, match="has other rows than were given"):
        mpt.adapt(source, of_rows("mood", 80), prompt.path, seeds=range(2), **SHORT)


def test_every_public_name_is_there():
    assert [name for name in mpt.__all__ if getattr(mpt, name).__name__ != name] == []
    assert set(mpt.__all__) <= set(dir(mpt))
    with pytest.raises(AttributeError, match="no attribute 'adpat'"):
        _ = mpt.adpat


@pytest.mark.full
def test_import_and_help_bring_no_jax():
    program = "import sys, mpt, mpt.cli; mpt.cli.main(['--help']); print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "False"
