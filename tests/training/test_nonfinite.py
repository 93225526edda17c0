"""A step that is not finite is left out, and too many end the run."""

import jax.numpy as jnp
import numpy as np
import pytest
from test_loop import ROWS, J, arrays, soft

from mpt.config.options import TrainConfig
from mpt.config.pretrain import PretrainConfig
from mpt.data.mixture import training_batches
from mpt.errors import UserError
from mpt.rundir.directory import RunDir
from mpt.training.loop import train_stage
from mpt.training.losses import Objective, Term, cross_entropy, task_loss
from mpt.training.nonfinite import NonFiniteSteps, is_finite
from mpt.training.stage import Stage

TASKS = [f"task {j}" for j in range(J)]


def poisoned(*numbers: int):
    """The task loss, where the logits of some rows are no numbers."""

    def objective(model, batch):
        bad = jnp.isin(batch.numbers, jnp.array(numbers))[:, None, None]
        logits = jnp.where(bad, jnp.nan, 1.0) * model(batch).logits
        return {"task": cross_entropy(logits, batch.targets, batch.labelled)}

    return Objective(objective, task_loss.weights)


def train(pretrained, path, config: TrainConfig, objective):
    run = RunDir.open(path, PretrainConfig())
    return run, train_stage(Stage("x", soft(pretrained), ROWS, config, objective, tasks=TASKS), run)


def lines(run) -> dict[int, dict]:
    return {line["step"]: line for line in run.metrics("x").read()}


def step_of(number: int, config: TrainConfig) -> int:
    """The first step that reads a row."""
    batches = training_batches(ROWS, config, 0)
    return next(step for step in range(1, len(batches) + 1) if number in batches[step - 1].numbers)


def test_bad_step_is_left_out_counted_and_named(pretrained, tmp_path, capsys):
    config = TrainConfig(steps=12, batch_size=8, save_every=1)
    number = int(training_batches(ROWS, config, 0)[5].numbers.max())  # a row of the second task
    run, trained = train(pretrained, tmp_path / "run", config, poisoned(number))
    bad = step_of(number, config)
    assert bad == 6
    warning = f"mpt: warning: step {bad} is left out: loss or gradient is not finite (task 1); 1 in all\n"
    assert warning in capsys.readouterr().err
    assert {step for step, line in lines(run).items() if "bad_steps" in line} == {bad}
    assert lines(run)[bad]["bad_steps"] == 1
    assert "loss" not in lines(run)[bad]
    assert all(np.isfinite(value).all() for _, value in arrays(trained.model).values())
    assert lines(run)[12]["loss"] < lines(run)[1]["loss"]


def test_run_that_diverges_ends_with_the_last_good_state(pretrained, tmp_path):
    """At this rate, the first update spoils the state, and the second step shows it."""
    config = TrainConfig(steps=20, batch_size=8, save_every=1, learning_rate=1e30, bad_steps=3, warmup=0.0)

    def overflowing(model, batch):
        far = jnp.abs(model.prompt.compose()).max() > 1e3
        total, weight = task_loss(model, batch)["task"]
        return {"task": Term(jnp.where(far, jnp.nan, 1.0) * total, weight)}

    with pytest.raises(UserError, match="not finite in 3 steps in a row, up to step"):
        train(pretrained, tmp_path / "run", config, Objective(overflowing, task_loss.weights))
    run = RunDir(tmp_path / "run")
    bad = [step for step, line in lines(run).items() if "bad_steps" in line]
    kept = [int(path.name) for path in (run.path / "x" / "checkpoints").iterdir() if path.name.isdecimal()]
    assert bad == list(range(bad[0], bad[0] + 3))
    assert all(step <= bad[0] - 2 for step in kept)


def test_rows_that_are_all_bad_end_the_run_at_what_was_learnt(pretrained, tmp_path):
    config = TrainConfig(steps=25, batch_size=8, save_every=2, bad_steps=4)
    batches = training_batches(ROWS, config, 0)
    late = {int(batches[i].numbers.max()) for i in range(10, 14)}
    with pytest.raises(UserError, match=r"up to step 14 \(task 1\); the last good state is that of step 8\."):
        train(pretrained, tmp_path / "run", config, poisoned(*late))


def test_overflowing_squares_are_bad():
    assert is_finite(jnp.float32(1.0), {"u": jnp.ones((3, 2))})
    assert not is_finite(jnp.float32(1.0), {"u": jnp.ones((3, 2)).at[1, 0].set(1e30)})
    assert not is_finite(jnp.float32(jnp.inf), {"u": jnp.ones((3, 2))})


def test_steps_are_counted_in_a_row_and_in_all():
    steps = NonFiniteSteps(["a", "b", "c"], 2, 4)
    assert steps.count(7, np.array([1.0, np.nan, np.inf])) == {"bad_steps": 5}
    assert (steps.affected, steps.too_many) == ("b, c", False)
    assert steps.count(8, None) == {}
    assert steps.count(9, np.ones(3)) == {"bad_steps": 6}
    assert (steps.affected, steps.too_many) == ("a, b, c", False)
    steps.count(10, np.ones(3))
    assert steps.too_many
