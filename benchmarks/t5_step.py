"""A prompt-tuning step on a model of T5-base's shape, mpt beside PEFT: rows per second.

    python benchmarks/t5_step.py [--rounds 3]

The weights are random (no package carries a T5). The inputs are real: one task's, and those of a
mixture of eight tasks, as a universal prompt is trained on; cut at 256 tokens, as the papers do.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import transformers

import work
from duel import Worker, alternate, report, seconds, versus
from mpt.loading.hf import load_pretrained
from mpt.models.cost import batch_cost, machine_rate

BATCH, PROMPT, LONGEST = 32, 100, 256
MIXED = ["boolq", "products", "vader_tweets", "commonsense", "sarcasm", "bbc", "tweets", "privacy"]


def save_model(folder: Path) -> transformers.T5Config:
    """T5 1.0 base, random, with SmolLM2's tokenizer beside it."""
    config = transformers.T5Config(
        d_model=768,
        d_kv=64,
        d_ff=3072,
        num_layers=12,
        num_heads=12,
        decoder_start_token_id=0,
        # Behind ReLU's kinks a random model's gradient is rough: torch's own float32 is 1e-3 off float64.
        feed_forward_proj="gelu",
    )
    model = transformers.T5ForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        # As transformers draws them, but with norms and positions that are not all alike.
        if parameter.ndim == 1:
            parameter.data += 0.1 * np.random.default_rng(len(name)).normal()
    model.save_pretrained(folder)
    load_pretrained(work.SMOLLM2).tokenizer.save_pretrained(folder)
    return config


def compare(folder: Path, config: transformers.T5Config, tasks: list[str], rounds: int) -> dict[str, Any]:
    batches = work.texts(tasks, BATCH, rounds + 1, LONGEST)
    one = [[(*fold(row, config.vocab_size), 0) for row in batch] for batch in batches]  # of one prompt
    flops = necessary(folder / "model", batches[1:])
    given = work.write(folder / "work", one, work.prompts(1, PROMPT, config.d_model))
    setup = {"model": str(folder / "model"), **given}
    with Worker("peft_worker", **setup) as peft, Worker("mpt_worker", **setup) as mpt:
        theirs, ours = alternate([peft, mpt], rounds)
    return {
        "texts": " ".join(tasks),
        "prompt": PROMPT,
        "batch": BATCH,
        **work.describe(batches),
        **versus(theirs, ours, BATCH),
        "GFLOP": flops / 1e9,
        "mpt GFLOP/s": flops / seconds(ours) / 1e9,
        "JAX's product": machine_rate() / 1e9,
        "gradient differs by": work.gradient_difference(folder / "work"),
    }


def necessary(model: Path, batches: list) -> float:
    """FLOPs of a step; see mpt/models/cost.py."""
    backbone = load_pretrained(str(model)).backbone
    lengths = [zip(*((len(inputs), len(targets)) for inputs, targets, *_ in batch)) for batch in batches]
    return median(batch_cost(backbone, 1, PROMPT, *both).step for both in lengths)


def fold(row: tuple, vocab: int) -> tuple:
    """SmolLM2's ids as ids of a smaller vocabulary."""
    inputs, targets, choices, _ = row
    return *([3 + token % (vocab - 3) for token in ids] for ids in (inputs, targets)), choices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        config = save_model(Path(scratch) / "model")
        rows = [compare(Path(scratch), config, tasks, rounds) for tasks in (["privacy"], MIXED)]
    report("t5_step", rows)


if __name__ == "__main__":
    main()
