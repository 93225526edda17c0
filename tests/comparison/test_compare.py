"""A comparison's rows are those that its config asks for."""

import csv
import json
from dataclasses import replace

import pytest
from toys import refused, stage, toy_rows, write_task

from mpt import cli
from mpt.comparison import tuning
from mpt.comparison.config import (
    AS_PRETRAINED,
    ENTRY_NAMES,
    FROM_PRETRAINING,
    CompareConfig,
    TuneConfig,
    without,
)
from mpt.comparison.entries import ENTRIES, Cell, cells
from mpt.config.options import PromptConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import from_plain, read_yaml
from mpt.errors import UserError
from mpt.methods import AdaptConfig, options_of
from mpt.metrics.interval import FOLDS
from mpt.plan.reading import outline
from mpt.plan.stages import stages
from mpt.recipes import compare
from mpt.recipes.adapt import Result


def test_names_that_are_checked_without_the_methods_are_those_of_all_entries():
    assert list(ENTRY_NAMES) == list(ENTRIES)
    assert list(FROM_PRETRAINING) == [name for name, entry in ENTRIES.items() if entry.universal]
    assert list(AS_PRETRAINED) == [name for name in FROM_PRETRAINING if not ENTRIES[name].tuned]


def test_default_rows_are_known_and_in_the_tables_order():
    assert list(CompareConfig().methods) == [name for name in ENTRIES if name in CompareConfig().methods]


def test_only_what_is_asked_for_runs(tmp_path, compare_file, capsys):
    out = tmp_path / "run"
    methods = ("in-context examples", "LoRA")
    assert cli.main(["compare", str(compare_file), "--out", str(out), "--methods", *methods]) == 0
    results = json.loads((out / "results.json").read_text())
    assert list(results) == list(methods)
    assert not (out / "pretrain").exists()
    table = (out / "results.md").read_text()
    assert "| in-context examples | " in table
    assert "| 0 | 0 | 0 | 0 |" in table.splitlines()[2]
    assert "universal" not in table


def test_what_needs_no_pretraining_is_shown_before_it(tmp_path, compare_file, capsys, monkeypatch):
    def interrupted(*_):
        raise UserError("pretraining began")

    monkeypatch.setattr(compare, "pretrain", interrupted)
    methods = ("largest class", "universal prompt, not adapted")
    error = refused(
        capsys, "compare", str(compare_file), "--out", str(tmp_path / "run"), "--methods", *methods
    )
    assert error == "mpt: pretraining began\n"
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["largest class"] and not found["universal prompt, not adapted"]


def test_a_warning_is_said_once_per_run(tmp_path, compare_file, capsys):
    """Every method draws the same few rows and reads some twice; the next run tells it anew."""
    few = write_task(tmp_path, "few", toy_rows("mood", 20))
    options = ("--targets", str(few), "--adapt.shots", "30", "--adapt.seeds", "0")
    options += ("--adapt.train.batch-size", "64", "--adapt.train.steps", "1", "--adapt.validate-every", "0")
    trained = ("prompt tuning from instruction", "prompt tuning from vocabulary")
    methods = ("--methods", "in-context examples", "largest class", *trained)
    for name in ("a", "b"):
        capsys.readouterr()
        run = ("compare", str(compare_file), "--out", str(tmp_path / name))
        assert cli.main([*run, *options, *methods]) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mpt: warning: ")]
        assert len(told) == 2
        assert told[0].startswith("mpt: warning: task few has ")
        assert told[0].endswith(" of 'bad', not 30; all are used")
        assert "training rows of few, fewer than the 64 of a step" in told[1]


def test_unknown_method(compare_file, capsys, tmp_path):
    error = refused(capsys, "compare", str(compare_file), "--out", str(tmp_path / "x"), "--methods", "Lora")
    assert "compare: methods: no method 'Lora'; did you mean 'LoRA'?" in error
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ENTRIES)
def test_row_says_what_it_starts_from(name):
    row, base = ENTRIES[name], AdaptConfig(prompt="", freeze_shared=True, seeds=(0, 1))
    config = row.config(base, "sources", 0.5)
    assert config.method == row.method
    assert config.prompt == ("sources" if row.universal else "")
    assert config.freeze_shared is row.freeze_shared
    new = row.start in ("hard", "instruction", "vocabulary") or row.record.new_vectors
    assert (config.train.learning_rate == 0.5) is new
    assert (config.vectors.length == 0) is (row.start == "hard")
    assert config.calibrate is row.calibrated
    assert len(config.seeds) == (2 if row.trained else 1)


