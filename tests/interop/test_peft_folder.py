"""PEFT's folders: what peft writes is read, and what is damaged or foreign is told in one line."""

from __future__ import annotations

import json
import pickle
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from golden import FOLDER
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from mpt.errors import UserError
from mpt.interop.peft_folder import (
    CONFIG,
    VECTORS,
    read_adapter,
    write_multitask,
    write_plain,
    write_prefix,
)
from mpt.methods.prefix import PrefixPrompt
from mpt.prompts import MultitaskPrompt

V, D, T = 3, 32, 2


@pytest.mark.parametrize("name", ["plain", "multitask", "mlp", "lstm"])
def test_what_peft_saves_is_read(name):
    folder = FOLDER / "adapters" / name
    adapter, expected = read_adapter(folder), load_file(folder / "prompts.safetensors")["prompts"]
    found = np.asarray(adapter.prompt.compose())
    assert found.shape == expected.shape == (T if name == "multitask" else 1, V, D)
    summed = name in ("mlp", "lstm")  # by a net: of numbers near 0.1, in some order
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 if summed else 1e-9)
    assert (adapter.layout, adapter.backbone, adapter.left_out) == ("decoder", "model", 0)


@pytest.mark.parametrize("name", ["plain", "multitask"])
def test_a_decoders_half_is_left_out(name):
    folder = FOLDER / "adapters" / f"{name}-both-sides"
    adapter, expected = read_adapter(folder), load_file(folder / "prompts.safetensors")["prompts"]
    assert expected.shape == (T if name == "multitask" else 1, 2 * V, D)
    np.testing.assert_allclose(adapter.prompt.compose(), expected[:, :V], rtol=1e-5, atol=1e-9)
    assert (adapter.layout, adapter.left_out) == ("encoder-decoder", V)


def vectors(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """A multitask adapter as mpt writes it."""
    prompt = MultitaskPrompt(*map(jnp.asarray, (vectors(1, V, D), vectors(T, V, 2), vectors(T, 2, D))))
    write_multitask(tmp_path / "adapter", prompt, "owner/name", "decoder")
    return tmp_path / "adapter"


def test_the_files_are_two_and_plain(folder):
    assert {file.name for file in folder.iterdir()} == {CONFIG, VECTORS}
    text = (folder / CONFIG).read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"
    shapes = {name: value.shape for name, value in load_file(folder / VECTORS).items()}
    assert shapes == {
        "prompt_embeddings": (V, D),
        "prefix_task_cols": (T, V, 2),
        "prefix_task_rows": (T, 2, D),
    }


@pytest.mark.full
def test_peft_reads_the_config_without_a_word(folder, recwarn, peft):
    config = peft.PeftConfig.from_pretrained(folder)
    assert (config.peft_type, config.num_tasks, config.num_ranks) == ("MULTITASK_PROMPT_TUNING", T, 2)
    assert (config.num_transformer_submodules, config.token_dim) == (1, D)
    assert not recwarn.list


def test_half_precision_is_read(tmp_path):
    write_plain(tmp_path, vectors(V, D), "", "decoder")
    save_file({"prompt_embeddings": vectors(V, D).astype(np.float16)}, tmp_path / VECTORS)
    found = read_adapter(tmp_path).prompt.compose()
    np.testing.assert_array_equal(found[0], vectors(V, D).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("peft_type", "LORA", "peft_type is LORA; mpt imports prompts only: PROMPT_TUNING, P_TUNING, "),
        ("peft_type", None, "peft_type is None; "),
        ("task_type", "SEQ_CLS", "task_type is SEQ_CLS; mpt imports prompts only: CAUSAL_LM, SEQ_2_SEQ_LM"),
        ("num_virtual_tokens", "3", "num_virtual_tokens is '3'"),
        ("num_virtual_tokens", 4, r"prefix_task_cols is \(2, 3, 2\), adapter_config.json says \(2, 4, 2\)"),
        ("num_transformer_submodules", 2, "num_transformer_submodules is 2"),
        ("num_tasks", 3, "prefix_task_"),
        ("num_ranks", 1, "prefix_task_"),
        ("token_dim", 33, r"prefix_task_rows is \(2, 2, 32\), adapter_config.json says \(2, 2, 33\)"),
    ],
)
def test_a_foreign_or_wrong_config_is_told(folder, key, value, message):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {key: value}))
    with pytest.raises(UserError, match=message):
        read_adapter(folder)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda tensors: tensors.pop("prefix_task_rows"), "'prefix_task_rows' is missing"),
        (lambda tensors: tensors.update(head=vectors(2)), "'head' is no part of a prompt"),
        (
            lambda tensors: tensors["prefix_task_cols"].fill(np.nan),
            "prefix_task_cols has values that are not finite",
        ),
    ],
)
def test_wrong_tensors_are_told(folder, change, message):
    tensors = load_file(folder / VECTORS)
    change(tensors)
    save_file(tensors, folder / VECTORS)
    with pytest.raises(UserError, match=message):
        read_adapter(folder)


