"""Exports the prompts of a run to the formats of other libraries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from mpt.cards.card import Card
from mpt.errors import UserError, nearest
from mpt.inference.run_prompts import of_all_seeds
from mpt.interop.embeddings import write_embeddings
from mpt.interop.exportable import check_exportable
from mpt.interop.peft_folder import write_multitask, write_plain, write_prefix
from mpt.interop.readme import Reads, of_peft
from mpt.loading.hf import load_tokenizer
from mpt.loading.known import known_as
from mpt.loading.shapes import abstract_backbone
from mpt.methods.prefix import PrefixPrompt
from mpt.models.encoder_decoder.t5gemma import T5Gemma
from mpt.prompts import MultitaskPrompt, PlainPrompt
from mpt.rundir.directory import atomic_folder, write_atomic
from mpt.system.paths import AnyPath
from mpt.types import Layout

Format = Literal["peft", "embeddings"]


def export_run(run: AnyPath, format: str, out: AnyPath | None = None) -> AnyPath:
    """Writes the prompts of a run and returns their folder.

    Each of them is named ``0-TASK`` there: the number is its index among the tasks of a universal prompt, or
    among the seeds of an adaptation.

    Args:
        run: the run directory of `adapt`, `pretrain` or `import`.
        format: "peft" for folders that `peft` loads, "embeddings" for plain arrays.
        out: the folder; named by the format, inside the run, where left out.

    Raises:
        UserError: the run has no prompt, or one that the format cannot hold.
    """
    if format not in get_args(Format):
        raise UserError(f"export: no format '{format}'; {nearest(format, get_args(Format))}")
    model, prompt, card = of_all_seeds(run)
    if model.decoder_prompt:
        raise UserError(
            f"{run}: the last vectors of its prompts go to the decoder (model.decoder_prompt is "
            f"{model.decoder_prompt}), which no other library reads when it generates; train without it"
        )
    check_exportable(run, card, format)
    assert isinstance(prompt, PlainPrompt | PrefixPrompt)
    tokenizer, layout = load_tokenizer(model.name)
    reads = Reads.of(layout, tokenizer)
    if isinstance(prompt, PrefixPrompt) and layout == "encoder-decoder":
        raise UserError(
            f"{run}: PEFT gives an encoder-decoder's layers each other's keys and values, so that no file of "
            "its says what this prefix is; use it with mpt"
        )
    out = out or run / format
    names = [f"{i}-{re.sub('[^A-Za-z0-9_.-]+', '_', task)}" for i, task in enumerate(card.prompts)]
    with atomic_folder(out) as folder:
        if isinstance(prompt, PrefixPrompt):
            write_peft_prefixes(folder, names, prompt, card)
        elif format == "peft":
            write_peft_prompts(folder, names, prompt, card, reads, _unread_sizes(model.name, layout))
        else:
            write_embeddings(folder, dict(zip(names, np.asarray(prompt.compose()))), card, reads)
    return out


def _unread_sizes(name: str, layout: Layout) -> dict[str, int]:
    """The sizes of a model that PEFT asks for and does not find in a config of two parts."""
    backbone = abstract_backbone(name) if layout == "encoder-decoder" else None
    if not isinstance(backbone, T5Gemma):
        return {}
    return {"num_layers": backbone.spec.layers, "num_attention_heads": backbone.spec.encoder.heads}


def write_peft_prefixes(folder: Path, names: Sequence[str], prompt: PrefixPrompt, card: Card) -> None:
    """Writes a folder for each prefix with its card, and a README."""
    for name, keys, values in zip(names, np.asarray(prompt.keys[...]), np.asarray(prompt.values[...])):
        write_prefix(folder / name, keys, values, known_as(card.backbone), card.backbone_hash, card.bos)
    _write_cards(folder, names, card)
    readme = of_peft(names, prompt.keys.shape[2], card, Reads("decoder"), multitask=False)
    write_atomic(folder / "README.md", readme)


def write_peft_prompts(
    folder: Path,
    names: Sequence[str],
    prompt: PlainPrompt,
    card: Card,
    reads: Reads,
    sizes: Mapping[str, int],
) -> None:
    """Writes a folder for each prompt with its card, a README, and the factors where it is only factors.

    ``sizes`` are those of ``write_plain``.
    """
    composed, backbone = np.asarray(prompt.compose()), known_as(card.backbone)
    for name, vectors in zip(names, composed):
        write_plain(folder / name, vectors, backbone, reads.layout, card.backbone_hash, card.bos, sizes)
    factors = prompt if isinstance(prompt, MultitaskPrompt) and prompt.words is None else None
    if factors:
        facts = reads.layout, card.backbone_hash, card.bos, sizes
        write_multitask(folder / "multitask", factors, backbone, *facts)
        write_atomic(folder / "multitask" / "README.md", card.model_card("peft"))
    _write_cards(folder, names, card)
    readme = of_peft(names, composed.shape[1], card, reads, factors is not None)
    write_atomic(folder / "README.md", readme)


def _write_cards(folder: Path, names: Sequence[str], card: Card) -> None:
    """Writes each prompt's card where the hub looks for it: a folder may become a model there."""
    for name, task in zip(names, card.prompts):
        write_atomic(folder / name / "README.md", card.alone(task).model_card("peft"))