@pytest.mark.parametrize("name", [name for name, row in ENTRIES.items() if row.tuned])
def test_factor_moves_every_peak_rate_and_nothing_else(name):
    row, base = ENTRIES[name], AdaptConfig()
    once, twice = (row.config(base, "sources", 0.5, factor) for factor in (1.0, 2.0))
    assert once == row.config(base, "sources", 0.5)
    assert twice.train.learning_rate == 2 * once.train.learning_rate
    assert twice.train.factor_rate == 2 * once.train.factor_rate
    assert twice.train.word_rate == 2 * once.train.word_rate
    halved = replace(twice, train=once.train)
    method = row.record
    if method.learning_rates:
        before, after = options_of(once, method), options_of(twice, method)
        rates = {name: 2 * getattr(before, name) for name in method.learning_rates}
        assert after == replace(before, **rates)
        halved = replace(halved, **{method.name: before})
    assert halved == once


def test_what_is_not_pretrained_starts_where_pretraining_does():
    source = PretrainConfig(vectors=PromptConfig(length=5, start="text", text="Read."))
    source = replace(source, universal=replace(source.universal, instruction=3))
    config = CompareConfig(pretrain=source, adapt=AdaptConfig(instruction=0))
    untaught, scratch = Cell("the same, not pretrained", "a", 4), Cell("LoRA", "a", 4)
    started = untaught.entry.config(untaught.base(config), "sources", 0.5)
    assert (started.vectors, started.instruction, started.prompt) == (source.vectors, 3, "")
    assert started.train == config.adapt.train
    assert scratch.base(config).instruction == 0


def test_untrained_methods_run_once_whatever_the_shots():
    config = CompareConfig(methods=("hard prompt", "LoRA"), targets=("a", "b"), shots=(4, 16))
    assert [*cells(config)] == [
        Cell("hard prompt", "a", None),
        Cell("LoRA", "a", 4),
        Cell("hard prompt", "b", None),
        Cell("LoRA", "b", 4),
        Cell("LoRA", "a", 16),
        Cell("LoRA", "b", 16),
    ]


def test_folders_of_one_number_of_shots_are_those_of_before():
    config = CompareConfig()
    assert str(Cell("SPoT", "my/mood.yaml", 16).folder(config)) == "mood/SPoT"
    several = replace(config, shots=(4, 16))
    assert str(Cell("SPoT", "mood", 16).folder(several)) == "mood/k16/SPoT"
    assert str(Cell("hard prompt", "mood", None).folder(several)) == "mood/hard_prompt"


@pytest.fixture
def several(tmp_path, plain_pretrain, plain_adapt, toy) -> CompareConfig:
    """Two numbers of shots and a tuning, on tiny models that train a step or two."""
    third = write_task(tmp_path, "warmth", toy_rows("tone"))
    adapt = {name: value for name, value in plain_adapt.items() if name not in ("model", "task")}
    pretrain = {"tasks": [*plain_pretrain["tasks"], str(third)], "teachers": stage(2), "universal": stage(2)}
    plain = {
        "out": str(tmp_path / "run"),
        "pretrain": plain_pretrain | pretrain,
        "targets": [toy["mood"]],
        "adapt": adapt | {"train": stage(2), "validate_every": 1, "seeds": [0, 1]},
        "methods": ["hard prompt", "universal prompt, adapted", "prompt tuning from instruction"],
        "shots": [2, 4],
        "tune": {"tasks": [str(third)], "factors": [0.5, 2], "shots": 3, "rows": 12},
    }
    return from_plain(CompareConfig, plain, "test")


