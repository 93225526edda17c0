"""GGUF files of many families compute what transformers does of their folders, and of the files."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from gguf_converted import FAMILIES, write_family, write_folder
from golden import kept, tiny
from golden.inputs import INDEX, ROWS, prompts
from transformers import AutoConfig, AutoModelForCausalLM

from mpt.data.batches import Batch
from mpt.loading.hf import load_pretrained
from mpt.types import Row

pytestmark = pytest.mark.full


@pytest.mark.parametrize("family", [family for family, how in FAMILIES.items() if not how.config])
def test_logits_are_those_of_the_folder_in_transformers(family, tmp_path, compare):
    ours = logits(write_family(tmp_path / "toy.gguf", family), tiny.collate(ROWS["decoder"], INDEX))
    compare(family, "logits", ours, kept("decoders", family)["logits"])


@pytest.mark.parametrize("family", [family for family, how in FAMILIES.items() if how.config])
def test_logits_are_those_of_a_folder_that_a_file_can_express(family, tmp_path, compare, torch):
    """The checkpoints of which transformers' results are kept have values that no file has."""
    folder, file = write_folder(tmp_path, family), write_family(tmp_path / "toy.gguf", family)
    compare(family, "logits", *of_both(torch, folder, file))


def of_both(torch, folder: Path, file: Path, **given) -> tuple[np.ndarray, np.ndarray]:
    """Our logits of a file, and those of transformers' model."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **given)
    ids = list(range(5, 25))
    with torch.no_grad():
        theirs = model.eval()(torch.tensor([ids])).logits[0, :-1]
    return logits(file, tiny.collate([Row(ids[:1], ids[1:])], [0])), theirs.numpy()


def logits(file: Path, batch: Batch) -> np.ndarray:
    output = jax.jit(lambda b, p: b(batch, p))(load_pretrained(str(file)).backbone, prompts(2, 0))
    return np.asarray(output.logits[batch.labelled])


# What transformers' reading passes over, and takes from the config that it is given.
OVERLOOKED = {
    "gemma2": "soft caps and the scale of attention",
    "gpt2": "the number of positions",
    "phi3": "the rotation",
    "qwen3": "the heads' size",
    "qwen3_5_text": "sections of the rotation that are empty",
    "qwen3_moe": "the experts' size",
}


@pytest.mark.parametrize("family", ["llama", "qwen2", *OVERLOOKED])
def test_logits_are_those_of_the_file_in_transformers(family, tmp_path, compare, torch):
    folder, file = write_folder(tmp_path, family), write_family(tmp_path / "toy.gguf", family)
    given = {"config": AutoConfig.from_pretrained(folder)} if family in OVERLOOKED else {}
    compare(family, "logits", *of_both(torch, folder, file, gguf_file=file.name, **given))
