"""A prompt-tuning step on a model of T5-base's shape, mpt beside PEFT: rows per second.

    python benchmarks/t5_step.py [--rounds 5]

The weights are random (no package carries a T5); the inputs have the lengths of real questions about
real passages, cut at 128 tokens.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import transformers

import work
from duel import Worker, alternate, report, seconds

BATCH, PROMPT, LONGEST = 32, 100, 128


def save_model(folder: Path) -> transformers.T5Config:
    """T5 1.0 base, random, with SmolLM2's tokenizer beside it."""
    config = transformers.T5Config(
        d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config)
    for name, parameter in model.named_parameters():
        # As transformers draws them, but with norms and positions that are not all alike.
        if parameter.ndim == 1:
            parameter.data += 0.1 * np.random.default_rng(len(name)).normal()
    model.save_pretrained(folder)
    work.load_pretrained(work.SMOLLM2).tokenizer.save_pretrained(folder)
    return config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = save_model(folder / "model")
        batches = work.texts(["privacy"], BATCH, rounds + 1, LONGEST)
        for batch in batches:  # SmolLM2's ids are of a larger vocabulary
            for row in batch:
                row[0][:] = [3 + token % (config.vocab_size - 3) for token in row[0]]
                row[1][:] = [3 + token % (config.vocab_size - 3) for token in row[1]]
        given = work.write(folder / "work", batches, work.prompts(1, PROMPT, config.d_model))
        setup = {"model": str(folder / "model"), **given}
        with Worker("peft_worker", **setup) as peft, Worker("mpt_worker", **setup) as mpt:
            theirs, ours = alternate([peft, mpt], rounds)
        row = {
            "prompt": PROMPT,
            "batch": BATCH,
            **work.describe(batches),
            "PEFT rows/s": BATCH / seconds(theirs),
            "mpt rows/s": BATCH / seconds(ours),
            "times": seconds(theirs) / seconds(ours),
            "PEFT MB": theirs[-1]["peak"],
            "mpt MB": ours[-1]["peak"],
            "gradient differs by": work.gradient_difference(folder / "work"),
        }
    report("t5_step", [row])


if __name__ == "__main__":
    main()
