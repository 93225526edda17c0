"""`mpt export` and `mpt import`: there and back gives the same bits, and each mistake has one line."""

from __future__ import annotations

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from golden import FOLDER, normal
from runs import adapted_run, run_of, universal_run
from safetensors.numpy import load_file, save_file
from toys import refused, tree

from mpt import cli
from mpt.interop.peft_folder import write_plain, write_prefix
from mpt.loading.hf import load_pretrained
from mpt.methods.prefix import PrefixPrompt
from mpt.prompts.saved import load_prompt


def run(*arguments) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


@pytest.fixture
def universal_made(tmp_path, tiny_model):
    return universal_run(tmp_path / "a", tiny_model)


@pytest.fixture
def plain(tmp_path, tiny_model):
    """A plain adapter for the tiny model."""
    write_plain(tmp_path / "plain", np.ones((4, 32), np.float32), str(tiny_model), "decoder")
    return tmp_path / "plain"


@pytest.mark.parametrize("model", ["tiny_model", "tiny_t5"])
def test_factors_come_back_bit_for_bit(model, request, tmp_path, toy):
    model = request.getfixturevalue(model)
    made, back = universal_run(tmp_path / "a", model), tmp_path / "back"
    run("export", made, "--format", "peft", "--out", tmp_path / "out")
    tasks = ("--task", toy["tone"], toy["colour"])
    run("import", tmp_path / "out" / "multitask", "--model", model, *tasks, "--out", back)
    file = "prompts/universal.safetensors"
    assert (back / file).read_bytes() == (made / file).read_bytes()


@pytest.mark.parametrize("index", [0, 1])
def test_vectors_come_back_bit_for_bit(tmp_path, tiny_model, toy, index):
    made, back = adapted_run(tmp_path / "a", tiny_model), tmp_path / "back"
    run("export", made)
    folder = made / "peft" / f"{index}-tone"
    run("import", folder, "--model", tiny_model, "--task", toy["tone"], "--out", back)
    run("export", back)
    again = load_file(back / "peft" / "0-tone" / "adapter_model.safetensors")["prompt_embeddings"]
    expected = np.asarray(load_prompt(made, "adapted")[0].compose())[index]
    np.testing.assert_array_equal(again, expected)


@pytest.fixture
def prefix_run(tmp_path, tiny_model):
    """A run whose prompt has keys and values in every layer of the tiny model."""
    layers, heads, width = load_pretrained(str(tiny_model)).backbone.kv_shape
    parts = (jnp.asarray(normal(seed, 1, layers, 3, heads, width)) for seed in (0, 1))
    return run_of(tmp_path / "a", tiny_model, PrefixPrompt(*parts), "tone")


def test_a_prefix_comes_back_bit_for_bit_and_is_evaluated(prefix_run, tmp_path, tiny_model, toy, capsys):
    back, file = tmp_path / "back", "prompts/adapted.safetensors"
    run("export", prefix_run, "--format", "peft")
    rest = ("--model", tiny_model, "--task", toy["tone"], "--out", back, "--max-length", 24)
    run("import", prefix_run / "peft" / "0-tone", *rest)
    assert (back / file).read_bytes() == (prefix_run / file).read_bytes()
    capsys.readouterr()
    run("evaluate", back, "--rows", 8)
    assert json.loads(capsys.readouterr().out)["task"] == "tone"


def test_a_prefix_that_does_not_fit_is_refused(prefix_run, tmp_path, tiny_model, toy, capsys):
    error = refused(capsys, "export", str(prefix_run), "--format", "embeddings")
    assert "keys and values of every layer, not embeddings; give --format peft" in error
    write_prefix(tmp_path / "deep", *np.ones((2, 5, 3, 2, 8), np.float32), "")
    rest = ("--model", str(tiny_model), "--task", toy["tone"], "--out", str(tmp_path / "out"))
    error = refused(capsys, "import", str(tmp_path / "deep"), *rest)
    assert "keys and values of 5 layers of 2 heads of width 8, and " in error
    assert "has 2 layers of " in error


def test_an_encoder_decoders_prefix_is_not_exported(tmp_path, tiny_t5, capsys):
    layers, heads, width = load_pretrained(str(tiny_t5)).backbone.kv_shape
    ones = jnp.ones((1, layers, 3, heads, width))
    made = run_of(tmp_path / "a", tiny_t5, PrefixPrompt(ones, ones), "tone")
    assert "no file of its says what this prefix is; use it with mpt" in refused(capsys, "export", str(made))


