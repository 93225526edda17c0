"""How an example fits: its tokens as a model counts them, and what is cut from it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Any

from rich.text import Text

from mpt.data.task import Example
from mpt.data.tokenise import encode
from mpt.errors import UserError
from mpt.models.hf import load_tokenizer


def fitter(model: str, max_length: int) -> Callable[[Example], Text]:
    """What tells how many tokens an input is for a model, and what is cut to fit ``max_length``."""
    if max_length < 1:
        raise UserError(f"tasks: --max-length is {max_length}; it must be at least 1")
    tokenizer, layout = load_tokenizer(model)

    def told(example: Example) -> Text:
        whole, kept = (
            list(encode([example], tokenizer, most, layout)[0].inputs) for most in (sys.maxsize, max_length)
        )
        text = Text(f"{len(whole)} tokens")
        if len(whole) > max_length:
            changes = SequenceMatcher[Any](None, whole, kept, autojunk=False).get_opcodes()
            lost = [whole[start:end] for kind, start, end, _, _ in changes if kind != "equal"]
            text.append(f"; to fit {max_length}, it loses: ")
            text.append(" … ".join(str(tokenizer.decode(ids)) for ids in lost if ids), "red strike")
        return text

    return told