def test_shots_and_tuning_end_to_end(several, monkeypatch, capsys, tmp_path):
    ran, adapt = [], compare.adapt

    def noted(config, pretrained):
        ran.append(config)
        return adapt(config, pretrained)

    monkeypatch.setattr(compare, "adapt", noted)
    run = compare.compare(several)
    trials, adapted = [c for c in ran if c.scored == "validation"], [c for c in ran if c.scored == "test"]
    assert len(trials) == 2 * 2
    assert {(c.task, c.shots, c.test_rows) for c in trials} == {(several.tune.tasks[0], 3, 12)}
    assert {c.prompt for c in trials} == {"", str(run / "tuning" / "pretrain")}
    assert {c.prompt for c in adapted} == {"", str(run / "pretrain")}
    assert [c.shots for c in adapted if c.train.steps] == [2, 2, 4, 4]

    seen = PretrainConfig(tasks=several.pretrain.tasks[:2])
    saved = json.loads((run / "tuning" / "pretrain" / "prompts" / "universal.json").read_text())
    assert "warmth" not in json.dumps(saved) and len(saved["prompts"]) == len(seen.tasks)
    chosen = json.loads((run / "tuning.json").read_text())["methods"]
    assert list(chosen) == list(several.methods[1:])
    rates = {c.train.learning_rate for c in adapted if c.train.steps and c.prompt}
    assert rates == {several.adapt.train.learning_rate * chosen["universal prompt, adapted"]["factor"]}

    results = json.loads((run / "results.json").read_text())
    assert [[r["shots"] for r in row] for row in results.values()] == [[None], [2, 4], [2, 4]]
    parts = json.loads((run / "mood" / "k4" / "universal_prompt_adapted" / "results.json").read_text())[0][
        "parts"
    ]
    assert [len(part) for part in parts] == [min(FOLDS, 16)] * 2
    lines = [*csv.DictReader((run / "results.csv").open())]
    assert len(lines) == 2 * 3 * 2  # the target and the average
    assert {(line["k"], line["n"], line["seeds"]) for line in lines if line["method"] == "hard prompt"} == {
        ("2", "16", "1"),
        ("4", "16", "1"),
        ("2", "", ""),
        ("4", "", ""),
    }
    for line in lines:
        assert float(line["low"]) <= float(line["mean"]) <= float(line["high"])
        assert (line["difference"] == "") is (line["method"] == "universal prompt, adapted")
    text = (run / "results.md").read_text()
    assert text.count("## k = ") == 2
    assert "Chosen: universal prompt, adapted × " in text
    assert "after this share of the steps: k = 2: mood " in text

    names = {file.name for file in (run / "figures").iterdir()}
    assert names == {"shots.svg", "parameters.svg", "seconds.svg", "curves_2.svg", "curves_4.svg"}
    assert all(f"](figures/{name})" in text for name in names)

    before = {file: file.read_bytes() for file in run.glob("results.*")}
    compare.compare(several)
    assert before == {file: file.read_bytes() for file in run.glob("results.*")}


def test_rows_and_shots_are_added_to_what_is_there(several, capsys):
    last = replace(several, shots=(2, 4), tune=TuneConfig(), methods=("hard prompt", several.methods[2]))
    run = compare.compare(replace(last, shots=(2,), methods=last.methods[1:]))
    cell = run / "mood" / "k2" / "prompt_tuning_from_instruction" / "results.json"
    before = cell.stat().st_mtime_ns
    compare.compare(last)
    assert cell.stat().st_mtime_ns == before
    results = json.loads((run / "results.json").read_text())
    assert [[each["shots"] for each in row] for row in results.values()] == [[None], [2, 4]]
    kept = read_yaml(run / "config.yaml")
    assert (kept["methods"], kept["shots"]) == ([*last.methods], [2, 4])
    with pytest.raises(UserError, match=r"another config \(adapt\.max_length is 24 there, 23 here"):
        compare.compare(replace(last, adapt=replace(last.adapt, max_length=23)))


def test_finished_run_of_before_is_read_back(several, tmp_path, capsys):
    """Neither its configs nor its results know what has been added since."""
    config = replace(several, shots=(), tune=TuneConfig(), methods=("prompt tuning from instruction",))
    run = compare.compare(config)
    cell = run / "mood" / "prompt_tuning_from_instruction"
    whole, own = (read_yaml(path / "config.yaml") for path in (run, cell))
    del whole["shots"], whole["tune"], whole["adapt"]["scored"], own["scored"]
    for path, plain in ((run, whole), (cell, own)):
        (path / "config.yaml").write_text(json.dumps(plain))
    result = json.loads((cell / "results.json").read_text())[0]
    del result["parts"]
    (cell / "result.json").write_text(json.dumps(result))
    (cell / "results.json").unlink()
    compare.compare(config)
    assert json.loads((cell / "result.json").read_text()) == result
    assert not (cell / "results.json").exists()
    assert "| prompt tuning from instruction | " in (run / "results.md").read_text()


