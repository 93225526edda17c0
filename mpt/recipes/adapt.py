"""A new task from few examples: every seed draws its own, all train side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from mpt.config import AdaptConfig
from mpt.data.batches import Row, encode
from mpt.data.library import find_task
from mpt.data.mixture import few_shot, training_batches
from mpt.data.task import Task
from mpt.evaluate import score
from mpt.losses import task_loss
from mpt.models.hf import Pretrained, load_pretrained
from mpt.models.prompted import Prompted
from mpt.prompts import MultitaskPrompt, Prompt, SoftPrompt
from mpt.prompts.saved import Card, load_prompt, save_prompt
from mpt.prompts.soft import PromptParam
from mpt.recipes.start import starting_vectors
from mpt.rundir import RunDir, write_whole
from mpt.train import fit


@dataclasses.dataclass(frozen=True)
class Result:
    """What an adaptation gave.

    Attributes:
        task: the target task; ``metric`` is its metric's name.
        scores: the metric on the test rows, one per seed.
        rows: test rows.
        parameters: trained numbers per prompt.
        steps: training steps.
        seconds: spent in them, for all seeds together.
        curve: (step, mean metric over seeds on the validation rows).
    """

    task: str
    metric: str
    scores: list[float]
    rows: int
    parameters: int
    steps: int
    seconds: float
    curve: list[tuple[int, float]]


def adapt(config: AdaptConfig, pretrained: Pretrained | None = None) -> Result:
    """Trains one prompt per seed for the target task and scores them on test rows.

    A run that was interrupted goes on where it was; a finished one is read back.
    """
    task = find_task(config.task)
    run = RunDir.open(config.out, config)
    done = run.path / "result.json"
    if done.exists():
        return Result(**json.loads(done.read_text()))
    pretrained = pretrained or load_pretrained(**dataclasses.asdict(config.model))
    train, validation, test = _rows(config, task, pretrained)
    model = Prompted(pretrained.backbone, _start(config, task, pretrained))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, PromptParam)))

    def scores(model: Prompted, rows: Sequence[Row]) -> list[float]:
        return [score(model, task, rows, pretrained.tokenizer, j) for j in range(len(config.seeds))]

    def probe(model: Prompted) -> dict[str, float]:
        return {"validation": float(np.mean(scores(model, validation)))}

    seconds = 0.0
    if config.train.steps:
        model, seconds = fit(
            model,
            training_batches(train, config.train, 0, pretrained.backbone.layout),
            config.train,
            task_loss,
            weights={"task": 1.0},
            run=run,
            stage="adapt",
            probe=probe if config.probe_every else None,
            probe_every=config.probe_every,
        )
    result = Result(
        task=task.name,
        metric=task.metric,
        scores=scores(model, test),
        rows=len(test),
        parameters=parameters // len(config.seeds),
        steps=config.train.steps,
        seconds=seconds,
        curve=[
            (int(line["step"]), line["validation"])
            for line in run.metrics("adapt").read()
            if "validation" in line
        ],
    )
    # What was factors is one plain prompt per seed from here on.
    collapsed = SoftPrompt(model.prompt.compose())
    card = Card.describe(
        collapsed,
        pretrained,
        prompts=[task.name] * len(config.seeds),
        tasks=[task],
        rows={task.name: len(train[0])},
        method=f"Prompt for {task.name}, started from {config.prompt or config.vectors.start}",
        seeds=list(config.seeds),
        max_length=config.max_length,
        metrics={f"test {task.metric}": float(np.mean(result.scores))},
    )
    save_prompt(run.path, "adapted", collapsed, card)
    write_whole(done, json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    return result


def _rows(
    config: AdaptConfig, task: Task, pretrained: Pretrained
) -> tuple[list[list[Row]], list[Row], list[Row]]:
    """Training rows of each seed, and the validation and test rows that all share."""

    layout = pretrained.backbone.layout

    def encoded(split: str) -> list[Row]:
        return encode(task.examples(split), pretrained.tokenizer, config.max_length, layout)

    def some(rows: list[Row], count: int) -> list[Row]:
        order = np.random.default_rng(0).permutation(len(rows))
        return [rows[i] for i in order[: count or len(rows)]]

    whole = encoded("train")
    labels = [row.label for row in whole]
    train = [
        [whole[i] for i in few_shot(labels, config.shots, seed)] if config.shots else whole
        for seed in config.seeds
    ]
    validation = some(encoded("validation"), config.probe_rows) if config.probe_every else []
    return train, validation, some(encoded("test"), config.test_rows)


def _start(config: AdaptConfig, task: Task, pretrained: Pretrained) -> Prompt:
    """The prompt of every seed, before training."""
    if config.prompt:
        universal, _ = load_prompt(Path(config.prompt), "universal", pretrained)
        assert isinstance(universal, MultitaskPrompt)
        return universal.for_targets(len(config.seeds))
    tasks = [task] * len(config.seeds)
    return SoftPrompt(starting_vectors(config.vectors, tasks, config.seeds, pretrained))
