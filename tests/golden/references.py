"""One function for each golden file: what live torch, transformers and peft answer."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import peft
import runs
import torch
import transformers as hf
from safetensors.numpy import load_file, save_file
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils.rnn import pad_sequence

from golden import SEEDS, inputs, normals, tiny
from golden.inputs import INDEX, PROMPT, ROWS, prompts
from golden.registry import Arrays, arrays, files
from mpt.interop.exporting import export_run
from mpt.types import Row

# The models are tiny: a second thread costs more than it does, and may add in another order.
torch.set_num_threads(1)
hf.utils.logging.disable_progress_bar()

# The models.


@files
def facts(folder: Path) -> None:
    """A line of JSON for each model, the configs of which are what the other goldens are made of."""
    versions = {module.__name__: module.__version__ for module in (torch, hf, peft, np)}
    models = {
        family: {"config": config, "tensors": tiny.stacked(_shapes(family))}
        for family, config in tiny.CONFIGS.items()
    }
    lines = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(facts)}" for name, facts in models.items())
    (folder / "facts.json").write_text(
        f'{{\n "versions": {json.dumps(versions)},\n "seeds": {json.dumps(SEEDS)},\n'
        f' "models": {{\n  {lines}\n }}\n}}\n'
    )


def _shapes(family: str) -> dict[str, tuple[int, ...]]:
    model = _kind(family).from_config(hf.AutoConfig.for_model(**tiny.CONFIGS[family]))
    saved = "num_experts" in tiny.CONFIGS[family] or family.startswith("gemma4")
    found = dict(_as_saved(model) if saved else model.named_parameters())
    found = {name: tuple(parameter.shape) for name, parameter in found.items()}
    return found | ({"lm_head.weight": found["shared.weight"]} if family in tiny.UNTIED else {})


def _as_saved(model: hf.PreTrainedModel) -> dict[str, torch.Tensor]:
    """The tensors as a checkpoint has them; in memory, those of all experts are one, and some are buffers."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder, "model.safetensors"))


def _layout(family: str) -> str:
    return "encoder-decoder" if tiny.CONFIGS[family].keys() & {"d_model", "encoder"} else "decoder"


def _kind(family: str) -> type:
    if "text_config" in tiny.CONFIGS[family]:
        return hf.AutoModelForImageTextToText
    return hf.AutoModelForCausalLM if _layout(family) == "decoder" else hf.AutoModelForSeq2SeqLM


def model_of(family: str) -> hf.PreTrainedModel:
    """transformers' reading of the checkpoint, in float32 and plain attention."""
    with tempfile.TemporaryDirectory() as folder:
        tiny.save(family, Path(folder))
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        return _kind(family).from_pretrained(folder, **options).eval()


# A forward pass and its gradients.


def _batch(layout: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded ids, the mask of real tokens, and labels; a decoder's ids have the targets after them."""
    both, rows = layout == "decoder", ROWS[layout]
    texts = [torch.tensor([*row.inputs, *(row.targets if both else ())]) for row in rows]
    labels = [torch.tensor([-100] * len(row.inputs) * both + list(row.targets)) for row in rows]
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    return pad_sequence(texts, batch_first=True), mask, pad_sequence(labels, True, -100)


def _after(model: hf.PreTrainedModel, vectors: np.ndarray, ids: torch.Tensor) -> torch.Tensor:
    """Embedded ids, with a prompt of each row's own in front."""
    return torch.cat([torch.tensor(vectors), model.get_input_embeddings()(ids)], dim=1)


def _own_inputs(model: hf.PreTrainedModel, ids: torch.Tensor, length: int) -> dict[str, torch.Tensor]:
    """Gemma 4's per-layer inputs, where it has some: of a prompt those of padding, as of images.

    transformers guesses tokens from embeddings otherwise, and refuses those that are of none.
    """
    text = getattr(model.base_model, "language_model", model.base_model)
    if not getattr(text.config, "hidden_size_per_layer_input", 0):
        return {}
    ids = pad(ids, (length, 0), value=text.config.pad_token_id)
    return {"per_layer_inputs": text.get_per_layer_inputs(ids)}


def _loss(model: torch.nn.Module, family: str) -> torch.Tensor:
    ids, mask, labels = _batch(_layout(family))
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss


def _prompt_gradient(model: hf.PreTrainedModel, family: str) -> torch.Tensor:
    """That of peft's prompt tuning; of a model with per-layer inputs, for which peft has none, without it."""
    decoder = _layout(family) == "decoder"
    ids, mask, labels = _batch(_layout(family))
    if own := _own_inputs(model, ids, PROMPT):
        vectors = torch.tensor(prompts(1)[0], requires_grad=True)
        embedded = torch.cat([vectors.expand(len(ids), -1, -1), model.get_input_embeddings()(ids)], dim=1)
        logits = model(inputs_embeds=embedded, attention_mask=pad(mask, (PROMPT, 0), value=1), **own).logits[
            :, PROMPT:-1
        ]
        cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten()).backward()
        return vectors.grad
    config = peft.PromptTuningConfig(
        task_type="CAUSAL_LM" if decoder else "SEQ_2_SEQ_LM",
        num_virtual_tokens=PROMPT,
        num_transformer_submodules=1,
        **_dimensions(model),
    )
    tuned = peft.get_peft_model(model, config)
    weight = tuned.prompt_encoder["default"].embedding.weight
    weight.data = torch.tensor(prompts(1)[0])
    _loss(tuned, family).backward()
    return weight.grad


