"""The README of an export: what its prompts are, where their backbone is, and code that uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from mpt.cards.card import Card
from mpt.data.task import Task
from mpt.data.tokenise import input_end
from mpt.interop.base_model import base_model
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

Soft prompts for $backbone, float32, [vectors, width]. They stand $place.
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
$join

mask = torch.ones(inputs.shape[:2], dtype=torch.long)
tokens = model.generate(inputs_embeds=inputs, attention_mask=mask, do_sample=False, max_new_tokens=20)
print(tokenizer.decode(tokens[0], skip_special_tokens=True))
```
$vllm""")

IN_FRONT = Template("""\
ids = tokenizer($text, add_special_tokens=False, return_tensors="pt")["input_ids"]
embedded = model.get_input_embeddings()(ids)
inputs = torch.cat([prompt[None].to(embedded.dtype), embedded], dim=1).detach()""")

IN_TURN = Template("""\
rendered, opening = $text, $opening
assert rendered.startswith(opening), "the chat template is another one"
front = torch.tensor([$tokens])  # the opening, as in training
ids = tokenizer(rendered.removeprefix(opening), add_special_tokens=False, return_tensors="pt")["input_ids"]
before, embedded = (model.get_input_embeddings()(part) for part in (front, ids))
inputs = torch.cat([before, prompt[None].to(before.dtype), embedded], dim=1).detach()""")

VLLM = Template("""
## vLLM

It takes the whole input as embeddings, [tokens, width]; `inputs` is the one made above:

```python
from vllm import LLM, SamplingParams

llm = LLM($model, enable_prompt_embeds=True)
done = llm.generate({"prompt_embeds": inputs[0]}, SamplingParams(temperature=0, max_tokens=20))
print(done[0].outputs[0].text)
```
$chat""")

CHAT = Template("""
Its chat input puts embeddings inside a turn, where these vectors stand; the server (`vllm serve $model
--enable-prompt-embeds`) writes the chat template around them:

```python
import base64, io

from openai import OpenAI

own = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
content = torch.cat([prompt.to(inputs.dtype), model.get_input_embeddings()(own)[0]]).detach()
torch.save(content, buffer := io.BytesIO())
part = {"type": "prompt_embeds", "data": base64.b64encode(buffer.getvalue()).decode()}
done = OpenAI(base_url="http://localhost:8000/v1", api_key="EMPTY").chat.completions.create(
    model=$name,
    messages=[$turns{"role": "user", "content": [part]}],
    temperature=0,
    max_tokens=20,
    extra_body={"chat_template_kwargs": {"enable_thinking": False}},
)
print(done.choices[0].message.content)
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
    facts, model = _facts(shapes, card, reads), base_model(card).name
    opening, chat, join, place = card.opening, "", IN_FRONT.substitute(facts), "in front of the embedded text"
    if opening:
        chat = CHAT.substitute(model=model, name=repr(model), turns=_turns(card.task(card.prompts[0])))
        join = IN_TURN.substitute(facts, opening=repr(opening.text), tokens=[*opening.tokens])
        place = "inside the first user turn, in front of the user's own embedded text"
    vllm = VLLM.substitute(model=repr(model), chat=chat) if reads.layout == "decoder" else ""
    return EMBEDDINGS.substitute(facts, place=place, join=join, vllm=vllm)


def _as_read(bos: bool, ending: str) -> str:
    """A text as Python joins it from what the tokenizer is to read, without adding anything by itself."""
    return " + ".join(filter(None, ("tokenizer.bos_token" * bos, "text", ending)))


def _rendered(task: Task) -> str:
    """A text as the user's turn, as Python has the tokenizer's chat template render it."""
    user = '{"role": "user", "content": text}'
    return (
        f"tokenizer.apply_chat_template([{_turns(task)}{user}], tokenize=False, add_generation_prompt=True, "
        "enable_thinking=False)"
    )


def _turns(task: Task) -> str:
    """The turns in front of the user's, as Python, with a comma after each."""
    return "".join(f"{turn._asdict()!r}, " for turn in task.with_system([]))


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
