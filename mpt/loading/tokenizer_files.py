"""Reads the tokenizer of a model's folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mpt.errors import UserError, one_line
from mpt.loading.config_file import read_json

VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*")
# How files begin whose names end in .model: a protocol buffer's first field, or a line of a text.
SENTENCEPIECE, TIKTOKEN = b"\n", re.compile(rb"[A-Za-z0-9+/]+=* [0-9]+\s")
DAMAGED = "not a readable sentencepiece file; fetch it again"


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Reads a folder's tokenizer, with an end-of-text token; code that comes with it is never run.

    Raises:
        UserError: there is none, it is faulty, or it has no end-of-text token.
    """
    _refuse_damaged(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer("Some words", add_special_tokens=False)  # a faulty vocabulary shows only now
        vocabulary = len(tokenizer)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the loaders' own types; a panic in Rust is not even an Exception
        raise UserError(_why(folder, error)) from None
    if tokenizer.eos_token_id is None:
        # Only what the file says: the default of a config's class is a number of another vocabulary.
        said = read_json(folder / "config.json").get("eos_token_id")
        ends = said if isinstance(said, list) else [said]
        if not ends or type(ends[0]) is not int or not 0 <= ends[0] < vocabulary:
            raise UserError(
                f"{folder}: its tokenizer has no end-of-text token, which ends every answer; name one as "
                "eos_token in tokenizer_config.json, or by its number as eos_token_id in config.json"
            )
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    return tokenizer


def _why(folder: Path, error: BaseException) -> str:
    """Why a folder has no usable tokenizer; what transformers says may name a remedy that is none."""
    if "trust_remote_code" in str(error):
        return f"{folder}: its tokenizer is code that comes with it, which mpt never runs; take another model"
    if not any(file.is_file() for pattern in VOCABULARIES for file in folder.glob(pattern)):
        return f"{folder}: no tokenizer.json, nor any other file with a vocabulary; fetch it again"
    for file, start in _bare_models(folder):
        if not TIKTOKEN.match(start):
            return f"{file}: {DAMAGED}"
    return f"{folder}: no usable tokenizer: {one_line(error)}"


def _refuse_damaged(folder: Path) -> None:
    """Refuses what transformers would take for another kind of file, or for an empty vocabulary."""
    for file, start in _bare_models(folder):
        if start.startswith(SENTENCEPIECE) and not find_spec("sentencepiece"):
            raise UserError(f"{file}: the tokenizer needs a package: python -m pip install sentencepiece")
        if not start.startswith(SENTENCEPIECE) and not TIKTOKEN.match(start):
            raise UserError(f"{file}: {DAMAGED}")


def _bare_models(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """The files that hold a vocabulary where there is no tokenizer.json, and how each begins."""
    if not (folder / "tokenizer.json").is_file():
        for file in filter(Path.is_file, sorted(folder.glob("*.model"))):
            with file.open("rb") as opened:
                yield file, opened.read(200)
