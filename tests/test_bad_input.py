"""Each mistake gets one line that names the place and the remedy, status 2, and nothing overwritten."""

import json
import shutil

import pytest
from toys import ROOT, refused, start_mpt, toy_rows, tree, write_task

ROWS = toy_rows("tone")


@pytest.fixture
def pretrain_with(tmp_path, config_file, plain_pretrain, toy, capsys):
    """Runs a pretraining with other keys, which must be refused before anything is written."""

    def run(*options: str, **keys) -> str:
        out = tmp_path / "run"
        config = config_file(plain_pretrain | {"out": str(out)} | keys)
        error = refused(capsys, "pretrain", config, *options)
        assert not out.exists()
        return error

    return run


@pytest.fixture
def with_task(tmp_path, pretrain_with, toy):
    """Runs a pretraining with another second task."""

    def run(rows=None, **keys) -> str:
        return pretrain_with(tasks=[toy["tone"], str(write_task(tmp_path, "bad", rows or ROWS, **keys))])

    return run


def test_missing_data_file(with_task):
    assert "gone.jsonl: no such file" in with_task(source="gone.jsonl")


def test_missing_task_file(pretrain_with, toy):
    assert "gone.yaml: no such file" in pretrain_with(tasks=[toy["tone"], "gone.yaml"])


def test_malformed_line(tmp_path, with_task):
    (tmp_path / "half.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"text": "a", "label\n')
    assert "half.jsonl:2: not JSON: " in with_task(source="half.jsonl")


def test_missing_column(with_task):
    error = with_task([*ROWS, {"txt": "a", "label": "yes"}], source={"train": "bad.jsonl"})
    assert "bad.jsonl:121: no column 'text', which task bad needs; it has txt, label" in error


def test_unknown_label(with_task):
    error = with_task([*ROWS, {"text": "a", "label": "maybe"}], source={"train": "bad.jsonl"})
    assert "bad.jsonl:121: label 'maybe' is not in the verbalizer of task bad, which knows yes, no" in error


def test_empty_split(tmp_path, with_task):
    (tmp_path / "empty.jsonl").write_text("")
    assert "task bad: the train split of " in with_task(source="empty.jsonl")


@pytest.mark.parametrize(("value", "kind"), [(None, "empty"), (["a"], "a list"), ({"a": 1}, "a dict")])
def test_text_that_cannot_be_rendered(with_task, value, kind):
    error = with_task([*ROWS, {"text": value, "label": "yes"}], source={"train": "bad.jsonl"})
    assert f"bad.jsonl:121: column 'text' is {kind}; task bad can render text only" in error


@pytest.mark.parametrize("template", ["{text", "{}", "none", "{text!r}", "{text:d}"])
def test_faulty_template(with_task, template):
    assert "bad.yaml:1: task bad: template: " in with_task(template=template)


def test_wrong_number_of_fields(tmp_path, with_task):
    (tmp_path / "a.csv").write_text("text,label\na,yes\nb,c,no\n")
    assert "a.csv:3: not 2 fields like the header; quote fields with commas" in with_task(source="a.csv")


def test_other_encoding(tmp_path, with_task):
    (tmp_path / "a.csv").write_bytes("text,label\nné,yes\n".encode("latin-1"))
    assert "a.csv:2: not UTF-8 (byte 0xe9); save it as UTF-8" in with_task(source="a.csv")


def test_config_of_the_wrong_type(pretrain_with):
    error = pretrain_with(teachers={"steps": "many"})
    assert "run.yaml: teachers.steps must be a whole number, not 'many'" in error


def test_template_longer_than_the_limit(pretrain_with):
    error = pretrain_with(max_length=3)
    assert "max_length is 3, and the template's own words take 4 tokens: no room is left for a text" in error


def test_unknown_key(pretrain_with):
    error = pretrain_with(teachers={"step": 3})
    assert "run.yaml: unknown key 'teachers.step'; did you mean 'steps'?" in error


def test_missing_config(capsys):
    assert "config 'gone.yaml': no such file or packaged config" in refused(capsys, "pretrain", "gone.yaml")


def test_too_few_tasks(pretrain_with, toy):
    assert "name at least two source tasks, see `mpt tasks`" in pretrain_with(tasks=[toy["tone"]])


def test_unknown_command(capsys):
    assert "no command 'pretrian'; did you mean 'pretrain'?" in refused(capsys, "pretrian")


def test_unknown_task(capsys):
    assert "task 'movie' is unknown; did you mean 'movies'?" in refused(capsys, "tasks", "show", "movie")


@pytest.fixture
def model_copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def test_model_folder_without_weights(pretrain_with, model_copy):
    (model_copy / "model.safetensors").unlink()
    error = pretrain_with(model={"name": str(model_copy)})
    assert f"{model_copy}: no weights: model.safetensors is missing" in error


def test_model_folder_without_config(pretrain_with, model_copy):
    (model_copy / "config.json").unlink()
    assert f"{model_copy}: no config.json; give a " in pretrain_with(model={"name": str(model_copy)})


def test_model_of_an_unsupported_type(pretrain_with, model_copy):
    (model_copy / "config.json").write_text('{"model_type": "bert"}')
    assert "model type 'bert' is not supported; " in pretrain_with(model={"name": str(model_copy)})


def test_damaged_weights(pretrain_with, model_copy):
    (model_copy / "model.safetensors").write_bytes(b"\x00" * 100)
    error = pretrain_with(model={"name": str(model_copy)})
    assert f"{model_copy / 'model.safetensors'}: not a readable safetensors file" in error


def test_missing_model(pretrain_with):
    error = pretrain_with(model={"name": "./gone"})
    assert "model './gone': no such file or folder; packaged models: smollm2-135m" in error


@pytest.fixture
def run_copy(universal, tmp_path):
    return shutil.copytree(universal, tmp_path / "universal")


@pytest.fixture
def adapt_with(tmp_path, config_file, plain_adapt, capsys):
    """Runs an adaptation with other keys, which must be refused before anything is written."""

    def run(**keys) -> str:
        out = tmp_path / "run"
        error = refused(capsys, "adapt", config_file(plain_adapt | {"out": str(out)} | keys))
        assert not out.exists()
        return error

    return run


def test_prompt_of_another_backbone(adapt_with, universal, model_copy):
    from safetensors.numpy import load_file, save_file

    file = model_copy / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] + 1
    save_file(tensors, file, metadata={"format": "pt"})
    error = adapt_with(prompt=str(universal), model={"name": str(model_copy)})
    assert "universal.safetensors: trained on " in error
    assert error.endswith("; use that backbone\n")