@given(*[st.integers(1, 4)] * 4)
def test_a_prefix_comes_back_and_has_pefts_layout(tmp_path_factory, layers, length, heads, width):
    """A row has each layer's keys, head by head, and then its values."""
    folder = tmp_path_factory.mktemp("prefix")
    keys, values = vectors(2, layers, length, heads, width)
    write_prefix(folder, keys, values, "owner/name")
    rows = load_file(folder / VECTORS)["prompt_embeddings"].reshape(length, layers, 2, heads, width)
    for (i, p, k, h), number in np.ndenumerate(keys):
        assert (rows[p, i, 0, k, h], rows[p, i, 1, k, h]) == (number, values[i, p, k, h])
    adapter = read_adapter(folder)
    assert isinstance(adapter.prompt, PrefixPrompt)
    np.testing.assert_array_equal(adapter.prompt.keys[...], keys[None])
    np.testing.assert_array_equal(adapter.prompt.values[...], values[None])
    assert (adapter.layout, adapter.backbone, adapter.tasks) == ("decoder", "owner/name", 1)
    assert adapter.left_out == 0


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("num_layers", None, "num_layers is None; save the adapter again"),
        ("num_layers", 3, r"prompt_embeddings is \(3, 64\), adapter_config.json says \(3, 96\)"),
        ("num_attention_heads", 3, "token_dim is 16 for 3 heads"),
        ("token_dim", 8, r"prompt_embeddings is \(3, 64\), adapter_config.json says \(3, 32\)"),
        ("num_virtual_tokens", 4, r"prompt_embeddings is \(3, 64\), adapter_config.json says \(4, 64\)"),
    ],
)
def test_a_wrong_config_of_a_prefix_is_told(tmp_path, key, value, message):
    write_prefix(tmp_path, *vectors(2, 2, 3, 2, 8), "")
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {key: value}))
    with pytest.raises(UserError, match=message):
        read_adapter(tmp_path)


def test_a_prefix_of_an_encoder_decoder_is_read_as_peft_reads_it(tmp_path):
    """Layer i of L gets what the file has of layer 2i mod L; tests/parity has peft's own answers."""
    keys, values = vectors(2, 5, 3, 2, 8)
    write_prefix(tmp_path, keys, values, "")
    config = json.loads((tmp_path / CONFIG).read_text())
    changed = config | {"task_type": "SEQ_2_SEQ_LM", "num_transformer_submodules": 2}
    (tmp_path / CONFIG).write_text(json.dumps(changed))
    adapter = read_adapter(tmp_path)
    assert adapter.layout == "encoder-decoder"
    for found, part in ((adapter.prompt.keys, keys), (adapter.prompt.values, values)):
        np.testing.assert_array_equal(found[...][0], part[[0, 2, 4, 1, 3]])


def test_a_projected_prefix_is_read(tmp_path):
    """PEFT saves what its network has made, so it is read as any other."""
    write_prefix(tmp_path, *vectors(2, 2, 3, 2, 8), "")
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config | {"prefix_projection": True}))
    assert read_adapter(tmp_path).prompt.keys.shape == (1, 2, 3, 2, 8)


def test_a_pickle_is_never_read(folder):
    (folder / VECTORS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(
        UserError, match=r"adapter_model.bin is a pickle.*save_pretrained writes adapter_model"
    ):
        read_adapter(folder)


class _Bomb:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_missing_files_are_told(folder, tmp_path):
    (folder / VECTORS).unlink()
    with pytest.raises(UserError, match=r"no adapter_model.safetensors"):
        read_adapter(folder)
    with pytest.raises(UserError, match=r"no adapter_config.json"):
        read_adapter(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([CONFIG, VECTORS]), st.floats(0, 1), st.binary(max_size=4))
def test_a_damaged_file_is_told_or_reads_well(folder, file, place, junk):
    """Bytes are written over a file, or it is cut there."""
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    content = (folder / file).read_bytes()
    at = int(place * len(content))
    (copy / file).write_bytes(content[:at] + (junk + content[at + len(junk) :] if junk else b""))
    try:
        assert read_adapter(copy).prompt.compose().shape == (T, V, D)
    except UserError as error:
        assert str(copy) in str(error)
        assert "\n" not in str(error)
