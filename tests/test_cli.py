"""The `mpt` command from end to end on the tiny model."""

import io
import json
import subprocess
import sys
from dataclasses import asdict
from operator import attrgetter

import pytest
from toys import ROOT, refused, start_mpt, write_spiece, write_task

from mpt import cli
from mpt.commands import train
from mpt.commands.booleans import as_flags, booleans
from mpt.comparison.config import CompareConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import load_config
from mpt.loading.hf import open_folder
from mpt.methods import AdaptConfig
from mpt.version import __version__


def output(capsys, *arguments: str) -> str:
    """Runs a command that must succeed, and returns what it prints."""
    capsys.readouterr()
    assert cli.main(list(arguments)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("option", ["--version", "-V", "version"])
def test_the_version_is_told(capsys, option):
    assert output(capsys, option) == f"mpt {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_command(capsys, arguments):
    text = output(capsys, *arguments)
    for name, command in cli.commands().items():
        assert f"{name} " in text
        assert command.__doc__ in " ".join(text.split())


@pytest.mark.parametrize("option", ["--help", "--help-all"])
@pytest.mark.parametrize("command", [*cli.commands(), "bank add", "bank search", "tasks show"])
def test_every_command_has_help(capsys, command, option):
    try:
        assert cli.main([*command.split(), option]) == 0
    except SystemExit as stopped:
        assert stopped.code == 0
    assert capsys.readouterr().out.startswith("usage: mpt ")


def test_help_explains_every_option_of_a_config(capsys):
    with pytest.raises(SystemExit):
        cli.main(["pretrain", "--help-all"])
    text = capsys.readouterr().out
    for name in asdict(PretrainConfig())["teachers"]:
        assert f"--teachers.{name.replace('_', '-')}" in text


def test_run_directory_of_pretraining(universal):
    names = {path.name for path in (universal / "prompts").iterdir()}
    assert names == {
        f"{name}.{kind}" for name in ("teachers", "universal") for kind in ("safetensors", "json", "md")
    }
    for stage in ("teachers", "universal"):
        lines = (universal / stage / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))
        assert list((universal / stage).glob("events.out.tfevents.*"))
        assert (universal / stage / "checkpoints" / "12").is_dir()


def test_run_directory_is_far_smaller_than_the_model(universal, tiny_model):
    """The frozen weights are not in it."""
    parts = [path for part in ("prompts", "teachers", "universal") for path in (universal / part).rglob("*")]
    largest = max(path.stat().st_size for path in parts if path.is_file())
    assert largest < (tiny_model / "model.safetensors").stat().st_size / 2


def test_card_says_what_the_prompt_is(universal, tiny_model):
    card = json.loads((universal / "prompts" / "universal.json").read_text())
    assert card["prompts"] == ["tone", "colour"]
    assert card["backbone"] == str(tiny_model)
    assert card["max_length"] == 24
    assert card["rows"].keys() == {"tone", "colour"}
    assert len(card["backbone_hash"]) == len(card["tokenizer_hash"]) == 64


def test_result_of_adaptation(adapted):
    result = json.loads((adapted / "results.json").read_text())[0]
    assert (result["task"], result["metric"], result["steps"], result["rows"]) == ("mood", "accuracy", 6, 16)
    assert len(result["scores"]) == 2
    assert [step for step, _ in result["curve"]] == [0, 3, 6]


def test_evaluation_gives_the_figure_of_the_adaptation(capsys, adapted):
    scores = json.loads((adapted / "results.json").read_text())[0]["scores"]
    for index, score in enumerate(scores):
        found = json.loads(output(capsys, "evaluate", str(adapted), "--rows", "16", "--index", str(index)))
        assert found == {"task": "mood", "split": "test", "rows": 16, "accuracy": score}


def test_universal_prompt_is_evaluated_on_a_task_it_knows(capsys, universal, toy):
    found = json.loads(
        output(capsys, "evaluate", str(universal), "--task", toy["tone"], "--split", "validation")
    )
    assert (found["task"], found["split"]) == ("tone", "validation")
    assert 0 <= found["accuracy"] <= 1


def predictions(text: str) -> list[dict]:
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert line["probabilities"].keys() == {"yes", "no"}
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert line["prediction"] == max(line["probabilities"], key=line["probabilities"].get)
    return found


