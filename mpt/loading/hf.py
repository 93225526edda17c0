"""Loads pretrained models, from a name, a Hugging Face folder or a GGUF file, as frozen backbones."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from mpt.config.options import BosRule
from mpt.data.batches import Layout
from mpt.data.class_words import check_words
from mpt.data.stored import StoredRows, stored_rows
from mpt.data.task import Example, Task
from mpt.data.text.opening import Opening
from mpt.data.tokenise import encode, first_token, opening_of
from mpt.errors import UserError, one_line, warn
from mpt.loading.config_file import read_config, read_json
from mpt.loading.converted import converted
from mpt.loading.families import FAMILIES
from mpt.loading.families.mxfp4 import Mxfp4, in_mxfp4
from mpt.loading.families.text_half import READS_IMAGES, TextHalf
from mpt.loading.gguf.file import open_gguf
from mpt.loading.located import locate
from mpt.loading.tokenizer_files import read_tokenizer
from mpt.loading.weights import Shardings, Table, Tensors, load_weights
from mpt.models.attention import KERNELS
from mpt.models.backbone import Backbone
from mpt.models.decoder import Decoder
from mpt.models.decoder_spec import DecoderSpec
from mpt.models.encoder_decoder.base import EncoderDecoder
from mpt.models.quantize import quantize
from mpt.models.stack.kinds import places
from mpt.sharding import weight_shardings
from mpt.system.assets import cache_dir
from mpt.system.said import say
from mpt.types import Row


@dataclass(frozen=True)
class Pretrained:
    """A backbone with its tokenizer.

    Attributes:
        name: the name that the user gave.
        backbone: the model with its frozen weights.
        tokenizer: turns text into token ids.
        hash: SHA-256 of the weight files; a prompt works only with the backbone that it was trained on.
        bos: the beginning-of-text token that every text begins with; None where none does.
        opening: what stands in front of prompts inside a user's turn, which the backbone reads there; None
            where prompts stand in front of everything.
    """

    name: str
    backbone: Backbone
    tokenizer: PreTrainedTokenizerBase
    hash: str
    bos: int | None = None
    opening: Opening | None = None

    def beginning(self, rule: BosRule) -> Pretrained:
        """The same model, whose texts begin by another rule; see ``first_token``."""
        return replace(self, bos=first_token(self.tokenizer, rule))

    @property
    def vocab(self) -> int:
        """Number of tokens that the backbone has an embedding of."""
        return self.backbone.embedding.shape[0]

    def encode(self, examples: Sequence[Example], max_length: int) -> list[Row]:
        """Tokenises examples as the backbone reads them, inputs of at most ``max_length`` tokens.

        Raises:
            UserError: a token has no embedding, or ``mpt.data.tokenise.encode`` raises an error.
        """
        layout = self.backbone.layout
        return encode(examples, self.tokenizer, max_length, layout, self.vocab, self.bos, self.opening)

    def stored_rows(self, task: Task, split: str, max_length: int) -> StoredRows:
        """The rows of a split, tokenised unless they are in the cache; see ``mpt.data.stored``."""
        layout, vocab = self.backbone.layout, self.vocab
        return stored_rows(task, split, self.tokenizer, max_length, layout, vocab, self.bos, self.opening)

    def check_words(self, task: Task) -> None:
        """Refuses class words that the backbone cannot tell apart; see ``mpt.data.class_words``."""
        check_words(task, self.tokenizer, self.backbone.layout, self.vocab)

    def placing(self, tasks: Sequence[Task], read: Opening | None = None) -> Pretrained:
        """The same model, whose prompts stand where the tasks have them.

        Args:
            read: what is read in front of a prompt inside the user's turn, where it was trained after that;
                else it is what the tokenizer's chat template writes there now.

        Raises:
            UserError: the tasks have their prompts in different places.
        """
        opening = opening_of(tasks, self.tokenizer, self.backbone.layout, self.bos)
        if opening is None:
            return self
        assert isinstance(self.backbone, Decoder)
        if read and read.tokens != opening.tokens:
            warn(
                f"the chat template writes {opening.text!r:.200} in front of the user's text now; the prompt "
                f"was trained after {read.text!r:.200}, which is read in its place"
            )
            opening = replace(opening, tokens=read.tokens)
        return replace(self, backbone=self.backbone.after(opening.tokens), opening=opening)


def load_pretrained(
    name: str,
    dtype: DTypeLike = jnp.float32,
    weights: str = "full",
    remat: str = "elementwise",
    decoder_prompt: int = 0,
    bos: BosRule = "auto",
    *,
    shardings: Shardings | None = None,
) -> Pretrained:
    """Loads a backbone and its tokenizer.

    Args:
        name: a packaged model's name, a folder or file on disk, or a model's name on the hub.
        dtype: data type of the weights and activations. On a CPU, activations are float32 in any case, and
            rounded where bfloat16 weights multiply them; see ``mpt.models.layers.product``.
        weights: "int8" rounds the frozen matrices to 8 bits; "full" does not change them.
        remat: what the backward pass recomputes; see ``REMAT``.
        decoder_prompt: for encoder-decoders: how many of each prompt's vectors, its last ones, are put before
            the decoder's text instead of the encoder's.
        bos: whether every text begins with the beginning-of-text token; see ``first_token``.
        shardings: a function from a weight's logical axes and shape to its sharding; if left out, that of the
            current mesh, or the default device.

    Raises:
        UserError: there is no such model, or mpt cannot run it.
    """
    path = locate(name)
    say(f"reading the model {name}")
    config, tokenizer, tensors = _open(path)
    if decoder_prompt and FAMILIES[config.model_type].module.layout == "decoder":
        raise UserError(f"model '{name}' has no encoder, so decoder_prompt has no effect; leave it out")
    backbone = read_backbone(config, tensors, path, dtype, remat, decoder_prompt, shardings=shardings)
    if weights == "int8":
        quantize(backbone)
    files = [path] if path.is_file() else sorted({tensors.file(name) for name in tensors})
    return Pretrained(name, backbone, tokenizer, files_hash(files), first_token(tokenizer, bos))


def read_backbone(
    config: PreTrainedConfig,
    tensors: Tensors,
    where: Path,
    dtype: DTypeLike,
    remat: str = "elementwise",
    decoder_prompt: int = 0,
    *,
    shardings: Shardings | None = None,
) -> Decoder | EncoderDecoder:
    """A backbone with the tensors of a checkpoint; ``where`` is its place, for error messages.

    The other arguments are those of ``load_pretrained``.
    """
    family = FAMILIES[config.model_type]
    copies = family.copies(config, tensors)
    names = set(tensors) - copies
    spec = family.spec_of(config, names, where)
    if decoder_prompt:
        spec = replace(spec, decoder_prompt=decoder_prompt)
    activations = jnp.float32 if jax.default_backend() == "cpu" else dtype

    def module() -> Decoder | EncoderDecoder:
        return family.module(spec, rngs=nnx.Rngs(0), dtype=dtype, activations=activations, remat=remat)

    table: Table = family.table_of(names) | dict.fromkeys(copies | family.not_needed(spec, names))
    sizes = {
        name: {"h": part.head_dim, "f": part.d_ff, "a": part.heads} for name, part in spec.stacks.items()
    }
    layers = {"layers": places(spec.kinds)} if isinstance(spec, DecoderSpec) and spec.kinds else {}
    abstract, shardings = nnx.eval_shape(module), shardings or weight_shardings()
    backbone = load_weights(abstract, tensors, table, sizes, where, shardings, layers)
    backbone.kernel = KERNELS.get(jax.default_backend(), "plain")
    return backbone


def load_tokenizer(name: str) -> tuple[PreTrainedTokenizerBase, Layout]:
    """A model's tokenizer, and whether it is a decoder or an encoder-decoder; no weights are loaded."""
    config, tokenizer, _ = _open(locate(name))
    return tokenizer, FAMILIES[config.model_type].module.layout