def test_an_imported_prompt_is_evaluated_predicted_with_and_adapted(
    tmp_path, tiny_model, toy, capsys, plain, config_file, plain_adapt
):
    back, lines = tmp_path / "back", tmp_path / "rows.txt"
    lines.write_text("so glad\n")
    run("import", plain, "--model", tiny_model, "--task", toy["tone"], "--out", back, "--max-length", 24)
    capsys.readouterr()
    run("evaluate", back, "--rows", 8)
    assert json.loads(capsys.readouterr().out)["task"] == "tone"
    run("predict", back, "--input", lines)
    assert json.loads(capsys.readouterr().out)["prediction"] in ("yes", "no")
    config = config_file(
        plain_adapt | {"prompt": str(back), "out": str(tmp_path / "adapted"), "validate_every": 0}
    )
    run("adapt", config)
    card = json.loads((back / "prompts" / "universal.json").read_text())
    assert card["method"] == f"Imported from PEFT (PROMPT_TUNING), trained on {tiny_model.name}"


def test_another_backbones_name_is_warned_about(tmp_path, tiny_model, toy, capsys):
    write_plain(tmp_path / "in", np.ones((4, 32), np.float32), "owner/name", "decoder")
    run("import", tmp_path / "in", "--model", tiny_model, "--task", toy["tone"], "--out", tmp_path / "out")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"it was trained on 'owner/name', not on '{tiny_model}'" in line


def test_other_weights_are_told_of_by_what_an_export_says_of_them(tmp_path, tiny_model, toy, capsys):
    """The same name is no proof, and neither is another place a reason to warn."""
    run("export", universal_run(tmp_path / "a", tiny_model), "--out", tmp_path / "out")
    rest = ("--task", toy["tone"])
    copied = shutil.copytree(tiny_model, tmp_path / "elsewhere" / tiny_model.name)
    run("import", tmp_path / "out" / "0-tone", "--model", copied, *rest, "--out", tmp_path / "same")
    assert not capsys.readouterr().err
    others = shutil.copytree(tiny_model, tmp_path / "others" / tiny_model.name)
    (file,) = others.glob("*.safetensors")
    save_file({name: 2 * value for name, value in load_file(file).items()}, file)
    run("import", tmp_path / "out" / "0-tone", "--model", others, *rest, "--out", tmp_path / "other")
    (line,) = capsys.readouterr().err.splitlines()
    assert f"it was trained on '{tiny_model.name}' with weights " in line
    assert "with other weights a prompt does not work" in line


def test_left_out_vectors_are_told(tmp_path, tiny_t5, toy, capsys):
    folder = FOLDER / "adapters" / "plain-both-sides"
    run("import", folder, "--model", tiny_t5, "--task", toy["tone"], "--out", tmp_path / "out")
    assert "the last 3 of its vectors, the decoder's, are left out" in capsys.readouterr().err


def test_a_prompt_that_does_not_fit_is_refused(
    tmp_path, tiny_model, tiny_t5, toy, capsys, plain, universal_made
):
    rest = ("--task", toy["tone"], "--out", str(tmp_path / "out"))
    error = refused(capsys, "import", str(plain), "--model", str(tiny_t5), *rest)
    assert f"a prompt for a model of type decoder, and {tiny_t5} is of type encoder-decoder" in error
    write_plain(tmp_path / "wide", np.ones((4, 48), np.float32), "", "decoder")
    error = refused(capsys, "import", str(tmp_path / "wide"), "--model", str(tiny_model), *rest)
    assert f"its vectors are 48 wide, and the embeddings of {tiny_model} 32" in error
    error = refused(capsys, "import", str(plain), "--model", "./gone", *rest)
    assert "model './gone': no such file or folder" in error
    run("export", universal_made)
    multitask = str(universal_made / "peft" / "multitask")
    error = refused(capsys, "import", multitask, "--model", str(tiny_model), *rest)
    assert "holds the prompts of 2 tasks, and --task names 1; name each" in error
    error = refused(capsys, "import", multitask, "--model", str(tiny_model), "--task", *[toy["tone"]] * 2)
    assert "name each of its tasks once" in error
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_nothing_is_written_over(tmp_path, tiny_model, toy, capsys, plain, universal_made):
    before = tree(tmp_path)
    message = f"{universal_made} exists already; give another folder with --out"
    rest = ("--model", str(tiny_model), "--task", toy["tone"], "--out", str(universal_made))
    assert message in refused(capsys, "import", str(plain), *rest)
    assert message in refused(capsys, "export", str(universal_made), "--out", str(universal_made))
    assert tree(tmp_path) == before


def test_a_decoders_prompt_is_not_exported(tmp_path, tiny_t5, capsys):
    made = universal_run(tmp_path / "a", tiny_t5, decoder_prompt=1)
    error = refused(capsys, "export", str(made), "--format", "peft")
    assert "the last vectors of its prompts go to the decoder (model.decoder_prompt is 1)" in error
