"""The README of an export: what its prompts are, where their backbone is, and code that uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from mpt.data.task import Task
from mpt.data.tokenise import input_end
from mpt.interop.base_model import base_model
from mpt.prompts.saved import Card
from mpt.types import Layout

PEFT = Template("""\
$metadata
# $method

Adapters of PEFT for $backbone, a folder for each.

| folder | task | vectors |
|---|---|---|
$table
$multitask
$note

Run in this folder:

```python
import torch
from peft import PeftModel
from transformers import $kind, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained($source)
model = PeftModel.from_pretrained($kind.from_pretrained($source), "$first")

# The text must read as it did in training.
text = $template.format_map($fields)
ids = tokenizer($text, add_special_tokens=False, return_tensors="pt")["input_ids"]
$write
```
""")

# PEFT 0.21's `generate` of a decoder contradicts its own forward pass with transformers 5.24.
PEFT_DECODER = """\
tokens = []
while len(tokens) < 20 and tokenizer.eos_token_id not in tokens:
    after = torch.cat([ids, torch.tensor([tokens], dtype=ids.dtype)], dim=1)
    with torch.no_grad():  # not `generate`, which can contradict this in PEFT 0.21
        logits = model(input_ids=after, attention_mask=torch.ones_like(after)).logits
    tokens.append(int(logits[0, -1].argmax()))
print(tokenizer.decode(tokens, skip_special_tokens=True))"""
PEFT_BOTH_SIDES = """\
mask = torch.ones_like(ids)
tokens = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=20)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))"""

MULTITASK = """
The folder `multitask` holds all of them as the factors that they are made of: give `task_ids`, counted from 0
in the order of this table.
"""

EMBEDDINGS = Template("""\
# $method

Soft prompts for $backbone, float32, [vectors, width]. They stand in front of the embedded text.
Each is here twice: as safetensors (the tensor `prompt`) and as `.npy`.

| file | task | shape |
|---|---|---|
$table

$note

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


class Reads(NamedTuple):
    """How a model's inputs are made, which users of other libraries must know.

    Attributes:
        layout: whether it is a decoder or an encoder-decoder.
        ending: what is joined to the text's end, as Python; empty where nothing is.
    """

    layout: Layout
    ending: str = ""

    @classmethod
    def of(cls, layout: Layout, tokenizer: PreTrainedTokenizerBase) -> Reads:
        if layout == "decoder" or not (end := input_end(tokenizer)):
            return cls(layout)
        closed = end == [tokenizer.eos_token_id]
        return cls(layout, "tokenizer.eos_token" if closed else repr(tokenizer.decode(end)))


def of_peft(names: Sequence[str], length: int, card: Card, reads: Reads, multitask: bool) -> str:
    """The README for folders of PEFT.

    Args:
        names: the folders, one for each of the card's prompts.
        length: the vectors of each.
        multitask: whether there is a folder with the factors of all.
    """
    write = PEFT_DECODER if reads.layout == "decoder" else PEFT_BOTH_SIDES
    facts = _facts(dict.fromkeys(names, str(length)), card, reads)
    more = {"metadata": card.metadata("peft"), "multitask": MULTITASK if multitask else ""}
    return PEFT.substitute(facts, write=write, **more)


def of_embeddings(shapes: Mapping[str, str], card: Card, reads: Reads) -> str:
    """The README for plain arrays of these names and shapes."""
    vllm = VLLM.substitute(model=repr(base_model(card).name)) if reads.layout == "decoder" else ""
    return EMBEDDINGS.substitute(_facts(shapes, card, reads), vllm=vllm)


def _as_read(bos: bool, ending: str) -> str:
    """A text as Python joins it from what the tokenizer is to read, without adding anything by itself."""
    return " + ".join(filter(None, ("tokenizer.bos_token" * bos, "text", ending)))


def _rendered(task: Task) -> str:
    """A text as the user's turn, as Python has the tokenizer's chat template render it."""
    turns = "".join(f"{turn._asdict()!r}, " for turn in task.with_system([]))
    user = '{"role": "user", "content": text}'
    return (
        f"tokenizer.apply_chat_template([{turns}{user}], tokenize=False, add_generation_prompt=True, "
        "enable_thinking=False)"
    )


def _facts(sizes: Mapping[str, str], card: Card, reads: Reads) -> dict[str, str]:
    """What both READMEs say."""
    base, task, decoder = base_model(card), card.task(card.prompts[0]), reads.layout == "decoder"
    columns = task.columns if task.template else ("text",)
    return {
        "method": card.title,
        "backbone": base.name,
        "note": base.note,
        "table": "\n".join(
            f"| {name} | {task} | {size} |" for (name, size), task in zip(sizes.items(), card.prompts)
        ),
        "kind": "AutoModelForCausalLM" if decoder else "AutoModelForSeq2SeqLM",
        "source": base.arguments,
        "first": next(iter(sizes)),
        "template": repr(task.template or "{text}"),
        "fields": repr({column: f"your {column}" for column in columns}),
        "text": _rendered(task) if task.chat else _as_read(card.bos, reads.ending),
    }