def _open(path: Path) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase, Tensors]:
    if path.suffix != ".gguf":
        return open_folder(path)
    # A user's file may have many gigabytes, so it is read without conversion.
    return open_folder(converted(path)) if path.is_relative_to(cache_dir()) else open_gguf(path)


def open_folder(path: Path) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase, Tensors]:
    """Opens a Hugging Face model folder: its config, its tokenizer and its tensors.

    Raises:
        UserError: a file is missing or unreadable, or mpt does not support the model's type.
    """
    config = read_config(path)
    tensors = open_tensors(path)
    return config, read_tokenizer(path), tensors


def open_tensors(folder: Path) -> Tensors:
    """The tensors of a model's folder; of one that reads images too, those of its text half."""
    tensors, facts = SafetensorsFolder(folder), read_json(folder / "config.json")
    if facts.get("model_type") in READS_IMAGES:
        return TextHalf(tensors, folder)
    return Mxfp4(tensors, tensors.stored) if in_mxfp4(facts) else tensors


class SafetensorsFolder:
    """The tensors in the safetensors file, or files, of a folder."""

    def __init__(self, folder: Path):
        self._entries: dict[str, tuple[Path, tuple[int, ...]]] = {}
        for file in _weight_files(folder):
            if not file.is_file():
                raise UserError(
                    f"{folder}: no weights: {file.name} is missing (pickled .bin files are not read)"
                )
            try:
                with safe_open(file, "numpy") as tensors:
                    shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118, it is no dictionary
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{file}: not a readable safetensors file ({one_line(error)}); fetch it again"
                ) from None
            if twice := sorted(shapes.keys() & self._entries):
                raise UserError(f"{file}: '{twice[0]}' is in {self.file(twice[0]).name}, too; remove one")
            self._entries |= {name: (file, shape) for name, shape in shapes.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def stored(self, name: str) -> np.ndarray:
        """A tensor of whatever type."""
        # Opened for each tensor, because closing the file releases the memory that it has mapped.
        try:
            with safe_open(self.file(name), "numpy") as tensors:
                return tensors.get_tensor(name)
        except (SafetensorError, OSError, TypeError, AttributeError) as error:  # the last: no type of NumPy's
            raise UserError(f"{self.file(name)}: '{name}' cannot be read ({one_line(error)})") from None

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self.stored(name)
        if not jnp.issubdtype(tensor.dtype, jnp.floating):
            raise UserError(
                f"{self.file(name)}: '{name}' is stored as {tensor.dtype}; give the model with weights in "
                "float32, bfloat16 or float16 (mpt rounds them itself: --model.weights int8)"
            )
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._entries[name][1]

    def file(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._entries[name][0]


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model's folder: one, or those that its index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) and name for name in names.values()):
        raise UserError(f"{index}: no 'weight_map' from tensors to files; fetch it again")
    if odd := [name for name in names.values() if not name.isprintable()]:
        raise UserError(f"{index}: {odd[0]!r} is no name of a file; fetch it again")
    return [folder / name for name in sorted(set(names.values()))]


def files_hash(files: list[Path]) -> str:
    """SHA-256 over the digests of several files, in their order."""
    return hashlib.sha256("".join(file_hash(file) for file in files).encode()).hexdigest()


@functools.cache
def file_hash(path: Path) -> str:
    """SHA-256 of a file; it is computed once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