def test_prediction_for_bare_text_and_for_json_is_one(capsys, adapted, tmp_path, monkeypatch):
    rows = ["so glad", "it {is} sad", "é"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": row, "more": 1}) + "\n" for row in rows))
    from_json = predictions(output(capsys, "predict", str(adapted), "--input", str(path)))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(rows)))
    from_text = predictions(output(capsys, "predict", str(adapted)))
    assert len(from_text) == 3
    assert from_text == from_json


def test_universal_prompt_predicts_for_a_task_it_has_not_seen(capsys, universal, toy, tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("so glad\n")
    assert (
        len(
            predictions(
                output(capsys, "predict", str(universal), "--task", toy["mood"], "--input", str(path))
            )
        )
        == 1
    )


def test_options_override_the_config_and_are_saved(tmp_path, config_file, plain_adapt, capsys):
    run = tmp_path / "run"
    config = config_file(plain_adapt | {"out": str(run)})
    output(
        capsys, "adapt", config, "--train.steps", "2", "--vectors.start", "vocabulary", "--seeds", "3", "4"
    )
    saved = load_config(AdaptConfig, run / "config.yaml")
    assert (saved.train.steps, saved.vectors.start, saved.seeds) == (2, "vocabulary", (3, 4))
    assert saved.train.batch_size == plain_adapt["train"]["batch_size"]


def test_saved_config_runs_the_same_again(tmp_path, adapted, capsys):
    again = tmp_path / "again"
    output(capsys, "adapt", str(adapted / "config.yaml"), "--out", str(again))
    file = "prompts/adapted.safetensors"
    assert (again / file).read_bytes() == (adapted / file).read_bytes()
    results = [json.loads((run / "results.json").read_text())[0] | {"seconds": 0} for run in (again, adapted)]
    assert results[0] == results[1]


@pytest.mark.full
def test_comparison_prints_every_method(compared):
    run, text = compared
    results = json.loads((run / "results.json").read_text())
    assert len(results) == 8  # three of them baselines
    table = (run / "results.md").read_text()
    for method, (result,) in results.items():
        assert f"| {method} |" in table
        assert f"mood, {method}: " in text
        assert result["rows"] == 16
    assert results["hard prompt"][0]["steps"] == 0


def test_target_must_be_held_out(config_file, plain_pretrain, toy, capsys, tmp_path):
    config = config_file({"pretrain": plain_pretrain, "targets": [toy["tone"]], "out": str(tmp_path / "run")})
    assert cli.main(["compare", config]) == 2
    assert "is a source and a target; a target must be held out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_comparisons_share_a_source_stage(
    config_file, plain_pretrain, plain_adapt, universal, toy, tmp_path, capsys
):
    """With a source task among the targets, where that is asked for."""
    before = (universal / "prompts" / "universal.safetensors").stat().st_mtime_ns
    adapt = {name: plain_adapt[name] for name in ("vectors", "shots", "max_length", "test_rows")}
    config = {
        "pretrain": plain_pretrain,
        "source": str(universal),
        "targets": [toy["tone"]],
        "held_out": False,
        "adapt": adapt | {"train": {"steps": 1, "batch_size": 8}},
        "out": str(tmp_path / "run"),
    }
    assert "universal prompt, adapted" in output(capsys, "compare", config_file(config))
    assert (universal / "prompts" / "universal.safetensors").stat().st_mtime_ns == before
    assert not (tmp_path / "run" / "pretrain").exists()


def test_tasks_are_listed(capsys):
    text = output(capsys, "tasks")
    for name in ("movies", "bbc", "boolq"):
        assert name in text
    assert output(capsys, "tasks", "list") == text


def test_task_is_shown_with_rendered_examples(capsys, toy):
    text = output(capsys, "tasks", "show", toy["tone"], "--rows", "2")
    assert "the first 2 train examples of" in text
    assert "Is it good or bad?" in text
    assert text.count("So:") == 2
    assert "tokens" not in text


def test_shown_example_says_what_is_cut(capsys, tmp_path, tiny_model, pretrained):
    rows = [{"text": "so great 1 2 3 4 5 6 7 8 9", "label": "yes"}, {"text": "great", "label": "yes"}]
    path = write_task(tmp_path, "long", rows, source={"train": "long.jsonl"}, template="{text}\nSo: [b]{{}}")
    text = output(capsys, "tasks", "show", str(path), "--model", str(tiny_model), "--max-length", "22")
    first, second = text.split("great")[1:3]
    count = len(pretrained.tokenizer("so great 1 2 3 4 5 6 7 8 9\nSo: [b]{}")["input_ids"])
    assert f"{count} tokens; to fit 22, it loses: " in first
    assert first.splitlines()[-2].endswith("8 9")
    assert "So: [b]{}" in first
    assert "loses" not in second


