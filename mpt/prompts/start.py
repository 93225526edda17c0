"""What a prompt starts from: vectors, or a saved prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.filterlib import Filter
from jaxtyping import Array, Float

from mpt.config.options import AdaptConfig, PromptConfig
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.loading.hf import Pretrained
from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt, Words
from mpt.prompts.bank import Bank
from mpt.prompts.initial import text_rows, vocabulary_rows
from mpt.prompts.multitask import FACTORS
from mpt.prompts.saved import VECTORS, Card, load_prompt
from mpt.system.paths import is_remote, run_path


def starting_vectors(
    config: PromptConfig, tasks: Sequence[Task], seeds: Sequence[int], pretrained: Pretrained
) -> Float[Array, "J P D"]:
    """One starting prompt per (task, seed), as embedded tokens, exactly; or uniform random numbers.

    A length of 0 stands for the instruction's own: the hard prompt, word for word.

    Raises:
        UserError: a task has no instruction, or no class words, to start from.
    """
    vocab, width = pretrained.backbone.embedding[...].shape
    if config.start == "uniform":
        keys = [jax.random.key(seed) for seed in seeds]
        return jnp.stack(
            [jax.random.uniform(key, (config.length, width), minval=-0.5, maxval=0.5) for key in keys]
        )
    if config.start == "classes":
        return jnp.stack(
            [_classes(task, config.length, seed, pretrained) for task, seed in zip(tasks, seeds)]
        )
    if config.start == "vocabulary":
        ids = [vocabulary_rows(vocab, config.length, seed) for seed in seeds]
    else:
        texts = [_text(config, task) for task in tasks]
        tokens = [pretrained.tokenizer(text)["input_ids"] for text in texts]
        ids = [text_rows(text, config.length or len(text)) for text in tokens]
    return pretrained.backbone.embed(jnp.asarray(np.stack(ids))).astype(jnp.float32)


def _classes(task: Task, length: int, seed: int, pretrained: Pretrained) -> Float[Array, "P D"]:
    """A vector for each class word, the mean of its tokens; then sampled vocabulary (Lester et al. 2021)."""
    if not task.choices:
        raise UserError(f"task {task.name} has no class words to start its prompt from; set vectors.start")
    tokenizer, embed, space = pretrained.tokenizer, pretrained.backbone.embed, ""
    if pretrained.backbone.layout == "decoder":
        space = " "  # as they are written behind a text
    ids = [tokenizer(space + word, add_special_tokens=False)["input_ids"] for word in task.choices]
    words = [embed(jnp.asarray(tokens)).astype(jnp.float32).mean(axis=0) for tokens in ids[:length]]
    vocab = pretrained.backbone.embedding[...].shape[0]
    rest = embed(jnp.asarray(vocabulary_rows(vocab, length - len(words), seed))).astype(jnp.float32)
    return jnp.concatenate([jnp.stack(words), rest]) if words else rest


def instruction_words(tasks: Sequence[Task], length: int, pretrained: Pretrained) -> Float[Array, "J Q D"]:
    """The embedded instruction of each task: its end stands last, in front of a text."""
    config = PromptConfig(start="instruction")
    tokens = [pretrained.tokenizer(_text(config, task))["input_ids"] for task in tasks]
    ids = [text_rows(text[::-1], length)[::-1] for text in tokens]
    return pretrained.backbone.embed(jnp.asarray(np.stack(ids))).astype(jnp.float32)


def for_tasks(
    universal: MultitaskPrompt, tasks: Sequence[Task], pretrained: Pretrained, together: bool = False
) -> MultitaskPrompt:
    """The start of new tasks, with their instructions where the source tasks had theirs."""
    words = universal.words
    told = None if words is None else instruction_words(tasks, words.shape[1], pretrained)
    return universal.for_targets(len(tasks), together, told)


def trained_parts(config: AdaptConfig) -> Filter:
    """What an adaptation trains of the prompt that it starts from, an NNX filter."""
    own = FACTORS if config.freeze_shared else PromptParam
    return nnx.Any(own, Words) if config.train.word_rate else own


def _text(config: PromptConfig, task: Task) -> str:
    """The words that a task's prompt starts from."""
    text = config.text if config.start == "text" else task.instruction
    if not text:
        remedy = "write vectors.text" if config.start == "text" else "write one, or set vectors.start"
        raise UserError(f"task {task.name} has no instruction to start its prompt from; {remedy}")
    return text


def saved_start(path: str, pretrained: Pretrained | None = None) -> tuple[MultitaskPrompt | SoftPrompt, Card]:
    """The prompt that new tasks start from: the universal one of a run, or a prompt of a bank.

    Args:
        path: the run directory of `pretrain` or `import`, or BANK/NAME.

    Raises:
        UserError: there is none, it is damaged, or it was trained on another backbone.
    """
    if _in_bank(path):
        bank, _, name = path.rstrip("/").rpartition("/")
        prompt, card = Bank(bank or ".").read(name)
        if pretrained and (fault := card.misfit(pretrained)):
            raise UserError(f"{path}: {fault}")
    else:
        prompt, card = load_prompt(run_path(path), "universal", pretrained)
    if not isinstance(prompt, MultitaskPrompt | SoftPrompt):
        raise UserError(f"{path}: it is more than a prompt ({card.kind}), which nothing else can start from")
    return prompt, card


def _in_bank(path: str) -> bool:
    """Whether a prompt of a bank is meant; what is neither that nor a run is told as a missing run."""
    if is_remote(path):
        return not path.startswith("gs://") or not (run_path(path) / "config.yaml").exists()
    place = Path(path)
    return not place.is_dir() and any(place.parent.glob(f"*{VECTORS}"))