@pytest.fixture
def banked(universal, tmp_path, compare_file) -> CompareConfig:
    """A comparison whose universal prompt is one of a bank."""
    for file in (universal / "prompts").glob("universal.*"):
        (tmp_path / "bank").mkdir(exist_ok=True)
        (tmp_path / "bank" / f"mine{file.suffix}").write_bytes(file.read_bytes())
    plain = json.loads(compare_file.read_text())
    plain |= {"out": str(tmp_path / "run"), "source": str(tmp_path / "bank" / "mine")}
    return from_plain(CompareConfig, plain, "test")


def test_a_prompt_of_a_bank_is_compared_without_pretraining(banked, pretrained, monkeypatch):
    monkeypatch.setattr(compare, "pretrain", lambda *_: pytest.fail("a prompt was trained"))
    config = replace(banked, methods=("universal prompt, not adapted", "universal prompt, adapted"))
    run = compare.compare(config, pretrained)
    assert list(json.loads((run / "results.json").read_text())) == list(config.methods)
    assert "Training the universal prompt took" not in (run / "results.md").read_text()
    cell = read_yaml(run / "mood" / "universal_prompt_adapted" / "config.yaml")
    assert cell["prompt"] == config.source
    names = [one.name for one in stages(config, outline(config.model))[1]]
    assert names == ["mood, universal prompt, adapted"]


def test_what_starts_from_source_tasks_prompts_needs_a_run(banked):
    with pytest.raises(UserError, match="SPoT starts from source tasks' own prompts"):
        compare.compare(replace(banked, methods=("SPoT",)))


def test_ties_go_to_the_factor_nearest_to_1():
    assert tuning.Tuned({0.1: {"a": 0.5}, 3.0: {"a": 0.5}, 10.0: {"a": 0.5}}).factor == 3.0
    assert tuning.Tuned({0.3: {"a": 0.5, "b": 0.9}, 1.0: {"a": 0.6, "b": 0.7}}).factor == 0.3


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("mood", "mood.yaml' is a target; rates are tuned on other tasks"),
        ("moody", "task 'moody'"),
        ("tone", "tune.tasks: at least two source tasks must be left"),
    ],
)
def test_tuning_on_what_is_scored_or_seen_is_refused(task, message, toy, tmp_path):
    config = CompareConfig(
        out=str(tmp_path / "run"),
        pretrain=PretrainConfig(tasks=(toy["tone"], toy["colour"])),
        targets=(toy["mood"],),
        tune=TuneConfig((toy.get(task, task),), (0.5, 1.0)),
    )
    with pytest.raises(UserError, match=message):
        compare.compare(config)
    assert not (tmp_path / "run").exists()


def test_trials_on_a_task_of_their_own_start_from_the_same_prompt(several, pretrained, monkeypatch, tmp_path):
    own = write_task(tmp_path, "own", toy_rows("mood"))
    tune = replace(several.tune, tasks=(str(own),))
    prompts = []

    def trial(config, pretrained):
        prompts.append(config.prompt)
        return Result(config.task, "accuracy", [0.5], 1, 1, 1, 1.0, [])

    monkeypatch.setattr(compare, "adapt", trial)
    monkeypatch.setattr(compare, "pretrain", lambda *_: pytest.fail("another prompt was trained"))
    compare._tune(replace(several, tune=tune), pretrained, tmp_path, "the comparison's")
    assert set(prompts) == {"", "the comparison's"}


def test_pretraining_without_a_task_is_without_its_share():
    config = from_plain(PretrainConfig, {"tasks": ["a", "b", "c"], "teachers": {"shares": [1, 2, 3]}}, "test")
    found = without(config, ("b",))
    assert (found.tasks, found.teachers.shares, found.universal.shares) == (("a", "c"), (1, 3), ())
