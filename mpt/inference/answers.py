"""Saves the predictions for scored examples in the run, and reads them again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mpt.data.task import Example, Task
from mpt.inference.evaluate import Answers
from mpt.metrics.answers import same_content
from mpt.rundir.directory import write_atomic
from mpt.system.paths import AnyPath

KEPT = 500  # examples per prompt: about a hundred kilobytes, and enough to see what goes wrong


@dataclass(frozen=True)
class Answered:
    """The prediction for one scored example.

    Attributes:
        task: the name of the task.
        seed: the seed of the training examples.
        input: the input text.
        targets: all texts that count as correct; the first is the target.
        prediction: the model's answer.
        probabilities: the probability of each class word; empty for free text.
    """

    task: str
    seed: int
    input: str
    targets: list[str]
    prediction: str
    probabilities: dict[str, float]

    @property
    def is_correct(self) -> bool:
        """Whether the prediction is correct; free text may differ in case, articles and punctuation."""
        if self.probabilities:
            return self.prediction == self.targets[0]
        return any(same_content(text, self.prediction) for text in self.targets)

    @property
    def confidence(self) -> float:
        """The probability of the predicted class word; 0 for free text."""
        return self.probabilities.get(self.prediction, 0.0)


def keep_answers(run: AnyPath, task: Task, seed: int, examples: Sequence[Example], answers: Answers) -> None:
    """Writes the predictions for the first examples to predictions/TASK-seedN.jsonl in the run."""
    lines = [
        Answered(
            task.name,
            seed,
            example.inputs,
            list(example.references or (example.target,)),
            answers.texts[row],
            {}
            if answers.probabilities is None
            else {word: round(float(p), 4) for word, p in zip(example.choices, answers.probabilities[row])},
        )
        for row, example in enumerate(examples[:KEPT])
    ]
    name = re.sub(r"[^\w.-]+", "_", task.name)
    content = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines)
    write_atomic(run / "predictions" / f"{name}-seed{seed}.jsonl", content)


def kept_answers(run: AnyPath) -> dict[str, dict[int, list[Answered]]]:
    """Reads the saved predictions of a run, by task and seed."""
    by_task: dict[str, dict[int, list[Answered]]] = {}
    for file in sorted((run / "predictions").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = Answered(**json.loads(line))
            by_task.setdefault(row.task, {}).setdefault(row.seed, []).append(row)
    return by_task
