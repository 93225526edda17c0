"""The training loop: everything that happens around a step, in this order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import grain
import numpy as np
from flax import nnx
from flax.nnx.filterlib import Filter

from mpt.config.options import TrainConfig
from mpt.errors import warn
from mpt.prompts.prompted import Prompted
from mpt.prompts.soft import PromptParam
from mpt.rundir.directory import RunDir
from mpt.sharding import global_batch, replicated_over_mesh, shardings_of
from mpt.system.processes import is_primary
from mpt.training.losses import Objective
from mpt.training.optim import Adam, LearningRates, are_still
from mpt.training.session import SCORE, Session
from mpt.training.step import StepSpec, TrainState, train_step
from mpt.types import Batch

Validation = Callable[[Prompted], dict[str, float]]


class Trained(NamedTuple):
    """The outcome of a training stage: the model, and the seconds spent in its steps."""

    model: Any
    seconds: float


class Patience(NamedTuple):
    """Decides when training no longer improves.

    Attributes:
        passes: this many evaluations in a row are not better.
        gain: how much higher the score of a better evaluation is.
    """

    passes: int
    gain: float = 0.0

    def is_over(self, scores: Sequence[float]) -> bool:
        """Whether the last passes were not better than the best one before them.

        >>> Patience(2).is_over([0.5, 0.7, 0.6, 0.7]), Patience(2).is_over([0.5, 0.7, 0.6, 0.8])
        (True, False)
        """
        best, waited = -np.inf, 0
        for score in scores:
            waited = 0 if score > best + self.gain else waited + 1
            best = score if waited == 0 else best
        return waited >= self.passes


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
    validate: Validation | None = None,
    validate_every: int = 1,
    best: bool = False,
    patience: Patience | None = None,
    rate_scale: Sequence[float] = (),
) -> Trained:
    """Trains some parameters of a model on all ``batches``, from the newest checkpoint if there is one.

    Args:
        objective: the loss terms of a batch; ``weights`` are their coefficients, by name.
        stage: the folder of the run where metrics and checkpoints go.
        tasks: task name of each prompt, for metrics and error messages.
        trainable: an NNX filter for the trained parameters; by default the prompt. ``model`` is not changed.
        weight_rate: Adam's peak learning rate for weights, if any are trained.
        prepare: completes each batch before its step.
        validate: evaluates the model and returns figures by name. It is called before the first step, every
            ``validate_every`` steps and after the last one; its time does not count as training.
        best: returns the model at the evaluation with the highest mean figure, not after the last step.
        patience: when evaluations end the stage; None: they never do.
        rate_scale: the factor on each prompt's learning rates; by default, all have the same.

    Raises:
        UserError: a checkpoint cannot be written, or too many steps in a row, or all, are not finite.
        Stopped: after SIGTERM, or ``KeyboardInterrupt`` after Ctrl-C, once the current step is saved.
    """
    optimizer, learning_rates = optimizer_of(config, weight_rate, rate_scale)
    graph, params, frozen = nnx.split(model, trainable, ...)
    if config.steps and is_primary() and are_still(params, learning_rates):
        warn(f"{run.name}/{stage}: all learning rates are 0, so nothing is learned")
    frozen = replicated_over_mesh(frozen)
    coefficients = {name: np.float32(weight) for name, weight in weights.items()}
    with Session(
        run,
        stage,
        TrainState.initial(params, optimizer(learning_rates)),
        batches,
        tasks,
        steps=config.steps,
        batch_size=config.batch_size,
        max_nonfinite=config.bad_steps,
    ) as session:
        spec = StepSpec(graph, objective, optimizer, len(tasks), shardings_of(session.state))
        if validate and session.step == 0:
            session.write(_with_score(validate(model)))
        for batch in session.batches():
            if patience and patience.is_over(session.scores()):
                break
            batch = global_batch(prepare(batch) if prepare else batch)
            session.record(train_step(spec, *session.state, frozen, batch, coefficients, learning_rates))
            score = None
            if validate and session.is_due(validate_every):
                figures = _with_score(validate(nnx.merge(graph, session.state.trainable, frozen)))
                session.write(figures)
                score = figures[SCORE] if best else None
            stop = session.stop_signal()
            if stop or score is not None or session.is_due(config.save_every):
                session.save(score)
            if stop:
                raise session.stopped(stop)
        session.conclude()
        if best and session.start_was_best():
            return Trained(model, session.seconds)
        params, _ = session.best_state() if best else session.state
    return Trained(nnx.merge(graph, params, frozen), session.seconds)


def _with_score(figures: dict[str, float]) -> dict[str, float]:
    """The figures of an evaluation, and the score that it is ranked by: their mean, if they have none."""
    return {SCORE: float(np.mean(list(figures.values())))} | figures


def optimizer_of(
    config: TrainConfig, weight_rate: float | None = None, rate_scale: Sequence[float] = ()
) -> tuple[Adam, LearningRates]:
    """Adam and the learning rates of a stage.

    Args:
        weight_rate: the peak learning rate of weights, if any are trained.
        rate_scale: the factor on each prompt's learning rates.
    """
    peak = {"vectors": config.learning_rate, "factors": config.factor_rate, "words": config.word_rate}
    peak |= {} if weight_rate is None else {"weights": weight_rate}
    learning_rates = LearningRates.of(peak, steps=config.steps, warmup=config.warmup, scale=rate_scale)
    return Adam(config.decay, config.weight_decay, config.clip), learning_rates
