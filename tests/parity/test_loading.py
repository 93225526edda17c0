"""Every tensor comes from the file, in its type and place; what does not fit is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import tiny
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.numpy import load_file, save_file

from mpt.errors import UserError
from mpt.loading.hf import load_pretrained
from mpt.models.layers import Weight


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.save("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def broken(llama, tmp_path):
    """A function that copies the checkpoint with its tensors changed, and loads it."""

    def broken(change):
        tensors = load_file(llama / "model.safetensors")
        change(tensors)
        for file in llama.glob("*.json"):
            (tmp_path / file.name).write_text(file.read_text())
        save_file(tensors, tmp_path / "model.safetensors")
        return load_pretrained(str(tmp_path))

    return broken


def weights(backbone) -> dict[str, np.ndarray]:
    leaves = nnx.to_flat_state(nnx.state(backbone, Weight))
    return {".".join(map(str, path)): np.asarray(leaf[...], np.float32) for path, leaf in leaves}


def test_sharded_files_give_the_same_weights(llama, tmp_path):
    tensors = tiny.weights("llama")
    shards = split_state_dict_into_shards_factory(
        tensors,
        get_storage_size=lambda tensor: tensor.nbytes,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size="20KB",
    )
    assert len(shards.filename_to_tensors) > 2
    for file in llama.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text())
    for file, names in shards.filename_to_tensors.items():
        save_file({name: tensors[name] for name in names}, tmp_path / file)
    index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    whole, sharded = load_pretrained(str(llama)), load_pretrained(str(tmp_path))
    for name, value in weights(whole.backbone).items():
        np.testing.assert_array_equal(value, weights(sharded.backbone)[name])
    assert whole.hash != sharded.hash


def test_bfloat16_files_and_bfloat16_weights(llama, tmp_path, broken):
    def halve(tensors):
        tensors.update({name: value.astype(jnp.bfloat16) for name, value in tensors.items()})

    exact, halved = weights(load_pretrained(str(llama)).backbone), broken(halve)
    for name, value in weights(halved.backbone).items():
        np.testing.assert_allclose(value, exact[name], rtol=2**-8)
    half = load_pretrained(str(llama), dtype=jnp.bfloat16).backbone
    leaves = nnx.to_flat_state(nnx.state(half, Weight))
    assert all(leaf.dtype == jnp.bfloat16 for _, leaf in leaves)
    assert all(len(leaf.axes) == leaf.ndim for _, leaf in leaves)


def test_missing_and_surplus_tensors_are_named_together(broken):
    def change(tensors):
        tensors["model.layers.2.mlp.bonus"] = tensors.pop("model.layers.2.mlp.up_proj.weight")
        tensors["model.layers.4.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"]

    with pytest.raises(UserError) as error:
        broken(change)
    text = str(error.value)
    assert "'model.layers.2.mlp.bonus' in model.safetensors has no place in the model" in text
    assert "'model.layers.2.mlp.up_proj.weight' is missing" in text
    assert "'model.layers.4.mlp.up_proj.weight' in model.safetensors is of a layer beyond" in text


def test_a_wrong_shape_is_named(broken):
    def change(tensors):
        name = "model.layers.0.self_attn.k_proj.weight"
        tensors[name] = tensors[name][:8]

    with pytest.raises(UserError, match=r"k_proj.weight' in model.safetensors has shape \(8, 32\)"):
        broken(change)


def test_a_truncated_file_is_named(llama, tmp_path):
    for file in llama.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text())
    whole = (llama / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model.safetensors: not a readable safetensors file"):
        load_pretrained(str(tmp_path))


def test_an_unsupported_type_lists_the_supported(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match=r"'bert' is not supported; gemma2, .*, umt5 are"):
        load_pretrained(str(tmp_path))


def test_an_unsupported_rope_is_named(llama, tmp_path):
    config = json.loads((llama / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="rope_type 'dynamic' is not supported"):
        load_pretrained(str(tmp_path))


def test_names_without_the_prefix_and_masks_are_read(tmp_path):
    """As the first GPT-2 checkpoints on the hub have them."""
    tiny.save("gpt2", tmp_path)
    expected = weights(load_pretrained(str(tmp_path)).backbone)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    bare["h.0.attn.bias"] = np.tril(np.ones((1, 1, 64, 64), np.float32))
    save_file(bare, tmp_path / "model.safetensors")
    for name, value in weights(load_pretrained(str(tmp_path)).backbone).items():
        np.testing.assert_array_equal(value, expected[name])


def test_a_decoder_prompt_needs_a_decoder_of_its_own(llama):
    with pytest.raises(UserError, match="has no encoder"):
        load_pretrained(str(llama), decoder_prompt=3)


SHARDED = """
import sys
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from flax import nnx
from mpt.loading.hf import load_pretrained

mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

def place(axes, shape):
    return NamedSharding(mesh, PartitionSpec(*("x" if axis == "mlp" else None for axis in axes)))

whole = load_pretrained(sys.argv[1]).backbone
spread = load_pretrained(sys.argv[1], shardings=place).backbone
jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(nnx.state(b)) for b in (whole, spread)))
shards = spread.layers["up"][...].addressable_shards
print(len({shard.device for shard in shards}), shards[0].data.shape, spread.layers["up"].shape)
"""


def test_tensors_go_into_their_sharding(llama):
    """On eight simulated devices, which only a process of its own can have."""
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", SHARDED, str(llama)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.stdout.strip() == "8 (4, 32, 5) (4, 32, 40)", done.stderr
