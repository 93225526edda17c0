"""The one step and the one loop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.nnx.filterlib import Filter
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Sharding
from jaxtyping import Array, ArrayLike, Bool, Float

from mpt.config.options import TrainConfig
from mpt.prompts.prompted import Prompted
from mpt.prompts.soft import PromptParam
from mpt.rundir.checkpoint import Resumed
from mpt.rundir.directory import RunDir
from mpt.sharding import dealt, each_shard, everywhere, homes_of, kept_at, over_shards, placed
from mpt.system.paths import run_title
from mpt.system.processes import several
from mpt.system.progress import Progress
from mpt.system.signals import Stopped, deferred
from mpt.training.losses import Term
from mpt.training.nonfinite import BadSteps, choose, is_good
from mpt.training.optim import Adam, LearningRates
from mpt.types import Batch

Objective = Callable[[Any, Batch], dict[str, Term]]
Probe = Callable[[Prompted], dict[str, float]]


@dataclass(frozen=True)
class StepSpec:
    """All that a compiled step depends on beside the shapes of its arrays: equal ones share a program.

    Attributes:
        graph: the model without its arrays.
        objective: gives the loss terms of a batch.
        optimizer: gives the optimizer of learning rates.
        prompts: number of prompts whose task loss is reported separately.
        homes: where the arrays of the state live, in the order of its leaves; None leaves it to the compiler.
    """

    graph: nnx.GraphDef
    objective: Objective
    optimizer: Callable[[LearningRates], optax.GradientTransformation]
    prompts: int = 0
    homes: tuple[Sharding, ...] | None = None


class Stepped(NamedTuple):
    """What a step gives.

    Attributes:
        trainable: the new parameters; ``opt_state`` is the optimizer's new state.
        losses: the mean of each loss term before the step, and "loss", their weighted sum.
        by_prompt: the task loss of each prompt's own rows.
        good: whether loss and gradient were finite.
    """

    trainable: nnx.State
    opt_state: optax.OptState
    losses: dict[str, Float[Array, ""]]
    by_prompt: Term
    good: Bool[Array, ""]


@partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def train_step(
    spec: StepSpec,
    trainable: nnx.State,
    opt_state: optax.OptState,
    frozen: nnx.State,
    batch: Batch,
    weights: Mapping[str, ArrayLike],
    rates: LearningRates,
) -> Stepped:
    """One step of training, compiled once for all runs of one ``spec`` and one shape.

    A step whose loss or gradient is not finite changes nothing. Gradients are taken with respect to
    ``trainable`` alone; the frozen part is read, never written.
    The batch is a stack of parts, whose gradients are added up. On a mesh each part is a stack of shards:
    every device adds up the gradients of its own, and only their sums cross the network, once a step.

    Args:
        weights: loss term -> its coefficient.
    """

    def terms(trainable: nnx.State, part: Batch) -> tuple[dict[str, Term], Term]:
        found = spec.objective(nnx.merge(spec.graph, trainable, frozen), part)
        each = found["task"].of_prompts(part.prompt_index, spec.prompts)
        return {name: term.pooled for name, term in found.items()}, each

    def weight(trainable: nnx.State, part: Batch):
        found, each = terms(trainable, part)
        return {name: term.weight for name, term in found.items()}, each.weight

    # Only the batch decides on the weights: the compiler leaves the model out of this loop.
    parts = jax.lax.map(partial(each_shard(weight), trainable), batch)
    whole, rows = over_shards(jax.tree.map(lambda each: jnp.sum(each, axis=0), parts))

    def loss(trainable: nnx.State, part: Batch):
        found, each = terms(trainable, part)
        shares = {name: term.sum / whole[name] for name, term in found.items()}
        total = sum(weights[name] * share for name, share in shares.items())
        return total, ({"loss": total, **shares}, each.sum)

    slope = each_shard(jax.grad(loss, has_aux=True))

    def add(sums, part: Batch):
        return jax.tree.map(jnp.add, sums, slope(trainable, part)), None

    one = jax.tree.map(lambda array: array[0], batch)
    nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(slope, trainable, one))
    gradient, (losses, sums) = over_shards(jax.lax.scan(add, nothing, batch)[0])
    good = is_good(losses["loss"], gradient)
    updates, moments = spec.optimizer(rates).update(gradient, opt_state, trainable)
    moved: Any = optax.apply_updates(trainable, updates)
    trainable, opt_state = kept_at(choose(good, (moved, moments), (trainable, opt_state)), spec.homes)
    return Stepped(trainable, opt_state, losses, jax.tree.map(everywhere, Term(sums, rows)), good)


def optimizer_of(config: TrainConfig, weight_rate: float | None = None) -> tuple[Adam, LearningRates]:
    """Adam as a stage's config has it; ``weight_rate`` is the peak rate of weights, if any are trained."""
    peak = {"vectors": config.learning_rate, "factors": config.factor_rate, "words": config.word_rate}
    peak |= {} if weight_rate is None else {"weights": weight_rate}
    rates = LearningRates.of(peak, steps=config.steps, warmup=config.warmup)
    return Adam(config.decay, config.weight_decay, config.clip), rates


