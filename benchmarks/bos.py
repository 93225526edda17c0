"""What the beginning-of-text token is worth to Gemma, and where it stands best.

    MPT_ACCEPT_TERMS=gemma3-270m python benchmarks/bos.py        ten minutes on one core

Nothing is trained: a text alone, after its task's instruction, and after examples, each without the token,
with it after that prompt, before it, and at both places. Of 64 test rows, it prints the fraction of
right answers and the mean negative log-probability of the right class, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from mpt.catalog.library import find_task
from mpt.data.tokenise import begun, encode
from mpt.inference.evaluate import choice_probabilities
from mpt.loading.hf import load_pretrained
from mpt.methods.examples import in_context
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

MODEL, TASK, ROWS, SHOWN, TOKENS = "gemma3-270m", "vader_tweets", 64, 8, 400
PLACES = {"nowhere": (False, False), "after": (False, True), "before": (True, False), "both": (True, True)}


def main() -> None:
    pretrained, task = load_pretrained(MODEL), find_task(TASK)
    tokenizer, backbone = pretrained.tokenizer, pretrained.backbone
    asked, shown = (encode(task.sample(*rows), tokenizer, 96) for rows in (("test", ROWS), ("train", SHOWN)))
    prompts = {
        "no prompt": [],
        "instruction": tokenizer(task.instruction, add_special_tokens=False)["input_ids"],
        "examples": in_context(task, shown, tokenizer, TOKENS, seed=0).ids,
    }

    def scores(ids: list[int], rows: Sequence[Row]) -> tuple[float, float]:
        """The fraction of right answers, and the mean negative log-probability of the right class."""
        vectors = backbone.embed(jnp.asarray([ids], jnp.int32)).astype(jnp.float32)
        found = choice_probabilities(Prompted(backbone, SoftPrompt(vectors)), rows)
        right = found[np.arange(len(rows)), labels]
        return float(np.mean(found.argmax(axis=1) == labels)), float(-np.log(right).mean())

    labels = np.array([row.label for row in asked])
    print("| prompt | token | accuracy | nats |\n|---|---|---|---|")
    for name, ids in prompts.items():
        for place, (front, after) in PLACES.items():
            rows = [row._replace(inputs=begun(list(row.inputs), pretrained.bos)) for row in asked]
            found = scores(begun(ids, pretrained.bos) if front else ids, rows if after else asked)
            print(f"| {name} | {place} | {found[0]:.2f} | {found[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