def test_damaged_prompt(adapt_with, run_copy):
    file = run_copy / "prompts" / "universal.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert f"{file}: not a whole prompt of mpt" in adapt_with(prompt=str(run_copy))


def test_run_without_a_prompt(adapt_with, tmp_path):
    assert "no run directory (it has" in adapt_with(prompt=str(tmp_path))


def test_run_that_has_not_finished(adapt_with, run_copy):
    shutil.rmtree(run_copy / "prompts")
    assert "no prompt 'universal' in it; let its run finish first" in adapt_with(prompt=str(run_copy))


def test_run_of_another_config_is_left_as_it_was(capsys, config_file, plain_pretrain, run_copy):
    before = tree(run_copy)
    config = config_file(plain_pretrain | {"out": str(run_copy), "seed": 7})
    error = refused(capsys, "pretrain", config)
    assert f"{run_copy} holds a run of another config (" in error
    assert "seed is 0 there, 7 here" in error
    assert tree(run_copy) == before


def test_folder_of_something_else_is_left_as_it_was(capsys, config_file, plain_pretrain, tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("precious")
    error = refused(capsys, "pretrain", config_file(plain_pretrain | {"out": str(folder)}))
    assert f"{folder} exists and is not a run of mpt; give another folder with --out" in error
    assert tree(folder) == {"chapter.tex": b"precious"}


def test_folder_that_is_no_run(capsys, tmp_path):
    assert f"{tmp_path}: no run directory" in refused(capsys, "predict", str(tmp_path))


def test_missing_input_file(capsys, adapted):
    assert "gone.txt: no such file" in refused(capsys, "predict", str(adapted), "--input", "gone.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "rows.jsonl:2: not JSON: "),
        ('{"txt": "a"}', "rows.jsonl:2: no column 'text'"),
        ('{"text": null}', "rows.jsonl:2: column 'text' is empty"),
    ],
)
def test_faulty_line_to_predict(capsys, adapted, tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n' + line + "\n")
    assert message in refused(capsys, "predict", str(adapted), "--input", str(path), "--strict")
    assert capsys.readouterr().out == ""


def test_prompt_of_another_task(capsys, adapted, toy):
    error = refused(capsys, "evaluate", str(adapted), "--task", toy["tone"])
    assert "adapted to mood, not to tone; adapt to it first" in error


def test_prompt_that_is_not_there(capsys, adapted):
    error = refused(capsys, "evaluate", str(adapted), "--index", "2")
    assert "no prompt 2; it has 2, one per seed, from 0" in error


def test_option_of_the_wrong_type_is_refused_with_status_2(capsys, config_file, plain_pretrain):
    error = refused(capsys, "pretrain", config_file(plain_pretrain), "--teachers.steps", "many")
    assert "--teachers.steps: 'many' is not a whole number; see `mpt pretrain" in error


@pytest.mark.full
def test_process_ends_with_status_2_and_no_traceback():
    process = start_mpt("tasks", "show", "movie", cwd=ROOT)
    output, error = process.communicate(timeout=120)
    assert (process.returncode, output) == (2, "")
    assert error == "mpt: task 'movie' is unknown; did you mean 'movies'? (your own task is a .yaml file)\n"
