"""Where each method starts, and what it trains of its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.filterlib import Filter
from jaxtyping import Array, Float

from mpt.config.methods import Method
from mpt.config.options import AdaptConfig
from mpt.data.mixture import training_batches
from mpt.data.task import Task
from mpt.errors import UserError, nearest, warn
from mpt.loading.hf import Pretrained
from mpt.methods.in_context import in_context
from mpt.models.layers import Weight
from mpt.models.lora import LoraParam, with_lora
from mpt.prompts import (
    AttentionalPrompt,
    DecomposedPrompt,
    ModulatedPrompt,
    MultitaskPrompt,
    PlainPrompt,
    PromptParam,
    SoftPrompt,
    UltraLowPrompt,
)
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt
from mpt.prompts.spot import similarities
from mpt.prompts.start import for_tasks, instruction_words, saved_start, starting_vectors, trained_parts
from mpt.rundir.directory import RunDir
from mpt.sharding import own_shards
from mpt.system.paths import run_path
from mpt.training.loop import fit
from mpt.training.losses import task_loss
from mpt.types import Row

# A backbone has one set of weights, and each seed's examples are of a length of their own: these train
# (or stand) one seed at a time. The other methods' seeds are prompts, side by side.
ONE_BY_ONE: tuple[Method, ...] = ("lora", "full", "examples")

TITLES: dict[Method, str] = {
    "prompt": "Prompt",
    "spot": "SPoT prompt",
    "attempt": "ATTEMPT prompt",
    "ulpt": "ULPT prompt",
    "dept": "DePT prompt",
    "lora": "LoRA",
    "full": "Full fine-tuning",
    "examples": "Prompt",
}


class Setting(NamedTuple):
    """What an adaptation starts from.

    Attributes:
        tasks: of each prompt that trains side by side with others; as are the next two.
        seeds: what drew the rows.
        rows: training rows.
    """

    config: AdaptConfig
    pretrained: Pretrained
    run: RunDir
    tasks: Sequence[Task]
    seeds: Sequence[int]
    rows: Sequence[Sequence[Row]]


class Start(NamedTuple):
    """A model before training.

    Attributes:
        origin: what it starts from, in words.
        trainable: what is trained of it, an NNX filter.
        weight_rate: Adam's rate for weights, where there are any to train.
    """

    model: Prompted
    origin: str
    trainable: Filter = PromptParam
    weight_rate: float | None = None


def start(setting: Setting) -> Start:
    """The start of the config's method.

    Raises:
        UserError: the method lacks something, or an option does not go with it.
    """
    config = setting.config
    if (config.freeze_shared or config.also) and config.method != "prompt":
        raise _no_shared_part("freeze_shared" if config.freeze_shared else "also")
    return STARTS[config.method](setting)


def _prompt(setting: Setting) -> Start:
    """MPT from a universal prompt (Wang et al. 2023, section 3.3); prompt tuning without one."""
    config = setting.config
    prompt = _saved(setting) if config.prompt else _from_scratch(setting)
    shares = config.prompt and isinstance(prompt, MultitaskPrompt)
    if (config.freeze_shared or config.also) and not shares:
        raise _no_shared_part("freeze_shared" if config.freeze_shared else "also")
    return Start(Prompted(setting.pretrained.backbone, prompt), _origin(config), trained_parts(config))


def _from_scratch(setting: Setting) -> MultitaskPrompt | SoftPrompt:
    vectors, length = _vectors(setting), setting.config.instruction
    if not length:
        return SoftPrompt(vectors)
    factors = MultitaskPrompt.start(vectors[0], len(vectors), setting.config.vectors.rank, _key(setting))
    words = instruction_words(setting.tasks, length, setting.pretrained)
    return MultitaskPrompt(vectors, factors.u[...], factors.v[...], words)


def _ulpt(setting: Setting) -> Start:
    options = setting.config.ulpt
    if options.shared_only:
        universal = _saved(setting) if setting.config.prompt else None
        if not isinstance(universal, MultitaskPrompt):
            raise _no_shared_part("ulpt.shared_only")
        if universal.words is not None:
            raise UserError(
                "ulpt.shared_only: this universal prompt has instructions behind it; leave it out"
            )
        base = UltraLowPrompt.start(universal.shared[...], options.rank, options.seed)
        prompt = ModulatedPrompt(base, universal.u[...], universal.v[...])
    else:
        prompt = UltraLowPrompt.start(_vectors(setting), options.rank, options.seed)
    return Start(Prompted(setting.pretrained.backbone, prompt), _origin(setting.config))


def _dept(setting: Setting) -> Start:
    config, options = setting.config, setting.config.dept
    vectors = _vectors(setting, options.length)
    prompt = DecomposedPrompt.start(vectors, config.max_length, options.rank, _key(setting))
    return Start(Prompted(setting.pretrained.backbone, prompt), _origin(config), weight_rate=options.rate)


def _attempt(setting: Setting) -> Start:
    options, (sources, names) = setting.config.attempt, _teachers(setting)
    target = starting_vectors(setting.config.vectors, setting.tasks, setting.seeds, setting.pretrained)
    if target.shape[1] != sources.shape[1]:
        raise UserError(
            f"method attempt: the source prompts have {sources.shape[1]} vectors, the target's "
            f"{target.shape[1]}; set --vectors.length {sources.shape[1]}"
        )
    prompt = AttentionalPrompt.start(sources, target, options.width, _key(setting))
    origin = f"{setting.config.vectors.start}, beside {', '.join(names)}"
    return Start(Prompted(setting.pretrained.backbone, prompt), origin, weight_rate=options.rate)


def _spot(setting: Setting) -> Start:
    """Vu et al. 2022: prompt tuning from the likest source prompt, or from the one that is named."""
    options, (sources, names) = setting.config.spot, _teachers(setting)
    if not options.source:
        chosen = similarities(briefly_tuned(setting, options.steps), sources).argmax(axis=1).tolist()
    elif options.source in names:
        chosen = [names.index(options.source)] * len(setting.seeds)
    else:
        raise UserError(f"spot.source: no source task '{options.source}'; {nearest(options.source, names)}")
    origin = f"the prompt of {', '.join(dict.fromkeys(names[k] for k in chosen))}"
    return Start(Prompted(setting.pretrained.backbone, SoftPrompt(sources[jnp.array(chosen)])), origin)


def briefly_tuned(setting: Setting, steps: int) -> Float[Array, "J P D"]:
    """The target's own prompts after a short training: what is compared with the source tasks'."""
    config, backbone = setting.config, setting.pretrained.backbone
    vectors = starting_vectors(config.vectors, setting.tasks, setting.seeds, setting.pretrained)
    train = replace(config.train, steps=steps)
    model, _ = fit(
        Prompted(backbone, SoftPrompt(vectors)),
        training_batches(setting.rows, train, 0, backbone.layout, own_shards()),
        train,
        task_loss,
        weights={"task": 1.0},
        run=setting.run,
        stage="spot",
        tasks=[task.name for task in setting.tasks],
    )
    return model.prompt.compose()


def _lora(setting: Setting) -> Start:
    options = setting.config.lora
    backbone = with_lora(setting.pretrained.backbone, options.rank, options.matrices, _key(setting))
    return Start(Prompted(backbone, _front(setting)), "the backbone", LoraParam, options.rate)


def _full(setting: Setting) -> Start:
    if setting.config.model.weights != "full":
        raise UserError("method full: 8-bit weights cannot be trained; leave out --model.weights")
    graph, weights = nnx.split(setting.pretrained.backbone)
    # A copy: training uses its arrays up, and other methods read the backbone as it was.
    backbone = nnx.merge(graph, jax.tree.map(jnp.copy, weights))
    trained = nnx.All(Weight, nnx.PathContains("backbone"))
    return Start(Prompted(backbone, _front(setting)), "the backbone", trained, setting.config.full.rate)


def _examples(setting: Setting) -> Start:
    config, pretrained = setting.config, setting.pretrained
    (task,), (seed,), (rows,) = setting.tasks, setting.seeds, setting.rows
    ids = in_context(task, rows, pretrained.tokenizer, config.examples.tokens, seed)
    vectors = pretrained.backbone.embed(jnp.asarray([ids])).astype(jnp.float32)
    return Start(Prompted(pretrained.backbone, SoftPrompt(vectors)), "examples in context")


STARTS: dict[Method, Callable[[Setting], Start]] = {
    "prompt": _prompt,
    "spot": _spot,
    "attempt": _attempt,
    "ulpt": _ulpt,
    "dept": _dept,
    "lora": _lora,
    "full": _full,
    "examples": _examples,
}


def _key(setting: Setting) -> Array:
    return jax.random.key(setting.seeds[0])


def _origin(config: AdaptConfig) -> str:
    return config.prompt or config.vectors.start


def _vectors(setting: Setting, length: int = 0) -> Float[Array, "J P D"]:
    """The vectors that each seed's prompt starts from: a universal prompt's, or the config's."""
    config = setting.config
    if config.prompt:
        return _saved(setting).compose()
    vectors = replace(config.vectors, length=length or config.vectors.length)
    return starting_vectors(vectors, setting.tasks, setting.seeds, setting.pretrained)


