"""`--dry-run` on packaged and toy configs: without a network, it tells what the run would do."""

import importlib.util
import json
import re
import socket
from pathlib import Path

import jax
import numpy as np
import pytest
from toys import refused, stage, toy_rows, tree, write_task

from mpt import cli
from mpt.catalog.library import find_task, packaged_tasks
from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import OURS
from mpt.config.continual import ContinualConfig
from mpt.config.options import ModelConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import find_config, from_plain, load_config
from mpt.data.counts import ROWS, tfds_rows
from mpt.data.sources import Tfds
from mpt.data.splits import SPLITS
from mpt.loading.shapes import abstract_backbone
from mpt.methods import METHODS, AdaptConfig
from mpt.models.cost import parameter_count
from mpt.plan import dry_run
from mpt.plan.here import machine
from mpt.plan.here.machine import Machine, this_machine
from mpt.plan.reading import outline
from mpt.plan.stages import stages
from mpt.prompts.prompted import Distilled
from mpt.prompts.saved import load_prompt
from mpt.recipes.adapt import adapt

PAPERS = sorted(find_config("quickstart").parent.glob("mpt_*.yaml"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(dry_run, "this_machine", lambda dtype: Machine(2e11, 0.5, 4.0))


def extent(stage) -> tuple[int, int]:
    """The prompts of a step, and the vectors of each."""
    return stage.model.prompt.extent(stage.train.batch_size)


def printed(capsys, monkeypatch, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    capsys.readouterr()
    assert cli.main([*arguments, "--dry-run"]) == 0
    return capsys.readouterr().out


def in_seconds(time: str) -> float:
    figure, unit = time.split()
    return float(figure.replace(",", "")) * {"s": 1, "min": 60, "h": 3600}[unit]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command, name", [("compare", "quickstart"), ("compare", PAPERS[0].stem)])
def test_all_that_is_told_fits_the_screen(command, name, width, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    capsys.readouterr()
    assert cli.main([command, name, "--dry-run", "--tflops", "200"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if "…" in line]


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_plan_of_a_paper_is_whole_without_a_network(path, capsys, monkeypatch, tmp_path):
    command = path.read_text().split()[2]
    monkeypatch.chdir(tmp_path)
    text = printed(capsys, monkeypatch, command, path.stem, "--tflops", "200")
    config = load_config({"pretrain": PretrainConfig, "compare": CompareConfig}[command], path)
    source = getattr(config, "pretrain", config)
    for name in (*source.tasks, *getattr(config, "targets", ())):
        assert re.search(rf"^ {find_task(name).name} ", text, re.MULTILINE)
    time = r" +([\d,.]+ (?:s|min|h))"
    petaflops, here, there = re.search(rf"^ all +([\d,.]+){time}{time}", text, re.MULTILINE).groups()
    flops = 1e15 * float(petaflops.replace(",", ""))
    assert in_seconds(here) == pytest.approx(flops / 1e11, rel=0.1)
    assert in_seconds(there) == pytest.approx(flops / 2e14, rel=0.1)
    whole = re.search(rf"^ the whole run +(?:about|more than){time}", text, re.MULTILINE)[1]
    assert in_seconds(whole) >= in_seconds(here)
    assert not list(tmp_path.iterdir())


def test_parameters_are_those_of_the_paper():
    """77,668 for a target on T5-base: 0.035 % of the backbone (section 4)."""
    pretrained = outline(load_config(PretrainConfig, find_config("mpt_source")).model)
    _, planned = stages(load_config(CompareConfig, find_config("mpt_glue")), pretrained)
    ours = [one.stage for one in planned if one.name.endswith(OURS)]
    assert [stage.trained / len(stage.rows) for stage in ours] == [77_668] * 8
    assert planned[1].stage.trained == 100 * 768 + 6 * (100 + 768)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("google-t5/t5-small", 60.5),
        ("google-t5/t5-base", 222.9),
        ("google-t5/t5-large", 737.7),
        ("google/t5-v1_1-xxl", 11135.3),
        ("google/t5-xl-lm-adapt", 2849.8),
        ("meta-llama/Llama-2-7b-hf", 6738.4),
    ],
)
def test_shapes_have_the_published_numbers_of_parameters(name, millions):
    assert parameter_count(abstract_backbone(name)) / 1e6 == pytest.approx(millions, abs=0.05)


def test_shape_of_a_folder_is_that_of_its_weights(tiny_model, pretrained, tmp_path):
    whole = parameter_count(pretrained.backbone)
    assert parameter_count(abstract_backbone(str(tiny_model))) == whole
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    assert parameter_count(abstract_backbone(str(tmp_path))) == whole


def test_unknown_model_is_named(capsys):
    error = refused(capsys, "pretrain", "mpt_source", "--dry-run", "--model.name", "google-t5/t5-bas")
    assert "google-t5/t5-bas' is not here, and its shape is not known; did you mean 't5-base'?" in error


@pytest.mark.parametrize("start", [{}, {"instruction": 3, "vectors": {"length": 4, "rank": 2}}])
def test_plan_of_a_toy_is_what_the_run_then_does(
    start, capsys, monkeypatch, tmp_path, config_file, plain_adapt
):
    """Rows, steps and parameters, of epochs too; and nothing is written."""
    plain = plain_adapt | start | {"out": str(tmp_path / "run"), "seeds": [0, 1]}
    plain["train"] = {"epochs": 3, "batch_size": 8, "save_every": 4}
    config, before = config_file(plain), tree(tmp_path)
    text = printed(capsys, monkeypatch, "adapt", config)
    assert tree(tmp_path) == before | {"run.yaml": Path(config).read_bytes()}
    counts = [len(list(find_task(plain["task"]).examples(split))) for split in SPLITS]
    assert re.search(r"^ mood +" + " +".join(map(str, counts)) + r" +[1-9]", text, re.MULTILINE)
    steps, rows, trained = re.search(r"^ adapt +(\d+) +(\d+) +(\d+)", text, re.MULTILINE).groups()
    assert (int(steps), int(rows)) == (3 * 2 * 2 * plain["shots"] // 8, 8)
    assert cli.main(["adapt", config]) == 0
    result = json.loads((tmp_path / "run" / "results.json").read_text())[0]
    assert (result["steps"], 2 * result["parameters"]) == (int(steps), int(trained))


def test_plan_from_a_universal_prompt_has_its_shape(capsys, monkeypatch, config_file, plain_adapt, universal):
    text = printed(capsys, monkeypatch, "adapt", config_file(plain_adapt | {"prompt": str(universal)}))
    prompt, _ = load_prompt(universal, "universal")
    expected = prompt.shared.size + prompt.u[0].size + prompt.v[0].size
    assert re.search(rf"^ adapt +6 +8 +{expected:,} ", text, re.MULTILINE)


def test_plan_counts_the_instruction_that_a_target_trains(plain_pretrain, plain_adapt, toy):
    """After a universal prompt, and after the start that it had; pretraining reads it, and trains none."""
    adapt = {name: value for name, value in plain_adapt.items() if name not in ("model", "task")}
    plain = {
        "pretrain": plain_pretrain | {"universal": stage(2) | {"instruction": 3}},
        "targets": [toy["mood"]],
        "methods": ["universal prompt, adapted", "the same, not pretrained"],
        "adapt": adapt,
    }
    config = from_plain(CompareConfig, plain, "test")
    _, planned = stages(config, outline(config.model))
    teachers, universal, *adapted = (one.stage for one in planned)
    length, width, sources = extent(teachers)[1], 32, len(plain_pretrain["tasks"])
    assert [extent(stage)[1] for stage in (universal, *adapted)] == [length + 3] * 3
    assert universal.trained == length * width + sources * (length + width)
    assert [stage.trained for stage in adapted] == [(length + 3) * width + length + width] * 2


def test_plan_of_wordings_has_no_teachers_and_whole_instructions(plain_pretrain, plain_adapt, toy):
    adapt = {name: value for name, value in plain_adapt.items() if name not in ("model", "task")}
    wordings = stage(2) | {"wordings": 3, "kl_weight": 0.0, "hidden_weight": 0.0}
    plain = {
        "pretrain": plain_pretrain | {"teachers": stage(0), "universal": wordings, "max_length": 64},
        "targets": [toy["mood"]],
        "methods": ["universal prompt, adapted", "the same, not pretrained"],
        "adapt": adapt | {"max_length": 64},
    }
    config = from_plain(CompareConfig, plain, "test")
    pretrained = outline(config.model)
    readings, planned = stages(config, pretrained)
    universal, *adapted = (one.stage for one in planned)
    instruction = len(pretrained.tokenizer(find_task(toy["mood"]).instruction)["input_ids"])
    assert [extent(stage)[1] for stage in (universal, *adapted)] == [4, 4 + instruction, 4 + instruction]
    for source, lengths in zip(readings["source"], universal.lengths):
        assert lengths.rows == 3 * source.rows["train"]
        assert lengths.text > source.inputs + 4


def test_plan_of_a_comparison_has_every_number_of_shots_and_the_trials(
    plain_pretrain, plain_adapt, toy, tmp_path
):
    """Steps of epochs over shots; a trial's runs are its methods times the factors."""
    third = str(write_task(tmp_path, "warmth", toy_rows("tone")))
    tasks = [*plain_pretrain["tasks"], third]
    adapt = {name: value for name, value in plain_adapt.items() if name not in ("model", "task")}
    plain = {
        "pretrain": plain_pretrain | {"tasks": tasks},
        "targets": [toy["mood"]],
        "adapt": adapt | {"train": {"epochs": 4, "batch_size": 8}},
        "shots": [2, 8],
        "tune": {"tasks": tasks[2:], "factors": [0.5, 1, 2], "shots": 4},
    }
    config = from_plain(CompareConfig, plain, "test")
    _, planned = stages(config, outline(config.model))
    found = {one.name: (one.runs, one.stage.steps, len(one.readings)) for one in planned}
    scratch = ("prompt tuning from vocabulary", "prompt tuning from instruction")
    assert found == {
        "teachers": (1, 12, 3),
        "universal": (1, 12, 3),
        "tuning, teachers": (1, 12, 2),
        "tuning, universal": (1, 12, 2),
        **{f"tuning, warmth, k = 4, {name}": (3, 4, 1) for name in (OURS, *scratch)},
        **{f"mood, k = 2, {name}": (1, 2, 1) for name in (OURS, *scratch)},
        **{f"mood, k = 8, {name}": (1, 8, 1) for name in (OURS, *scratch)},
    }


def test_source_tasks_that_no_method_starts_from_are_not_read(plain_pretrain, plain_adapt, toy, tmp_path):
    gone = str(write_task(tmp_path, "gone", [], source="gone/rows.jsonl"))
    plain = {
        "pretrain": plain_pretrain | {"tasks": [toy["tone"], gone]},
        "targets": [toy["mood"]],
        "adapt": {name: value for name, value in plain_adapt.items() if name not in ("model", "task")},
        "methods": ["LoRA"],
    }
    config = from_plain(CompareConfig, plain, "test")
    readings, planned = stages(config, outline(config.model))
    assert readings["source"] == []
    assert [one.name for one in planned] == ["mood, LoRA"]


@pytest.mark.parametrize("method", METHODS)
def test_plan_of_every_method_is_what_its_run_writes(method, tmp_path, plain_adapt, universal, pretrained):
    """Steps, trained numbers and FLOPs of the plan are those of the run's own account, of each seed's job."""
    source = {"prompt": str(universal)} if METHODS[method].needs_teachers else {}
    keys = {"out": str(tmp_path / "run"), "method": method, "seeds": [0, 1], "train": stage(2), **source}
    config = from_plain(AdaptConfig, plain_adapt | keys | {"validate_every": 0, "test_rows": 4}, "test")
    _, planned = stages(config, outline(config.model))
    adapt(config, pretrained)
    accounts = {"spot": [], "adapt": []}
    for file in (tmp_path / "run").glob("*/cost.json"):
        accounts[file.parent.name.partition("-")[0]].append(json.loads(file.read_text()))
    assert {one.name: one.runs for one in planned} == {name: len(a) for name, a in accounts.items() if a}
    for one in planned:
        for account in accounts[one.name]:
            figures = account["steps"], account["trained"], account["rows"]
            assert figures == (one.stage.steps, one.stage.trained, one.stage.train.batch_size)
            assert account["flops"] == pytest.approx(one.stage.flops, rel=0.02)


def test_rows_that_cannot_be_told_are_unknown(capsys, monkeypatch, tmp_path, config_file, plain_adapt):
    task = write_task(tmp_path, "far", [], source={"train": "https://example.org/far.jsonl"})
    plain = plain_adapt | {"task": str(task), "shots": 0, "train": {"epochs": 2}}
    text = printed(capsys, monkeypatch, "adapt", config_file(plain))
    assert re.search(r"^ far +unknown +unknown +unknown +≤ 24 \+ 2 ", text, re.MULTILINE)
    assert re.search(r"^ all +unknown +unknown", text, re.MULTILINE)


def test_tasks_read_data_sets_whose_rows_are_known():
    for task in packaged_tasks().values():
        source = getattr(task.source, "source", task.source)
        if isinstance(source, Tfds):
            assert source.name.partition(":")[0] in ROWS
            assert all(source.count(split) for split in source.splits)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("train", 392_702),
        ("train[1000:]", 391_702),
        ("train[:1000]", 1000),
        ("train[50%:]", 196_351),
    ],
)
def test_split_expressions_are_resolved(expression, rows):
    assert tfds_rows("glue/mnli", expression) == rows


def test_data_set_that_nobody_knows_has_unknown_rows():
    assert tfds_rows("nothing_like_it", "train") is None
    assert tfds_rows("glue/mnli", "tset") is None


def test_plan_of_a_sequence_has_every_lesson(universal, tiny_model, toy):
    config = ContinualConfig(
        model=ModelConfig(str(tiny_model)),
        prompt=str(universal),
        tasks=(toy["tone"], toy["mood"]),
        shots=4,
        max_length=24,
    )
    tasks, planned = stages(config, outline(config.model))
    assert [reading.task.name for reading in tasks["sequence"]] == ["tone", "mood"]
    length, width = 4, 32
    own, whole = length + width, length * width
    expected = [
        ("tone, factors, shared prompt frozen", 1, length, own),
        ("mood, factors, shared prompt frozen", 1, length, own),
        ("tone, shared prompt, distilled", 1, length, whole + own),
        ("mood, shared prompt, distilled", 2, length, whole + 2 * own),
        ("tone, Progressive Prompts", 1, length, whole),
        ("mood, Progressive Prompts", 1, 2 * length, whole),
        ("tone, naive sequential tuning", 1, length, whole),
        ("mood, naive sequential tuning", 1, length, whole),
    ]
    assert [(one.name, *extent(one.stage), one.stage.trained) for one in planned] == expected
    distilled = [one.name for one in planned if isinstance(one.stage.model, Distilled)]
    assert distilled == ["mood, shared prompt, distilled"]
    assert {one.stage.lengths[0].rows for one in planned} == {8}


def test_sequence_is_planned_from_the_command_line(capsys, monkeypatch, tiny_model, toy, tmp_path):
    options = ["--model.name", str(tiny_model), "--tasks", toy["tone"], toy["mood"]]
    text = printed(capsys, monkeypatch, "continual", *options, "--out", str(tmp_path / "run"))
    assert "sequence tasks" in text and "mood, Progressive Prompts" in text
    assert "distilled" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_time_of_every_method_counts_all_parts_of_a_run(
    method, capsys, monkeypatch, config_file, plain_adapt, universal
):
    source = {"prompt": str(universal)} if method != "auto" and METHODS[method].needs_teachers else {}
    plain = plain_adapt | {"method": method, "train": {"steps": -1}, "baselines": True} | source
    text = printed(capsys, monkeypatch, "adapt", config_file(plain))
    times = re.findall(
        r"^ (loading|compiling|search|training|evaluation|the whole).*  .*\d (s|min|h)\b", text, re.M
    )
    trained = method == "auto" or METHODS[method].trained
    parts = ["loading", "compiling", *(["search", "training"] if trained else []), "evaluation", "the whole"]
    assert [part for part, _ in times] == parts
    assert "unknown" not in text


@pytest.mark.parametrize("baseline", ["largest class", "linear probe"])
def test_time_of_a_baseline_is_told(baseline, capsys, monkeypatch, config_file, plain_adapt):
    text = printed(capsys, monkeypatch, "adapt", config_file(plain_adapt | {"baseline": baseline}))
    assert "Nothing is trained." in text
    assert ("evaluation" in text) == (baseline == "linear probe")


def test_time_grows_with_what_there_is_to_do(capsys, monkeypatch, config_file, plain_adapt):
    """Rows that are scored, seeds, baselines and steps."""
    monkeypatch.setattr(dry_run, "this_machine", lambda dtype: Machine(2e4, 0.5, 0.0))

    def seconds(**keys) -> float:
        plain = plain_adapt | {"train": stage(1), "validate_every": 0} | keys
        text = printed(capsys, monkeypatch, "adapt", config_file(plain))
        return in_seconds(re.search(r"whole run +about (.*\d (?:s|min|h))", text)[1])

    base = seconds()
    assert seconds(test_rows=0) > base
    assert seconds(seeds=[0, 1, 2]) > base
    assert seconds(validate_every=1) > base
    assert seconds(baselines=True) > base
    assert seconds(train=stage(60)) > base
    assert seconds(train={"steps": -1}) > base


def test_machine_is_measured_once(monkeypatch, tmp_path, tiny_model):
    monkeypatch.setenv("MPT_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "MODEL", str(tiny_model))
    first = this_machine("float32")
    assert 0 < first.share <= 1 and first.compiling > 0 and first.speed == first.rate * first.share
    monkeypatch.setattr(machine, "measured", None)
    monkeypatch.setattr(machine, "machine_rate", lambda dtype: 1e9)
    assert this_machine("float32") == Machine(1e9, first.share, first.compiling)
    monkeypatch.setattr(machine, "MEASURED", 0)
    with pytest.raises(TypeError):  # constants that were measured in another way are measured again
        this_machine("float32")


def test_what_compiling_takes_is_not_measured_by_a_program_that_is_kept(monkeypatch, tiny_model):
    """Another run may have compiled the step that is measured: reading it takes no time."""
    monkeypatch.setattr(machine, "MODEL", str(tiny_model))
    monkeypatch.setattr(machine, "machine_rate", lambda dtype: 1e9)  # its program is no training step
    used: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: used.append(event))
    for _ in range(2):
        jax.clear_caches()
        used.clear()
        assert machine.measured("float32").compiling > 0
        assert not any("cache_hits" in event for event in used)
    jax.clear_caches()
    jax.jit(lambda x: x + 1)(np.float32(1))
    assert any("compile_requests_use_cache" in event for event in used)  # it is used again after that


ROW = {"text": "so glad", "label": "yes"}


@pytest.mark.parametrize(
    ("rows", "keys", "config", "message"),
    [
        ([*toy_rows("mood"), ROW | {"label": "maybe"}], {}, {}, "label 'maybe' is not in the verbalizer"),
        ([*toy_rows("mood"), {"text": "so"}], {}, {}, "no column 'label'"),
        (
            toy_rows("mood"),
            {"verbalizer": {"yes": "good", "no": "good "}},
            {},
            "have the same tokens",
        ),
        (toy_rows("mood"), {"source": {"train": "mine.jsonl"}}, {}, "has no validation split"),
        (toy_rows("mood", 1), {}, {}, "is empty"),
        (toy_rows("mood"), {}, {"track": ["wandb"]}, ""),
        (
            toy_rows("mood"),
            {},
            {"baseline": "copy the input"},
            "is for free text, and task mine is of class words",
        ),
        (toy_rows("mood"), {}, {"prompt": "nothing/there"}, "nothing/there"),
        (toy_rows("mood"), {}, {"method": "attempt"}, "needs source prompts"),
        (toy_rows("mood"), {}, {"vectors": {"start": "text"}}, "text"),
    ],
)
def test_what_the_run_refuses_the_dry_run_refuses(
    rows, keys, config, message, capsys, config_file, plain_adapt, tmp_path
):
    task = write_task(tmp_path, "mine", rows, **keys)
    plain = plain_adapt | {"task": str(task), "out": str(tmp_path / "run")} | config
    if config.get("track") and importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    file = config_file(plain)
    said = refused(capsys, "adapt", file, "--dry-run")
    assert message in said
    assert not (tmp_path / "run").exists()
    assert cli.main(["adapt", file]) == 2
    assert capsys.readouterr().err.splitlines(keepends=True)[-1] == said  # after warnings


def test_folder_of_another_run_is_refused_without_a_change(
    capsys, config_file, plain_adapt, adapted, tmp_path, monkeypatch
):
    before = tree(adapted)
    told = refused(capsys, "adapt", config_file(plain_adapt | {"out": str(adapted)}), "--dry-run")
    assert f"{adapted} holds a run of another config" in told
    task = Path(plain_adapt["task"])
    monkeypatch.chdir(task.parent)
    again = "adapt", str(adapted / "config.yaml"), "--task", task.name, "--dry-run"
    assert cli.main([*again, "--baselines"]) == cli.main(again) == 0
    assert tree(adapted) == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    told = refused(capsys, "adapt", config_file(plain_adapt | {"out": str(tmp_path / "thesis")}), "--dry-run")
    assert "exists and is not a run of mpt" in told
