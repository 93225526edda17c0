"""Reads the tokenizer of a model's folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mpt.errors import UserError, one_line
from mpt.loading.config_file import read_json


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Reads a folder's tokenizer, with an end-of-text token; code that comes with it is never run.

    Raises:
        UserError: there is none, it is faulty, or it has no end-of-text token.
    """
    _refuse_missing_sentencepiece(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        tokenizer("Some words", add_special_tokens=False)  # a faulty vocabulary shows only now
        vocabulary = len(tokenizer)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the loaders' own types; a panic in Rust is not even an Exception
        raise UserError(f"{folder}: no usable tokenizer: {one_line(error)}") from None
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


def _refuse_missing_sentencepiece(folder: Path) -> None:
    """Without the package, transformers takes such a file for another one's, and says so."""
    if (folder / "tokenizer.json").is_file() or find_spec("sentencepiece"):
        return
    for file in sorted(folder.glob("*.model")):
        with file.open("rb") as opened:
            if opened.read(1) == b"\n":  # a protocol buffer's first field, not a line of a text
                raise UserError(f"{file}: the tokenizer needs a package: python -m pip install sentencepiece")
