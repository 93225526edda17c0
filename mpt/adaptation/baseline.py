"""Baselines on the rows of an adaptation: a run of one, or a comparison of all with a prompt."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from mpt.adaptation.draws import Drawn
from mpt.adaptation.job import Job, score, score_in_parts
from mpt.baselines import BASELINES, Baseline, Problem, States
from mpt.config.methods import ExamplesConfig
from mpt.data.task import Task
from mpt.data.text.labelled import Labelled
from mpt.errors import UserError
from mpt.inference.answers import keep_answers
from mpt.inference.evaluate import Answers, answers
from mpt.loading.hf import Pretrained
from mpt.methods.examples import METHOD as EXAMPLES
from mpt.methods.examples import prompt_of_examples
from mpt.prompts.prompted import Prompted
from mpt.rundir.directory import RunDir
from mpt.training.stage import Lengths
from mpt.types import Layout, Row

IN_CONTEXT = EXAMPLES.title
MOST_READ = 60_000  # tokens, above which in-context examples would take longer than the training


@dataclass(frozen=True)
class Problems:
    """What baselines are fitted to: the drawn rows of each seed, as texts.

    Attributes:
        frequencies: the number of rows of each class in the whole training split.
        train: the drawn rows of each seed.
        states: the frozen model's hidden states of texts, which all seeds share.
    """

    task: Task
    frequencies: Int[np.ndarray, " C"]
    train: Sequence[Labelled]
    states: States

    @classmethod
    def of(cls, task: Task, drawn: Drawn, states: States) -> Problems:
        wanted = {place for places in drawn.places for place in places}
        examples = {place: example for place, example in enumerate(task.examples("train")) if place in wanted}
        train = [
            Labelled([examples[place] for place in places], rows)
            for places, rows in zip(drawn.places, drawn.train)
        ]
        return cls(task, drawn.frequencies, train, states)

    def answers(self, baseline: Baseline, asked: Labelled) -> Iterator[Answers]:
        """A baseline's predictions for each seed."""
        for train in self.train:
            yield baseline.answer(Problem(self.task, self.frequencies, train, asked, self.states))


def run_baseline(
    baseline: Baseline,
    tasks: Sequence[Task],
    seeds: Sequence[int],
    drawn: Mapping[str, Drawn],
    states: States,
    run: RunDir,
) -> Job:
    """Scores a baseline as ``run_job`` scores a method; its seconds are those of fitting and predicting."""
    scores: dict[str, list[float]] = {task.name: [] for task in tasks}
    parts: dict[str, list[list[float]]] = {task.name: [] for task in tasks}
    began = time.monotonic()
    for task in tasks:
        asked = drawn[task.name].scored
        said_by_seed = Problems.of(task, drawn[task.name], states).answers(baseline, asked)
        for seed, said in zip(seeds, said_by_seed):
            scores[task.name].append(score(task, asked.examples, said.texts))
            parts[task.name].append(score_in_parts(task, asked.examples, said.texts))
            keep_answers(run.path, task, seed, asked.examples, said)
    curves: dict[str, list[tuple[int, float]]] = {task.name: [] for task in tasks}
    return Job(scores, parts, curves, parameters=0, steps=0, seconds=time.monotonic() - began)


def beside(
    task: Task,
    drawn: Drawn,
    title: str,
    ours: float,
    checked: Sequence[float],
    pretrained: Pretrained,
    states: States,
    seeds: Sequence[int],
) -> tuple[dict[str, float], list[str]]:
    """The scores of baselines and in-context examples on the rows that a prompt is scored on.

    Which of them is better than the prompt is decided on validation rows, so that no choice uses test rows.

    Args:
        title: what the prompt is called, or what was trained in its place.
        ours: the prompt's score on the scored rows.
        checked: the prompts' scores on the validation rows, one per seed; empty if there are no such rows.
        states: the frozen model's hidden states of texts without a prompt.
        seeds: of the draws.

    Returns:
        The score of each one that applies, as the mean over seeds; and one or two sentences for the user.
    """
    if drawn.checked is None:
        return {}, []
    problems = Problems.of(task, drawn, states)
    suited = {name: baseline for name, baseline in BASELINES.items() if baseline.applies(task)}
    merits = {name: baseline.merit for name, baseline in suited.items()} | {IN_CONTEXT: "no training"}
    asked = [drawn.scored, drawn.checked] if checked else [drawn.scored]
    together = Labelled(
        [example for each in asked for example in each.examples], [row for each in asked for row in each.rows]
    )
    said = {name: problems.answers(baseline, together) for name, baseline in suited.items()}
    read = tokens_read(together.rows, pretrained.backbone.layout)
    if read <= MOST_READ:
        said |= _in_context(task, drawn, pretrained, seeds, together)
    found = {name: mean_scores(task, asked, each) for name, each in said.items()}
    told = ", ".join(f"{name} {100 * on_scored:.1f}" for name, (on_scored, *_) in found.items())
    remarks = [f"On the same rows: {told} %; {title} {100 * ours:.1f} %."]
    if read > MOST_READ:
        remarks.append(
            f"In-context examples were left out, because they take {read:,} tokens of texts and class "
            "words; `--method examples` scores them."
        )
    best = max(found, key=lambda name: found[name][-1])
    if checked and (lead := found[best][-1] - float(np.mean(checked))) > 0:
        remarks.append(
            f"On {len(drawn.checked.examples)} validation rows, {title} is {100 * lead:.1f} points below "
            f"{best} ({merits[best]})."
        )
    return {name: on_scored for name, (on_scored, *_) in found.items()}, remarks


def mean_scores(task: Task, asked: Sequence[Labelled], said: Iterable[Answers]) -> list[float]:
    """The task's metric on each of several sets of rows, the mean over seeds.

    Args:
        said: the predictions of each seed for the rows of all sets, one set after another.
    """
    ends = np.cumsum([len(each.examples) for each in asked])
    scores = [
        [
            score(task, each.examples, each_said.texts[end - len(each.examples) : end])
            for each, end in zip(asked, ends)
        ]
        for each_said in said
    ]
    return np.mean(scores, axis=0).tolist()


def tokens_read(rows: Sequence[Row], layout: Layout) -> int:
    """About how many tokens a model processes to score the class words of rows, each after its text.

    >>> tokens_read([Row([5, 6, 7], [8], choices=((8, 9), (8, 4)), label=0)] * 10, "decoder")
    40
    """
    lengths = Lengths.of(rows, layout).scored(layout)
    return round(len(rows) * (lengths.text + (lengths.labels if layout == "encoder-decoder" else 0)))


def _in_context(
    task: Task, drawn: Drawn, pretrained: Pretrained, seeds: Sequence[int], asked: Labelled
) -> dict[str, list[Answers]]:
    """The backbone's predictions with each seed's examples in context; None if not one example fits."""
    try:
        prompts = [
            prompt_of_examples(task, rows, pretrained, ExamplesConfig().tokens, seed)
            for rows, seed in zip(drawn.train, seeds)
        ]
    except UserError:
        return {}
    models = [Prompted(pretrained.backbone, prompt) for prompt in prompts]
    return {IN_CONTEXT: [answers(model, task, asked.rows, pretrained.tokenizer) for model in models]}
