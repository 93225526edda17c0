"""A run's prompts, written for other libraries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from mpt.errors import UserError
from mpt.inference.predict import trained
from mpt.interop.embeddings import write_embeddings
from mpt.interop.peft_folder import write_multitask, write_plain
from mpt.loading.hf import load_tokenizer
from mpt.prompts import MultitaskPrompt, PlainPrompt
from mpt.prompts.saved import load_prompt
from mpt.rundir.directory import whole_folder
from mpt.system.paths import AnyPath
from mpt.types import Layout

Format = Literal["peft", "embeddings"]


def export_run(run: AnyPath, format: Format, out: AnyPath | None = None) -> AnyPath:
    """Writes a run's prompts and returns their folder.

    Each of the run's prompts has a number and a name there, ``0-TASK``: the number is its place among
    the tasks of a universal prompt, or among the seeds of an adaptation.

    Args:
        run: the run directory of `adapt`, `pretrain` or `import`.
        format: "peft" for folders that `peft` loads, "embeddings" for plain arrays.
        out: the folder; named by the format, inside the run, where left out.

    Raises:
        UserError: the run has no prompt, or one whose format has no place for its decoder's part.
    """
    model, name = trained(run)
    prompt, card = load_prompt(run, name)
    if model.decoder_prompt:
        raise UserError(
            f"{run}: the end of its prompts goes to the decoder (model.decoder_prompt is "
            f"{model.decoder_prompt}), which no other library reads when it generates; train without it"
        )
    if not isinstance(prompt, PlainPrompt):
        raise UserError(
            f"{run}: what it holds is more than a prompt ({card.kind}), which no other library reads; "
            "export a run of `--method prompt`, spot or ulpt"
        )
    _, layout = load_tokenizer(model.name)
    out = out or run / format
    names = [f"{i}-{re.sub('[^A-Za-z0-9_.-]+', '_', task)}" for i, task in enumerate(card.prompts)]
    collapsed = dict(zip(names, np.asarray(prompt.compose())))
    with whole_folder(out) as folder:
        if format == "peft":
            write_peft(folder, prompt, collapsed, card.backbone, layout)
        else:
            write_embeddings(folder, collapsed, card, layout)
    return out


def write_peft(
    folder: Path, prompt: PlainPrompt, collapsed: Mapping[str, np.ndarray], backbone: str, layout: Layout
) -> None:
    """A folder per prompt, and one with the factors of all where there are factors and nothing else."""
    for name, vectors in collapsed.items():
        write_plain(folder / name, vectors, backbone, layout)
    if isinstance(prompt, MultitaskPrompt) and prompt.words is None:
        write_multitask(folder / "multitask", prompt, backbone, layout)
