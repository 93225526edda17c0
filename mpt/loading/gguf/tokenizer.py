"""The tokenizer that a GGUF file's fields describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast

from mpt.errors import UserError
from mpt.loading.gguf.byte_level import byte_level, splitting_of
from mpt.loading.gguf.sentencepiece import BLANK, gemma, llama, respelled

CONTROL, USER_DEFINED = 3, 4
GEMMAS = ("gemma2", "gemma3")
# The special tokens of Phi 3 behind which its own tokenizer keeps blanks; a file does not say so.
KEEP_BLANKS = ("<unk>", "<s>", "<|endoftext|>")


def read_tokenizer_fields(fields: Mapping[str, Any], architecture: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a file's fields.

    Raises:
        UserError: it is of another kind, or has no token that ends an answer.
    """
    kind, tokens = fields["tokenizer.ggml.model"], fields["tokenizer.ggml.tokens"]
    types = fields["tokenizer.ggml.token_type"]
    supported = ("gemma4",) if architecture == "gemma4" else ("gpt2", "llama")
    begun = True  # where a file with a sentencepiece tokenizer does not say otherwise
    if kind not in supported:
        raise UserError(
            f"tokenizer.ggml.model is '{kind}', but for {architecture} only {' and '.join(supported)} "
            "can be read; give a Hugging Face folder instead"
        )
    if kind == "gpt2":
        splitting = splitting_of(fields)
        begun, tokenizer = splitting.begun, byte_level(fields, tokens, splitting)
    elif kind == "gemma4":
        tokenizer = gemma(fields, tokens)
    elif architecture in GEMMAS:
        tokens = [respelled(token) for token in tokens]
        tokenizer = gemma(fields, tokens)
    else:
        tokenizer = llama(fields, tokens, types)
    special = [token for token, of in zip(tokens, types) if of == CONTROL]
    cut = set(special).difference(KEEP_BLANKS) if (kind, architecture) == ("llama", "phi3") else ()
    tokenizer.add_special_tokens([AddedToken(token, special=True, rstrip=token in cut) for token in special])
    # What the user defines is looked for in the text as it is, where a blank is a blank.
    added = [token for token, of in zip(tokens, types) if of == USER_DEFINED and set(token) != {BLANK}]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])

    # Early files of Gemma 4 deny it, and llama.cpp does not believe them.
    if fields.get("tokenizer.ggml.add_bos_token", begun) or kind == "gemma4":
        tokenizer.post_processor = _beginning(fields, tokens)
    if fields.get("tokenizer.ggml.eos_token_id") is None:
        raise UserError("no field tokenizer.ggml.eos_token_id, the token which ends every answer")

    def named(name: str) -> str | None:
        number = fields.get(f"tokenizer.ggml.{name}_token_id")
        return None if number is None else tokens[number]

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=named("bos"),
        eos_token=named("eos"),
        unk_token=named("unknown"),
        pad_token=named("padding"),
        chat_template=fields.get("tokenizer.chat_template"),
    )


def _beginning(fields: Mapping[str, Any], tokens: Sequence[str]) -> processors.TemplateProcessing:
    """Puts the beginning-of-text token in front of every text."""
    number = fields.get("tokenizer.ggml.bos_token_id")
    if number is None:
        raise UserError("no field tokenizer.ggml.bos_token_id, the token that is to begin every text")
    first = tokens[number]
    return processors.TemplateProcessing(
        single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, number)]
    )
