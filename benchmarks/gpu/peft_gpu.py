"""PEFT's prompt tuning on one device, as its users run it: training steps, class scores, texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import weights
import work
from duel import answer, typical_seconds
from given import Rows
from mpt.loading.converted import converted
from mpt.loading.located import locate
from peft_worker import auto_class, load, tensors, tuned

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def prepare(model: str, folder: str, dtype: str, rows: str):
    torch_dtype = getattr(torch, dtype)
    if folder:
        config = transformers.AutoConfig.from_pretrained(folder)
        with torch.device(DEVICE):
            base = auto_class(config).from_config(config, dtype=torch_dtype)
        weights.fill(base)
    else:
        base = load(str(converted(locate(model))), torch_dtype).to(DEVICE)
    return Measures(base.eval(), Rows.read(Path(rows))).answer


class Measures:
    """What is measured of one model, by the names that requests give."""

    def __init__(self, base: Any, rows: Rows):
        self.base, self.rows, self.joint = base, rows, not base.config.is_encoder_decoder

    def answer(self, job: str, **request: Any) -> dict[str, Any]:
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            return getattr(self, job)(**request)
        except Exception as error:  # out of memory, above all: the next case may fit
            return {"error": f"{type(error).__name__}: {error}"[:500]}

    def peak(self, size: int) -> dict[str, Any]:
        a = torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16)

        def product() -> None:
            a @ a
            _wait()

        product()
        return {"TFLOP/s": 2 * size**3 / typical_seconds(product, 1) / 1e12, "torch": torch.__version__}

    def step(self, batch: list, prompt: int, enough: float, evidence: str) -> dict[str, Any]:
        model, (weight,) = self._prompted(prompt)
        optimizer = torch.optim.Adam([weight], lr=1e-3)

        def run() -> float:
            optimizer.zero_grad()
            loss = model(**tensors(batch, self.joint, DEVICE)).loss
            loss.backward()
            optimizer.step()
            return loss.item()

        first = run()
        np.save(evidence, weight.grad.float().cpu().numpy())
        seconds = typical_seconds(run, enough)
        taken = {"GB": torch.cuda.max_memory_allocated() / 1e9} if DEVICE == "cuda" else {}
        return {"rows/s": len(batch) / seconds, "step s": seconds, "loss": first, **taken}

    @torch.no_grad()
    def classify(self, prompt: int, count: int, batch_size: int, evidence: str) -> dict[str, Any]:
        """The likeliest class word of each row; rows of like lengths share a batch."""
        inputs, words = self.rows.inputs[:count], [ids[0] for ids in self.rows.choices]
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]))
        model, _ = self._prompted(prompt)

        def run() -> np.ndarray:
            found = np.zeros(len(inputs), int)
            for start in range(0, len(order), batch_size):
                places = order[start : start + batch_size]
                made = tensors([(inputs[i], []) for i in places], self.joint, DEVICE)
                made.pop("labels")
                last = made["attention_mask"].sum(1) - 1 + prompt
                logits = model(**made).logits[torch.arange(len(places), device=DEVICE), last]
                found[places] = logits[:, words].argmax(dim=1).cpu().numpy()
            return found

        np.save(evidence, run())
        return {"rows/s": len(inputs) / typical_seconds(run, 0, least=1)}

    def generate(self, batch: list, prompt: int, count: int, evidence: str) -> dict[str, Any]:
        """Greedy texts of ``count`` tokens; no token ends one."""
        model, _ = self._prompted(prompt)
        model.generation_config.eos_token_id = None
        made = tensors([(row[0], []) for row in batch], self.joint, DEVICE)
        made.pop("labels")

        def run() -> np.ndarray:
            made_of = model.generate(**made, max_new_tokens=count, do_sample=False, pad_token_id=0)
            return made_of[:, -count:].cpu().numpy()

        np.save(evidence, run())
        return {"rows/s": len(batch) / typical_seconds(run, 0, least=2)}

    def _prompted(self, prompt: int) -> tuple[Any, list[torch.Tensor]]:
        vectors = work.prompts(1, prompt, self.base.get_input_embeddings().embedding_dim)
        return tuned(self.base, vectors, ["only"])


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    answer(prepare)
