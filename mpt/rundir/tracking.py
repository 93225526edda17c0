"""Sends a run's config, metrics and final figures to Weights & Biases or MLflow.

Each run directory has one run in the tracker, whose id is kept in tracking.json, so that a resumed run is
resumed there as well. The tracker's own environment variables say where the data goes and under what name;
without them, both trackers keep everything on this machine.
"""

from __future__ import annotations

import json
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from mpt.config.options import TrackerName
from mpt.errors import UserError, first_line, install, warn
from mpt.system.paths import AnyPath, is_remote, replace_atomic, run_title

FILE = "tracking.json"
PROJECT = "mpt"
FLUSH_EVERY = 30.0  # seconds between messages to MLflow, each of which blocks training
PARAMETERS, LONGEST = 100, 500  # MLflow's limits: parameters in a message, characters in a parameter


class Tracker(ABC):
    """A run in an experiment tracker; ``id`` identifies it there."""

    id: str

    @abstractmethod
    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Records a stage's figures at a step; a step that is repeated after an interruption counts once."""

    @abstractmethod
    def conclude(self, figures: Mapping[str, float]) -> None:
        """Records a run's final figures."""

    @abstractmethod
    def close(self, finished: bool) -> None:
        """Sends what is left and ends the run; ``finished`` is False if it was stopped early."""


class Wandb(Tracker):
    """A run of Weights & Biases; without an API key it is offline, and kept in a local run directory."""

    def __init__(self, run: AnyPath, config: Mapping[str, Any], known: str):
        import wandb

        online = wandb.api.api_key is not None
        self._folder, self._offsets = run, {}
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=known or None,
            name=run_title(run),
            dir=None if is_remote(run) else str(run),
            config=dict(config),
            mode=None if online or "WANDB_MODE" in os.environ else "offline",
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.id = self._run.id

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        if stage not in self._offsets:
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._offsets[stage] = _lines_before(self._folder, stage)
        named = {f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in figures.items()}}
        # W&B's own step, which must grow over all stages; it drops steps that it has seen already.
        self._run.log(named, step=self._offsets[stage] + step)

    def conclude(self, figures: Mapping[str, float]) -> None:
        self._run.summary.update(dict(figures))

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def _lines_before(run: AnyPath, stage: str) -> int:
    """Number of lines of metrics of the run's other stages, which have finished before."""
    files = [file for file in run.glob("*/metrics.jsonl") if file.parent.name != stage]
    return sum(len(file.read_text().splitlines()) + 1 for file in files)


class Mlflow(Tracker):
    """A run of MLflow."""

    def __init__(self, run: AnyPath, config: Mapping[str, Any], known: str):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric, self._waiting, self._sent = MlflowClient(), Metric, [], 0.0
        if known:
            self.id = known
            self._client.update_run(known, "RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        existing = self._client.get_experiment_by_name(name)
        experiment = existing.experiment_id if existing else self._client.create_experiment(name)
        self.id = self._client.create_run(experiment, run_name=run_title(run)).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in flattened(config).items()]
        for start in range(0, len(params), PARAMETERS):
            self._client.log_batch(self.id, params=params[start : start + PARAMETERS])

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        self._wait(step, {f"{stage}/{name}": value for name, value in figures.items()})
        if time.monotonic() > self._sent + FLUSH_EVERY:
            self._send()

    def conclude(self, figures: Mapping[str, float]) -> None:
        self._wait(0, figures)

    def close(self, finished: bool) -> None:
        self._send()
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")

    def _wait(self, step: int, figures: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self._waiting += [
            self._metric(re.sub(r"[^\w\-. :/]", "_", name), value, now, step)
            for name, value in figures.items()
        ]

    def _send(self) -> None:
        limit = 1000  # metrics in a message
        for start in range(0, len(self._waiting), limit):
            self._client.log_batch(self.id, metrics=self._waiting[start : start + limit])
        self._waiting, self._sent = [], time.monotonic()


TRACKERS: dict[TrackerName, Callable[[AnyPath, Mapping[str, Any], str], Tracker]] = {
    "wandb": Wandb,
    "mlflow": Mlflow,
}


class Trackers:
    """The trackers of a run, which start with its first figures.

    A tracker that fails is dropped with a warning, and training continues.

    Args:
        names: the trackers to use.
        run: the run directory.
        config: the run's config as plain values.
    """

    def __init__(self, names: Sequence[TrackerName], run: AnyPath, config: Mapping[str, Any]):
        self._waiting, self._run, self._config = list(names), run, config
        self._open: dict[TrackerName, Tracker] = {}

    def log(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Records a stage's figures at a step in all trackers."""
        self._begin()
        self._each(lambda tracker: tracker.log(stage, step, figures))

    def conclude(self, figures: Mapping[str, float]) -> None:
        """Records the final figures, and marks the run as finished."""
        self._begin()
        self._each(lambda tracker: tracker.conclude(figures))
        self._end(finished=True)

    def stop(self) -> None:
        """Marks the run as stopped early; it is resumed with the next figures."""
        self._end(finished=False)

    def _begin(self) -> None:
        while self._waiting:
            name = self._waiting.pop(0)
            self._try(name, lambda name=name: self._start(name))

    def _start(self, name: TrackerName) -> None:
        file = self._run / FILE
        known = json.loads(file.read_text()) if file.exists() else {}
        self._open[name] = TRACKERS[name](self._run, self._config, known.get(name, ""))
        replace_atomic(file, json.dumps(known | {name: self._open[name].id}, indent=2) + "\n")

    def _each(self, use: Callable[[Tracker], None]) -> None:
        for name, tracker in [*self._open.items()]:
            self._try(name, lambda tracker=tracker: use(tracker))

    def _try(self, name: TrackerName, use: Callable[[], None]) -> None:
        try:
            use()
        except Exception as error:  # of many types, from the tracker's code or its server
            self._open.pop(name, None)
            warn(f"track: {name} has failed, and the run continues without it: {first_line(error)}")

    def _end(self, finished: bool) -> None:
        self._each(lambda tracker: tracker.close(finished))
        self._open.clear()


def check_installed(names: Sequence[TrackerName]) -> None:
    """Checks that the trackers can be imported.

    Raises:
        UserError: one is not installed; the error says how to install it.
    """
    for name in names:
        if find_spec(name) is None:
            raise UserError(f"track: {name} is not installed: {install(name)}")


def flattened(config: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """A nested config as a flat mapping with dotted names.

    >>> flattened({"out": "x", "train": {"steps": 3}})
    {'out': 'x', 'train.steps': 3}
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        inner = flattened(value, f"{key}{name}.") if isinstance(value, Mapping) else {f"{key}{name}": value}
        flat |= inner
    return flat