def test_a_shown_target_keeps_the_blank_that_a_tokenizer_begins_it_with(capsys, tmp_path, monkeypatch):
    _, tokenizer, _ = open_folder(write_spiece(tmp_path))
    monkeypatch.setattr("mpt.loading.hf.load_tokenizer", lambda name: (tokenizer, "decoder"))
    rows = [{"text": "we", "label": "great"}]
    keys = {"source": {"train": "so.jsonl"}, "template": "{text} so ", "verbalizer": {"great": "great"}}
    path = write_task(tmp_path, "so", rows, **keys)
    assert "[prompt]we so great\n" in output(capsys, "tasks", "show", str(path), "--model", "some/model")


SLOW = {"jax", "transformers", "torch"}


@pytest.mark.parametrize(
    ("program", "answer", "slow"),
    [
        ("import mpt", "", SLOW | {"numpy"}),
        ("from mpt.cli import main; main(['--help'])", "usage: mpt COMMAND", SLOW | {"numpy"}),
        ("from mpt.cli import main; main(['tasks'])", "Available at once", SLOW),
        ("from mpt.cli import main; main(['bank', 'list', '--bank', 'packaged'])", "packaged:", SLOW),
    ],
)
def test_nothing_slow_is_imported_before_it_is_needed(program, answer, slow):
    """`import mpt` and `mpt --help` are done at once, and so are lists."""
    program += f"; import sys; slow = {slow} & sys.modules.keys(); assert not slow, slow"
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(answer)


@pytest.mark.full
def test_reader_that_goes_away_is_no_error(adapted):
    process = start_mpt("predict", str(adapted), stdin=subprocess.PIPE)
    process.stdout.close()
    process.stdin.write("so glad\n" * 600)
    process.stdin.close()
    assert process.wait(timeout=180) == 0
    assert "Traceback" not in process.stderr.read()


EVERY_LAYER = (
    ("vectors.rank", "0"),
    ("universal.wordings", "4"),
    ("universal.kl-weight", "0"),
    ("universal.hidden-weight", "0"),
)
KINDS = {"pretrain": PretrainConfig, "adapt": AdaptConfig, "compare": CompareConfig, "plan": PretrainConfig}


@pytest.mark.parametrize("command", KINDS)
@pytest.mark.parametrize("word", ["True", "no"])
def test_every_boolean_of_a_command_takes_a_word(command, word):
    names = [*booleans(KINDS[command])]
    in_every_layer = [name for name in names if name.endswith("every_layer")]
    for some in (set(names) - {*in_every_layer}, in_every_layer):
        words = [each for name in some for each in (f"--{name.replace('_', '-')}", word)]
        if some is in_every_layer:  # which a pretraining has with these alone
            section = "--pretrain." if command == "compare" else "--"
            needed = () if command == "adapt" else EVERY_LAYER
            words += [each for name, value in needed for each in (section + name, value)]
        config = train._order(train.PlanOrder, KINDS[command], command, words).config
        assert {attrgetter(name)(config) for name in some} == {word == "True"}


def test_the_words_that_people_type():
    for words, flag in (("true True yes YES 1", "--a.b"), ("false False no NO 0", "--a.no-b")):
        for word in words.split():
            assert as_flags(["--a.b", word], ["a.b"]) == as_flags([f"--a.b={word}"], ["a.b"]) == [flag]
    assert as_flags(["--a.b", "--c", "no"], ["a.b"]) == ["--a.b", "--c", "no"]


def test_a_word_that_is_neither_true_nor_false(capsys):
    error = refused(capsys, "adapt", "--train.balanced", "maybe")
    assert error == "mpt: --train.balanced: it must be true or false, not 'maybe'\n"


def test_a_boolean_beside_other_options():
    words = "few_shot --calibrate no --train.balanced=1 --seeds 1 0 --dry_run yes"
    order = train._order(train.Order, AdaptConfig, "adapt", words.split())
    assert order.dry_run
    assert (order.config.train.balanced, order.config.calibrate) == (True, False)
    assert order.config.seeds == (1, 0)
