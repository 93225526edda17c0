"""What prompts answered on the rows that they were scored on: kept with the run, and read again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mpt.data.task import Example, Task
from mpt.inference.evaluate import Answers
from mpt.metrics.answers import same_content
from mpt.rundir.directory import write_whole
from mpt.system.paths import AnyPath

KEPT = 500  # rows of each prompt: a hundred kilobytes or so, and enough to see what goes wrong


@dataclass(frozen=True)
class Answered:
    """One scored row.

    Attributes:
        task: its name; ``seed`` is what drew the training rows.
        targets: what is right, the first being what was asked for.
        probabilities: of each class word; empty for free text.
    """

    task: str
    seed: int
    input: str
    targets: list[str]
    prediction: str
    probabilities: dict[str, float]

    @property
    def right(self) -> bool:
        """As a class word must be; a text may differ in case, articles and punctuation."""
        if self.probabilities:
            return self.prediction == self.targets[0]
        return any(same_content(text, self.prediction) for text in self.targets)

    @property
    def share(self) -> float:
        """The probability of what was predicted; 0 for free text."""
        return self.probabilities.get(self.prediction, 0.0)


def keep_answers(run: AnyPath, task: Task, seed: int, examples: Sequence[Example], answers: Answers) -> None:
    """Writes predictions/TASK-seedN.jsonl, of the first rows."""
    lines = [
        Answered(
            task.name,
            seed,
            example.inputs,
            list(example.references or (example.target,)),
            answers.texts[row],
            {}
            if answers.shares is None
            else {word: round(float(p), 4) for word, p in zip(example.choices, answers.shares[row])},
        )
        for row, example in enumerate(examples[:KEPT])
    ]
    name = re.sub(r"[^\w.-]+", "_", task.name)
    content = "".join(json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in lines)
    write_whole(run / "predictions" / f"{name}-seed{seed}.jsonl", content)


def kept_answers(run: AnyPath) -> dict[str, dict[int, list[Answered]]]:
    """Task -> seed -> its rows."""
    found: dict[str, dict[int, list[Answered]]] = {}
    for file in sorted((run / "predictions").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = Answered(**json.loads(line))
            found.setdefault(row.task, {}).setdefault(row.seed, []).append(row)
    return found
