"""Prompts as plain arrays, with a README that shows how other libraries read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save_file

from mpt.loading.hf import locate
from mpt.prompts.saved import Card
from mpt.types import Layout

README = Template("""\
# $method

Soft prompts for $backbone, float32, [vectors, width]. They stand in front of the embedded text.
Each is here twice: as safetensors (the tensor `prompt`) and as `.npy`.

| file | task | shape |
|---|---|---|
$table

## transformers

Run in this folder:

```python
import torch
from safetensors.torch import load_file
from transformers import $kind, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained($source)
model = $kind.from_pretrained($source)
prompt = load_file("$first.safetensors")["prompt"]

# The text must read as it did in training.
text = $template.format_map($fields)
ids = tokenizer($text, add_special_tokens=False, return_tensors="pt")["input_ids"]
embedded = model.get_input_embeddings()(ids)
inputs = torch.cat([prompt[None].to(embedded.dtype), embedded], dim=1).detach()

mask = torch.ones(inputs.shape[:2], dtype=torch.long)
tokens = model.generate(inputs_embeds=inputs, attention_mask=mask, do_sample=False, max_new_tokens=20)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))
```
$vllm""")

VLLM = Template("""
## vLLM

It takes the whole input as embeddings, [tokens, width]; `inputs` is the one made above:

```python
from vllm import LLM, SamplingParams

llm = LLM($model, enable_prompt_embeds=True)
done = llm.generate({"prompt_embeds": inputs[0]}, SamplingParams(temperature=0, max_tokens=20))
print(done[0].outputs[0].text)
```
""")


def write_embeddings(
    folder: Path, prompts: Mapping[str, Float[np.ndarray, "P D"]], card: Card, layout: Layout
) -> None:
    """Writes each prompt as ``NAME.safetensors`` and ``NAME.npy``, and a README.md beside them."""
    for name, vectors in prompts.items():
        save_file({"prompt": vectors}, folder / f"{name}.safetensors")
        np.save(folder / f"{name}.npy", vectors)
    (folder / "README.md").write_text(_readme(prompts, card, layout), encoding="utf-8")


def _readme(prompts: Mapping[str, np.ndarray], card: Card, layout: Layout) -> str:
    table = [
        f"| {name} | {task} | {list(vectors.shape)} |"
        for (name, vectors), task in zip(prompts.items(), card.prompts)
    ]
    model, source = _source(card.backbone)
    task, decoder = card.task(card.prompts[0]), layout == "decoder"
    return README.substitute(
        method=card.method,
        backbone=card.backbone,
        table="\n".join(table),
        kind="AutoModelForCausalLM" if decoder else "AutoModelForSeq2SeqLM",
        source=source,
        first=next(iter(prompts)),
        template=repr(task.template),
        fields=repr({column: f"your {column}" for column in task.columns}),
        text="text" if decoder else "text + tokenizer.eos_token",
        vllm=VLLM.substitute(model=repr(model)) if decoder else "",
    )


def _source(backbone: str) -> tuple[str, str]:
    """Where the backbone is, and the arguments with which transformers' from_pretrained finds it."""
    path = locate(backbone)
    if path.suffix == ".gguf":
        return str(path), f"{str(path.parent)!r}, gguf_file={path.name!r}"
    return backbone, repr(backbone)
