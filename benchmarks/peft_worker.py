"""PEFT's prompt tuning as its users run it: rows padded to the longest, labels masked, logits everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers

from duel import answer
from mpt.loading.located import locate


def auto_class(config: transformers.PreTrainedConfig) -> Any:
    """The class that makes a model of this config."""
    seq2seq = config.is_encoder_decoder
    return transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM


def load(model: str, dtype: torch.dtype = torch.float32) -> Any:
    path = locate(model)
    if path.suffix == ".gguf":
        return transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype
        )
    return auto_class(transformers.AutoConfig.from_pretrained(path)).from_pretrained(path, dtype=dtype)


def tensors(batch: list, joint: bool, device: str = "cpu") -> dict[str, torch.Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    texts = [torch.tensor([*inputs, *targets] if joint else inputs) for inputs, targets, *_ in batch]
    labels = [torch.tensor([-100] * len(inputs) * joint + targets) for inputs, targets, *_ in batch]
    arrays = {
        "input_ids": pad(texts, batch_first=True),
        "attention_mask": pad([torch.ones_like(text) for text in texts], batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=-100),
    }
    return {name: array.to(device) for name, array in arrays.items()}


def tuned(base: Any, vectors: np.ndarray, names: Sequence[str]) -> tuple[Any, list[torch.Tensor]]:
    """The model with prompts of these vectors, and the parameters that hold them."""
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM",
        num_virtual_tokens=vectors.shape[1],
        num_transformer_submodules=1,
    )
    model = peft.get_peft_model(base, config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    weights = [model.prompt_encoder[name].embedding.weight for name in names]
    for weight, values in zip(weights, vectors):
        weight.data = torch.tensor(values, device=base.device)
    return model, weights


def prepare(model: str, folder: str, job: str = "train", gate: bool = True):
    batches = json.loads((Path(folder) / "batches.json").read_text())
    vectors = np.load(Path(folder) / "prompts.npy")
    base = load(model)
    joint = not base.config.is_encoder_decoder
    names = [f"task{number}" for number in range(len(vectors))]
    prompted, weights = tuned(base, vectors, names)
    optimizers = [torch.optim.Adam([weight], lr=1e-3) for weight in weights]

    def train(number: int) -> dict:
        """One step; with several prompts, one step of each on its own rows."""
        batch, losses = batches[number], []
        for task, name in enumerate(names):
            own = [row for row in batch if row[3] == task]
            if len(names) > 1:
                prompted.set_adapter(name)
            optimizers[task].zero_grad()
            loss = prompted(**tensors(own, joint)).loss
            loss.backward()
            if number == 0 and gate:
                np.save(Path(folder) / f"peft_gradient{task}.npy", weights[task].grad.numpy())
            optimizers[task].step()
            losses.append(loss.item())
        return {"loss": float(np.mean(losses))}

    @torch.no_grad()
    def infer(number: int) -> dict:
        """The likeliest class word of each row; an adapter is switched for each row's own."""
        batch, found = batches[number], [0] * len(batches[number])
        for task, name in enumerate(names):
            places = [place for place, row in enumerate(batch) if row[3] == task]
            own = [(batch[place][0], []) for place in places]
            prompted.set_adapter(name)
            inputs = tensors(own, joint)
            inputs.pop("labels")
            last = inputs["attention_mask"].sum(1) - 1 + vectors.shape[1]
            logits = prompted(**inputs).logits[torch.arange(len(own)), last]
            for place, scores in zip(places, logits):
                words = [choice[0] for choice in batch[place][2]]
                found[place] = int(scores[words].argmax())
        return {"found": found}

    return {"train": train, "infer": infer}[job]


if __name__ == "__main__":
    answer(prepare)