def _front(setting: Setting) -> PlainPrompt:
    """What stands, frozen, in front of texts whose backbone is trained: the instruction, if there is one."""
    (task,), pretrained = setting.tasks, setting.pretrained
    if setting.config.prompt:
        return SoftPrompt(_saved(setting).compose())
    if not task.instruction:
        return SoftPrompt(jnp.zeros((1, 0, pretrained.backbone.embedding.shape[-1])))
    words = replace(setting.config.vectors, start="instruction", length=0)
    return SoftPrompt(starting_vectors(words, [task], setting.seeds, pretrained))


def _saved(setting: Setting) -> MultitaskPrompt | SoftPrompt:
    """The prompt that the config names, as each target starts from it."""
    prompt, card = saved_start(setting.config.prompt, setting.pretrained)
    warn_of_sources(setting.tasks, card.prompts)
    if isinstance(prompt, MultitaskPrompt):
        return for_tasks(prompt, setting.tasks, setting.pretrained, together=bool(setting.config.also))
    if len(prompt.compose()) > 1:
        raise UserError(f"{setting.config.prompt}: it holds {len(card.prompts)} prompts; name one of a bank")
    return SoftPrompt(jnp.repeat(prompt.compose(), len(setting.seeds), axis=0))


def _no_shared_part(option: str) -> UserError:
    return UserError(f"{option}: only a universal prompt has a shared part; name one with --prompt")


def _teachers(setting: Setting) -> tuple[Float[Array, "K P D"], list[str]]:
    """The source tasks' own prompts, and whose they are."""
    method, folder = setting.config.method, setting.config.prompt
    if not folder or not run_path(folder).is_dir():
        raise UserError(f"method {method} needs source prompts; give --prompt with a run of `mpt pretrain`")
    teachers, card = load_prompt(run_path(folder), "teachers", setting.pretrained)
    assert isinstance(teachers, SoftPrompt)
    warn_of_sources(setting.tasks, card.prompts)
    return teachers.compose(), card.prompts


def warn_of_sources(tasks: Sequence[Task], sources: Sequence[str]) -> None:
    """Says which of the tasks are not new to the prompt."""
    for name in {task.name: True for task in tasks if task.name in sources}:
        warn(f"'{name}' is one of the source tasks: its figures do not show how prompts transfer")
