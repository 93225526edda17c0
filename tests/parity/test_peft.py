"""Exported prompts do in peft what they do here: the same logits, and the same texts token for token."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import tiny
import torch
from runs import adapted_run, universal_run

from mpt.data.tokenise import Row
from mpt.generate import generate
from mpt.interop.exporting import export_run
from mpt.models.hf import load_pretrained
from mpt.prompts.saved import load_prompt

INPUTS = [[5, 9, 11, 4, 7, 7, 30, 21], [33, 5], [6, 14, 25, 36, 47]]
TARGETS = [[8, 12, 6], [9], [20, 41]]
STOP, MOST = [11, 23], 12


def ours(folder, prompts) -> list[tuple[np.ndarray, list[list[int]]]]:
    """Behind each prompt, the logits at all rows' targets, and the texts written for the rows."""
    backbone, count = load_pretrained(str(folder)).backbone, len(prompts)
    index = [j for j in range(count) for _ in INPUTS]
    rows = [Row(ids, targets) for ids, targets in zip(INPUTS, TARGETS)] * count
    batch = tiny.collate(rows, index, backbone.layout)
    logits = jax.jit(lambda b, p: b(batch, p).logits)(backbone, prompts)[batch.labelled]
    bare = tiny.collate([Row(row.inputs, [0]) for row in rows], index, backbone.layout)
    texts = generate(backbone, bare, prompts, most=MOST, stop=STOP)
    size = len(INPUTS)
    return [(logits, texts[size * j :][:size]) for j, logits in enumerate(np.split(logits, count))]


def theirs(model, adapter, **more) -> tuple[np.ndarray, list[list[int]]]:
    """The same, by peft."""
    tuned = peft.PeftModel.from_pretrained(model, adapter).eval()
    both, logits, texts = model.config.is_encoder_decoder, [], []
    for ids, targets in zip(INPUTS, TARGETS):
        row = torch.tensor([ids if both else ids + targets])
        labels = {"labels": torch.tensor([targets])} if both else {}
        with torch.no_grad():
            found = tuned(input_ids=row, attention_mask=torch.ones_like(row), **labels, **more).logits[0]
        logits.append(found if both else found[-len(targets) - 1 : -1])
        texts.append(written(tuned, ids, both, more))
    return np.concatenate(logits), texts


def written(tuned, ids, both: bool, more) -> list[int]:
    """peft's greedy text; decoder-only, by its forward pass, which its `generate` contradicts with
    transformers 5.24."""
    if both:
        row = torch.tensor([ids])
        options = {"eos_token_id": STOP, "pad_token_id": 0, "do_sample": False, "max_new_tokens": MOST}
        found = tuned.generate(input_ids=row, attention_mask=torch.ones_like(row), **options, **more)
        return list(itertools.takewhile(lambda token: token not in STOP, found[0, 1:].tolist()))
    found = list(ids)
    while len(found) < len(ids) + MOST:
        row = torch.tensor([found])
        with torch.no_grad():
            token = int(
                tuned(input_ids=row, attention_mask=torch.ones_like(row), **more).logits[0, -1].argmax()
            )
        if token in STOP:
            break
        found.append(token)
    return found[len(ids) :]


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "t5-1.1", "umt5"])
def test_exported_prompts_equal_peft(family, compare, tmp_path):
    folder = tiny.save(family, tmp_path / "model")
    universal, adapted = universal_run(tmp_path / "a", folder), adapted_run(tmp_path / "b", folder)
    prompts = [load_prompt(universal, "universal")[0], load_prompt(adapted, "adapted")[0]]
    found = ours(folder, jnp.concatenate([prompt.compose() for prompt in prompts]))
    factors, plain = export_run(universal, "peft"), export_run(adapted, "peft")

    model = tiny.reference(family, folder)
    for adapter, expected in zip(["0-tone", "1-colour"], found[:2]):
        task = {"task_ids": torch.tensor([int(adapter[0])])}
        agree(compare, family, expected, theirs(model, factors / adapter))
        agree(compare, family, expected, theirs(model, factors / "multitask", **task))
    for adapter, expected in zip(["0-tone", "1-tone"], found[2:]):
        agree(compare, family, expected, theirs(model, plain / adapter))


def agree(compare, family, expected, found) -> None:
    compare(family, "exported logits", expected[0], found[0])
    assert expected[1] == found[1]