def _dimensions(model: hf.PreTrainedModel) -> dict[str, int]:
    """What peft cannot read of a config of two parts."""
    if not hasattr(model.config, "encoder"):
        return {}
    text = getattr(model.config.encoder, "text_config", model.config.encoder)
    return {
        "token_dim": text.hidden_size,
        "num_layers": text.num_hidden_layers,
        "num_attention_heads": text.num_attention_heads,
    }


@arrays(*tiny.DECODERS)
def decoders(family: str) -> Arrays:
    """Without a prompt and after one each row's own: at what predicts a target, and at what is read."""
    model, rows = model_of(family), ROWS["decoder"]
    ids, mask, _ = _batch("decoder")
    answers: Arrays = {}
    for length, quantity in ((0, ""), (PROMPT, "prompted ")):
        embedded = _after(model, prompts(2, length)[INDEX], ids)
        longer = pad(mask, (length, 0), value=1)
        own = _own_inputs(model, ids, length)
        with torch.no_grad():
            found = model(inputs_embeds=embedded, attention_mask=longer, output_hidden_states=True, **own)
        logits, hidden = found.logits[:, length:], found.hidden_states[-1][:, length:]
        ends = [(len(row.inputs) - 1, len(row.inputs) + len(row.targets) - 1) for row in rows]
        answers |= {
            f"{quantity}logits": torch.cat([row[first:last] for row, (first, last) in zip(logits, ends)]),
            f"{quantity}hidden": torch.cat([row[:last] for row, (_, last) in zip(hidden, ends)]),
        }
    return answers | {"prompt gradient": _prompt_gradient(model, family)}


@arrays(*tiny.ENCODER_DECODERS)
def encoder_decoders(family: str) -> Arrays:
    model = model_of(family)
    ids, mask, labels = _batch("encoder-decoder")
    answers: Arrays = {}
    for length, quantity in ((0, ""), (PROMPT, "prompted ")):
        embedded = _after(model, prompts(2, length)[INDEX], ids)
        longer = pad(mask, (length, 0), value=1)
        with torch.no_grad():
            found = model(
                inputs_embeds=embedded, attention_mask=longer, labels=labels, output_hidden_states=True
            )
        answers |= {
            f"{quantity}logits": found.logits[labels >= 0],
            f"{quantity}encoded": found.encoder_hidden_states[-1][:, length:][mask.bool()],
            f"{quantity}decoded": found.decoder_hidden_states[-1][labels >= 0],
        }
    if family not in tiny.ONE_SIDED:
        answers["both sides' grad."] = _both_sides_gradient(model)
    return answers | {"prompt gradient": _prompt_gradient(model, family)}


def _both_sides_gradient(model: hf.PreTrainedModel) -> torch.Tensor:
    """By transformers alone: peft's prompt tuning never gives its second half to the decoder."""
    ids, mask, labels = _batch("encoder-decoder")
    weight = torch.tensor(prompts(1, 2 * PROMPT)[0], requires_grad=True)
    begun = pad(labels.clamp(min=0)[:, :-1], (1, 0), value=_start(model))
    embed, count = model.get_input_embeddings(), len(ids)
    target = model.get_decoder().embed_tokens
    logits = model(
        inputs_embeds=torch.cat([weight[:PROMPT].expand(count, -1, -1), embed(ids)], dim=1),
        decoder_inputs_embeds=torch.cat([weight[PROMPT:].expand(count, -1, -1), target(begun)], dim=1),
        attention_mask=pad(mask, (PROMPT, 0), value=1),
    ).logits[:, PROMPT:]
    cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    return weight.grad


