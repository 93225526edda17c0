"""The training loop: everything that happens around a step, in this order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from mpt.config.options import TrainConfig
from mpt.data.mixture import in_steps, training_batches
from mpt.errors import warn
from mpt.prompts.prompted import Prompted
from mpt.rundir.directory import RunDir
from mpt.sharding import global_batch, local_shards, replicated_over_mesh, shardings_of
from mpt.system.processes import is_primary
from mpt.training.interpolation import between
from mpt.training.optim import Adam, LearningRates, are_still
from mpt.training.outcome import warn_of_few_rows
from mpt.training.session import SCORE, Session
from mpt.training.spending import keep_spending
from mpt.training.stage import Lengths, Stage
from mpt.training.step import StepSpec, TrainState, train_step


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


class Evaluation(NamedTuple):
    """The evaluations of a model while it is trained. Their time does not count as training.

    Attributes:
        figures: evaluates the model, and returns figures by name. They are ranked by the figure ``SCORE``, or
            by their mean if there is none of that name.
        every: number of steps between evaluations; there is one before the first step, and one after the
            last.
        best: whether the model at the best evaluation is the result, not the one after the last step.
        patience: when evaluations end the stage; None: they never do.
    """

    figures: Callable[[Prompted], dict[str, float]]
    every: int = 1
    best: bool = False
    patience: Patience | None = None

    def of(self, model: Prompted) -> dict[str, float]:
        """The figures of a model, with their score."""
        figures = self.figures(model)
        return {SCORE: float(np.mean(list(figures.values())))} | figures


def train_stage(stage: Stage, run: RunDir, evaluation: Evaluation | None = None) -> Trained:
    """Trains a stage, or resumes it from its newest checkpoint. The stage's model is not changed.

    Args:
        run: the run directory, whose folder of the stage receives its cost, metrics and checkpoints.
        evaluation: evaluates the model between steps; None: there are no evaluations.

    Raises:
        UserError: a checkpoint cannot be written, or too many steps in a row, or all, are not finite.
        Stopped: after SIGTERM, or ``KeyboardInterrupt`` after Ctrl-C, once the current step is saved.
    """
    rows = [each for each in stage.rows if not isinstance(each, Lengths)]
    config = in_steps(stage.train, list(map(len, rows)))
    optimizer, learning_rates = optimizer_of(config, stage.weight_rate, stage.rate_scale)
    graph, params, frozen = nnx.split(stage.model, stage.trainable, ...)
    if config.steps and is_primary():
        warn_of_few_rows(stage.tasks, sum(map(len, rows)), config.batch_size)
        if are_still(params, learning_rates):
            warn(f"{run.name}/{stage.name}: all learning rates are 0, so nothing is learned")
    keep_spending(run.path / stage.name, stage.spending())

    frozen = replicated_over_mesh(frozen)
    coefficients = {name: np.float32(weight) for name, weight in stage.weights.items()}
    completed = stage.prepared(rows)
    with Session(
        run,
        stage.name,
        TrainState.initial(params, optimizer(learning_rates)),
        training_batches(rows, config, stage.seed, stage.model.backbone.layout, local_shards()),
        stage.tasks,
        steps=config.steps,
        batch_size=config.batch_size,
        max_nonfinite=config.bad_steps,
    ) as session:
        spec = StepSpec(graph, stage.objective, optimizer, len(stage.tasks), shardings_of(session.state))
        if evaluation and session.step == 0:
            session.write(evaluation.of(stage.model))
        for batch in session.batches():
            if evaluation and evaluation.patience and evaluation.patience.is_over(session.scores()):
                break
            batch = global_batch(completed(batch))
            session.record(train_step(spec, *session.state, frozen, batch, coefficients, learning_rates))
            score = None
            if evaluation and session.is_due(evaluation.every):
                figures = evaluation.of(nnx.merge(graph, session.state.trainable, frozen))
                session.write(figures)
                score = figures[SCORE] if evaluation.best else None
            stop = session.stop_signal()
            if stop or score is not None or session.is_due(config.save_every):
                session.save(score)
            if stop:
                raise session.stopped(stop)
        session.conclude()
        best = evaluation is not None and evaluation.best
        if best and session.start_was_best():
            model = stage.model
        else:
            state = session.best_state() if best else session.state
            model = nnx.merge(graph, state.trainable, frozen)
    model = between(stage.model, model, stage.interpolation, stage.trainable)
    return Trained(model, session.seconds)


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
    return Adam(config.decay, config.weight_decay, config.clip_norm), learning_rates