def by_task(tasks: Sequence[str], each: Term) -> dict[str, float]:
    """The task loss of each task that has rows in a step, where there are several tasks.

    >>> term = Term(np.array([2.0, 3.0, 0.0]), np.array([1.0, 2.0, 0.0]))
    >>> by_task(["tone", "colour", "mood"], term)
    {'task tone': 2.0, 'task colour': 1.5}
    """
    totals: dict[str, np.ndarray] = {}
    for task, one in zip(tasks, np.stack(each, axis=1)):
        totals[task] = totals.get(task, np.zeros(2)) + one
    if len(totals) < 2:
        return {}
    return {f"task {task}": float(total / weight) for task, (total, weight) in totals.items() if weight}


class Trained(NamedTuple):
    """The outcome of a training stage: the model, and the seconds spent in its steps."""

    model: Any
    seconds: float


def fit(
    model: Prompted,
    batches: grain.MapDataset[Batch],
    config: TrainConfig,
    objective: Objective,
    *,
    weights: Mapping[str, float],
    run: RunDir,
    stage: str,
    tasks: Sequence[str] = (),
    trainable: Filter = PromptParam,
    weight_rate: float | None = None,
    prepare: Callable[[Batch], Batch] | None = None,
    probe: Probe | None = None,
    probe_every: int = 1,
    best: bool = False,
) -> Trained:
    """Trains a part of the model through all ``batches``, from the newest checkpoint if there is one.

    Args:
        objective: gives the loss terms of a batch, ``weights`` their coefficients.
        stage: the folder of the run where metrics and checkpoints go.
        tasks: each prompt's, to be named where a step goes wrong.
        trainable: what is trained, an NNX filter; the prompt where left out. Its arrays are used up.
        weight_rate: Adam's peak rate for what the config has no rate for: weights.
        prepare: completes each batch before its step.
        probe: measures the model before the first step, every ``probe_every`` steps and after the
            last; its time does not count as training.
        best: gives the model as it was at the best look, not after the last step.

    Raises:
        UserError: a checkpoint cannot be written, or too many steps in a row are not finite.
        Stopped: as SIGTERM asks; ``KeyboardInterrupt``, as Ctrl-C does. The last step is saved.
    """
    checkpoints, metrics = run.checkpoints(stage), run.metrics(stage)
    optimizer, rates = optimizer_of(config, weight_rate)
    graph, params, frozen = nnx.split(model, trainable, ...)
    params = jax.tree.map(jnp.copy, params)  # a step uses its arrays up, and the model's are to stay
    params, opt_state, frozen = placed((params, optimizer(rates).init(params), frozen))
    reader = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
    start, seconds = 0, 0.0
    if resumed := checkpoints.restore((params, opt_state)):
        start, (params, opt_state), position, seconds = resumed
        reader.set_state(position)
    metrics.rewind(start)

    spec = StepSpec(graph, objective, optimizer, len(tasks), homes_of((params, opt_state)))
    coefficients = {name: np.float32(weight) for name, weight in weights.items()}
    bad = BadSteps(tasks, config.bad_steps, sum("bad_steps" in line for line in metrics.read()))
    if probe and start == 0:
        metrics.write(0, probe(model))
    title = f"{run_title(run.path)}: {stage}"
    bar = Progress(title, config.steps, start)
    with closing(checkpoints), metrics, bar as progress, deferred() as asked:
        for step in range(start + 1, config.steps + 1):
            began = time.perf_counter()
            batch = next(reader)
            if prepare:
                batch = prepare(batch)
            done = train_step(spec, params, opt_state, frozen, dealt(batch), coefficients, rates)
            params, opt_state = done.trainable, done.opt_state
            each = jax.device_get(done.by_prompt)
            figures = {name: float(value) for name, value in done.losses.items()} | by_task(tasks, each)
            took = time.perf_counter() - began
            seconds, speed, last = seconds + took, config.batch_size / took, step == config.steps
            left_out = bad.count(step, None if done.good else each.sum)
            metrics.write(step, {**figures, **left_out, "rows_per_second": speed})
            progress.step(f"loss {figures['loss']:.3f}, {speed:.1f} rows/s")
            if bad.too_many:
                # The update before the first of them may be what spoilt the state.
                raise bad.error(f"{run.path}/{stage}", step, checkpoints.forget_after(step - bad.row - 1))
            look = {}
            if probe and (step % probe_every == 0 or last):
                look = probe(nnx.merge(graph, params, frozen))
                metrics.write(step, look)
            stop = _agreed(asked())
            due = step % config.save_every == 0 or last or stop or (best and look)
            if due and not bad.row:
                score = float(np.mean(list(look.values()))) if best and look else None
                metrics.flush()
                checkpoints.save(Resumed(step, (params, opt_state), reader.get_state(), seconds), score)
            if stop == signal.SIGINT:
                raise KeyboardInterrupt
            if stop:
                raise Stopped(
                    f"{title}: stopped at step {step} of {config.steps} as asked (SIGTERM); "
                    "the same command goes on from there"
                )
        if best and (resumed := checkpoints.restore((params, opt_state), best=True)):
            params, _ = resumed.arrays
    return Trained(nnx.merge(graph, params, frozen), seconds)


def _agreed(asked: int) -> int:
    """What any process has been asked for: all of them stop, and save, at the same step."""
    return int(np.max(process_allgather(np.int32(asked)))) if several() else asked