def _start(model: hf.PreTrainedModel) -> int:
    """The token in front of a decoder's text: that of padding in T5, of the text's beginning in T5Gemma."""
    return model.config.decoder.bos_token_id if hasattr(model.config, "decoder") else 0


@arrays("llama", "llama-3", "gemma2", "gpt2", "t5-1.0", "t5-1.1", "umt5")
def weights_gradient(family: str) -> Arrays:
    """Each entry times that of a random direction, summed over all axes but the last.

    So few numbers show an error in any entry. "largest" is the largest entry of all.
    """
    model, directions = model_of(family), inputs.directions(family)
    _loss(model, family).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    along = {
        name: (gradient.double() * torch.tensor(directions[name]))
        .reshape(-1, gradient.shape[-1])
        .sum(0)
        .float()
        for name, gradient in gradients.items()
    }
    return along | {"largest": max(gradient.abs().max() for gradient in gradients.values())}


# Of each layout, the endings of the matrices' names.
LORA = {
    "decoder": {"attention": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "encoder-decoder": {"attention": ["q", "k", "v", "o"]},
}
LORA["decoder"]["all"] = [*LORA["decoder"]["attention"], "up_proj", "gate_proj", "down_proj"]
LORA["encoder-decoder"]["all"] = [*LORA["encoder-decoder"]["attention"], "wi_0", "wi_1", "wo"]


@arrays(*(f"{family}/{among}" for family in ("llama", "t5-1.1") for among in ("attention", "all")))
def lora(case: str) -> Arrays:
    """peft's loss, and the gradients of its factors, which are drawn by the names given here."""
    family, among = case.split("/")
    options = {"r": inputs.RANK, "lora_alpha": inputs.RANK, "lora_dropout": 0.0}
    modules = LORA[_layout(family)][among]
    tuned = peft.get_peft_model(model_of(family), peft.LoraConfig(target_modules=modules, **options))
    factors = {
        name.removeprefix("base_model.model.").removesuffix(".default.weight"): parameter
        for name, parameter in tuned.named_parameters()
        if parameter.requires_grad
    }
    drawn = inputs.factors({name: tuple(factor.shape) for name, factor in factors.items()})
    for name, factor in factors.items():
        factor.data = torch.tensor(drawn[name])
    loss = _loss(tuned, family)
    loss.backward()
    return {name: factor.grad for name, factor in factors.items()} | {"loss": loss}


# What is written, read out and looked at.


@arrays(*inputs.WRITTEN)
def greedy(family: str) -> Arrays:
    """Each text up to where it stops."""
    model, answers = model_of(family), {}
    for i, (ids, which) in enumerate(zip(inputs.TEXTS, INDEX)):
        if _own_inputs(model, torch.tensor([ids]), PROMPT):
            answers[str(i)] = _stopped(_one_by_one(model, ids, which), inputs.STOP)
            continue
        embedded = _after(model, prompts(2)[[which]], torch.tensor([ids]))
        tokens = model.generate(
            inputs_embeds=embedded,
            attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=inputs.MOST,
            eos_token_id=inputs.STOP,
            pad_token_id=0,
        )[0].tolist()
        answers[str(i)] = _stopped(tokens[model.config.is_encoder_decoder :], inputs.STOP)
    return answers


def _one_by_one(model: hf.PreTrainedModel, ids: list[int], which: int) -> list[int]:
    """A greedy text by whole forward passes: `generate` takes no per-layer inputs beside embeddings."""
    text: list[int] = []
    while len(text) < inputs.MOST:
        row = torch.tensor([[*ids, *text]])
        with torch.no_grad():
            embedded = _after(model, prompts(2)[[which]], row)
            logits = model(inputs_embeds=embedded, **_own_inputs(model, row, PROMPT)).logits
        text.append(int(logits[0, -1].argmax()))
    return text


def _stopped(tokens: list[int], stop: list[int]) -> np.ndarray:
    return np.array(list(itertools.takewhile(lambda token: token not in stop, tokens)), int)


# Where each family keeps the norm before its head. A scale or a bound after it changes no order.
NORMS = {
    "llama": lambda model: model.model.norm,
    "gemma2": lambda model: model.model.norm,
    "gpt2": lambda model: model.transformer.ln_f,
    "t5-1.0": lambda model: model.decoder.final_layer_norm,
    "t5-1.1": lambda model: model.decoder.final_layer_norm,
}


@arrays(*NORMS)
def lens(family: str) -> Arrays:
    """The three likeliest tokens that the final norm and the head make of each vector."""
    model = model_of(family)
    with torch.no_grad():
        logits = model.get_output_embeddings()(NORMS[family](model)(torch.tensor(prompts(1)[0])))
    return {"read out": logits.topk(3).indices}


@arrays(*tiny.DECODERS, *tiny.ENCODER_DECODERS)
def attention(family: str) -> Arrays:
    """To each vector of the prompt, by layer, the mean over heads and queries; [layers, rows, P]."""
    model, found = model_of(family), {"text": [], "labels": []}
    for row, which in zip(inputs.SEEN, INDEX):
        ids = list(row.inputs) + list(row.targets[:-1]) * (_layout(family) == "decoder")
        embedded = _after(model, prompts(2)[[which]], torch.tensor([ids]))
        text, count = slice(PROMPT, None), len(row.targets)
        with torch.no_grad():
            if _layout(family) == "decoder":
                own = _own_inputs(model, torch.tensor([ids]), PROMPT)
                seen = model(inputs_embeds=embedded, output_attentions=True, **own).attentions
                found["labels"].append(_shares(seen, slice(-count, None), PROMPT))
                continue
            answer = model(inputs_embeds=embedded, labels=torch.tensor([row.targets]), output_attentions=True)
        found["text"].append(_shares(answer.encoder_attentions, text, PROMPT))
        found["labels"].append(_shares(answer.cross_attentions, slice(None), PROMPT))
    return {name: torch.stack(rows, dim=1) for name, rows in found.items() if rows}


@arrays("t5-1.0")
def attention_of_both_sides(family: str) -> Arrays:
    """Of a prompt whose last vector is what the decoder reads before its own text."""
    model, row = model_of(family), inputs.SEEN[0]
    table, vectors = model.get_input_embeddings(), torch.tensor(prompts(2)[0])
    begun = torch.cat([vectors[-1:], table(torch.tensor([0, *row.targets[:-1]]))])
    with torch.no_grad():
        found = model(
            inputs_embeds=torch.cat([vectors[:-1], table(torch.tensor(row.inputs))])[None],
            decoder_inputs_embeds=begun[None],
            output_attentions=True,
        )
    labels = slice(1, 3)
    return {
        "labels": _shares(found.cross_attentions, labels, PROMPT - 1),
        "labels, decoder": _shares(found.decoder_attentions, labels, 1),
    }


def _shares(layers: tuple[torch.Tensor, ...], queries: slice, keys: int) -> torch.Tensor:
    return torch.stack([weights[0, :, queries, :keys].mean(dim=(0, 1)) for weights in layers])


# Prompts in folders of peft's.

CAUSAL, SEQ2SEQ = {"task_type": "CAUSAL_LM"}, {"task_type": "SEQ_2_SEQ_LM"}
MULTITASK = {"num_tasks": 2, "num_ranks": 2, "prompt_tuning_init": "RANDOM"}
ADAPTERS = {
    "plain": (peft.PromptTuningConfig, CAUSAL),
    "multitask": (peft.MultitaskPromptTuningConfig, CAUSAL | MULTITASK),
    "mlp": (peft.PromptEncoderConfig, CAUSAL | {"encoder_hidden_size": 8}),
    "lstm": (
        peft.PromptEncoderConfig,
        CAUSAL | {"encoder_hidden_size": 8, "encoder_reparameterization_type": "LSTM"},
    ),
    "plain-both-sides": (peft.PromptTuningConfig, SEQ2SEQ),
    "multitask-both-sides": (peft.MultitaskPromptTuningConfig, SEQ2SEQ | MULTITASK),
}


@files
def adapters(folder: Path) -> None:
    """As peft saves them, with the vectors that it makes of each, [T, V·S, D], in prompts.safetensors."""
    for name, (kind, options) in ADAPTERS.items():
        config = kind(num_virtual_tokens=3, **options)
        model = model_of("llama" if options["task_type"] == "CAUSAL_LM" else "t5-1.0")
        tuned = peft.get_peft_model(model, config)
        trained = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
        drawn = normals(SEEDS["adapters"], {n: tuple(p.shape) for n, p in trained.items()}, scale=0.3)
        for parameter_name, parameter in trained.items():
            parameter.data = torch.tensor(drawn[parameter_name])
        tasks = torch.arange(options.get("num_tasks", 1))
        with torch.no_grad():
            vectors = tuned.get_prompt(len(tasks), task_ids=tasks).numpy()
        config.base_model_name_or_path = "model"
        tuned.save_pretrained(folder / "adapters" / name, save_embedding_layers=False)
        (folder / "adapters" / name / "README.md").unlink()
        save_file(
            {"prompts": np.ascontiguousarray(vectors)}, folder / "adapters" / name / "prompts.safetensors"
        )


@files
def exported(folder: Path) -> None:
    """As mpt writes them."""
    for layout in ROWS:
        shutil.copytree(_exports(layout), folder / "exported" / layout, dirs_exist_ok=True)


@functools.cache
def _exports(layout: str) -> Path:
    """The prompts of a pretraining and of an adaptation, for a folder called "model"."""
    scratch = Path(tempfile.mkdtemp())
    with contextlib.chdir(scratch):
        model = tiny.save("llama" if layout == "decoder" else "t5-1.1", Path("model"))
        for kind, run in (("universal", runs.universal_run), ("adapted", runs.adapted_run)):
            export_run(run(Path(f"run-{kind}"), model), "peft", Path("exported", kind))
    return scratch / "exported"


@arrays("llama", "gemma3_text", "gpt2", "t5-1.1", "umt5")
def prompted_by_peft(family: str) -> Arrays:
    """The logits at all targets, and greedy texts, after each exported prompt.

    The multitask adapter has two, which are also there as plain ones.
    """
    folder, model, answers = _exports(_layout(family)), model_of(family), {}
    for adapter in sorted(path.parent for path in folder.glob("*/*/adapter_config.json")):
        tuned = peft.PeftModel.from_pretrained(model, adapter).eval()
        tasks = [{"task_ids": torch.tensor([j])} for j in range(2)] if adapter.name == "multitask" else [{}]
        for j, task in enumerate(tasks):
            name = f"{adapter.parent.name}/{adapter.name}" + f"/{j}" * bool(task)
            found = [_peft_logits(tuned, row, _layout(family), task) for row in inputs.EXPORTED]
            answers[f"{name}/logits"] = torch.cat(found)
            for i, row in enumerate(inputs.EXPORTED):
                answers[f"{name}/{i}"] = _peft_text(tuned, row.inputs, _layout(family), task)
    return answers


def _peft_logits(tuned: peft.PeftModel, row: Row, layout: str, task: dict) -> torch.Tensor:
    """At one row's targets."""
    both = layout == "encoder-decoder"
    ids = torch.tensor([row.inputs if both else row.inputs + row.targets])
    labels = {"labels": torch.tensor([row.targets])} if both else {}
    with torch.no_grad():
        found = tuned(input_ids=ids, attention_mask=torch.ones_like(ids), **labels, **task).logits[0]
    return found if both else found[-len(row.targets) - 1 : -1]


def _peft_text(tuned: peft.PeftModel, ids: list[int], layout: str, task: dict) -> np.ndarray:
    """peft's greedy text; decoder-only, by its forward pass, which its `generate` contradicts with
    transformers 5.24."""
    most, stop = inputs.MOST, inputs.EXPORT_STOP
    if layout == "encoder-decoder":
        row = torch.tensor([ids])
        options = {"eos_token_id": stop, "pad_token_id": 0, "do_sample": False, "max_new_tokens": most}
        found = tuned.generate(input_ids=row, attention_mask=torch.ones_like(row), **options, **task)
        return _stopped(found[0, 1:].tolist(), stop)
    text: list[int] = []
    while len(text) < most and (not text or text[-1] not in stop):
        text.append(int(_peft_logits(tuned, Row([*ids, *text], [0]), layout, task).argmax()))
    return _stopped(text, stop)
