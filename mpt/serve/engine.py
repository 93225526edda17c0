"""The prompts of several runs on one backbone, which answer batches of requests.

Compilation is slow, so batches are padded to a few numbers of rows and a few lengths of text, and all of
these are compiled before the first request.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import jax.numpy as jnp
from transformers import PreTrainedTokenizerBase

from mpt.data.batches import Sizes, bucket, collate
from mpt.data.class_tree import NO_TREE, TreeSizes
from mpt.data.task import Example
from mpt.data.tokenise import decoded
from mpt.errors import UserError, nearest
from mpt.inference.evaluate import Sizing, choice_probabilities
from mpt.inference.generate import SamplingParams
from mpt.inference.generate_in_parts import Part, generate_in_parts
from mpt.inference.predict import Ready, open_run
from mpt.inference.run_prompts import trained
from mpt.inference.token_scores import TokenScores
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt
from mpt.serve.group import Group, grouped
from mpt.serve.text import GeneratedText, TextSampling, text_of, tokens_of
from mpt.system.paths import AnyPath
from mpt.system.said import say
from mpt.types import Layout, Row

SHORTEST = 32  # tokens per row in the narrowest grid
WARMING_EVERY = 5.0  # seconds between lines about warming up


PADDING = TextSampling(0.0, 1.0, 0, 0)  # for rows that fill up a batch: nothing is generated


class ClassProbabilities(NamedTuple):
    """The answer to a request to classify.

    Attributes:
        probabilities: the probability of each class word.
        tokens_read: number of tokens of the input.
    """

    probabilities: list[float]
    tokens_read: int


Listener = Callable[[GeneratedText], bool]


def nobody_in_particular(_: GeneratedText) -> bool:
    """The listener of a request whose answer is only wanted whole."""
    return True


class ServedTask(NamedTuple):
    """A task and its prompt, which is number ``member`` of a group."""

    ready: Ready
    group: Group
    member: int


@dataclass(frozen=True)
class Request:
    """One example, for which to generate a text if there are sampling parameters, else to classify it.

    Attributes:
        example: the example, or its tokens.
        listen: is called with the text whenever it has grown, and returns whether it is still wanted.
    """

    served: ServedTask
    example: Example | Row
    sampling: TextSampling | None = None
    listen: Listener = nobody_in_particular

    @property
    def key(self) -> Hashable:
        """Only requests with the same key can share a batch."""
        group, task = self.served.group, self.served.ready.task
        return (id(group), "write") if self.sampling else (id(group), group.one_token(task))

    def row(self) -> Row:
        """The example as the backbone reads it.

        Raises:
            UserError: nothing of it is left to read, or it has a token that the model does not know.
        """
        given = self.example
        row = given if isinstance(given, Row) else self.served.ready.encode([given])[0]
        if not len(row.inputs):  # a decoder cannot continue an empty text
            raise UserError("a text is empty: there is nothing to read")
        return row


class Engine:
    """Answers batches of requests for the tasks of several runs.

    Args:
        runs: run directories of `adapt`, `pretrain` or `import`.
        max_batch: maximum number of rows in a batch.
        max_new_tokens: maximum number of tokens in a generated text.

    Raises:
        UserError: the runs have different backbones, or two of them have a task of the same name.
    """

    def __init__(self, runs: Sequence[AnyPath], max_batch: int, max_new_tokens: int):
        self.pretrained, opened = open_runs(runs)
        self.tasks = {
            ready.task.name: ServedTask(ready, group, member)
            for group in grouped(opened.values())
            for member, ready in enumerate(group.members)
        }
        self._max_new_tokens = max_new_tokens
        self._batch_sizes = [*(4**i for i in range(max_batch) if 4**i < max_batch), max_batch]

    def find(self, task: str) -> ServedTask:
        """The served task of that name.

        Raises:
            UserError: there is none.
        """
        if task not in self.tasks:
            raise UserError(f"task '{task}' is not served here; {nearest(task, self.tasks)}")
        return self.tasks[task]

    def answer(self, requests: Sequence[Request]) -> list[ClassProbabilities | GeneratedText | UserError]:
        """Answers requests that have the same key, at most ``max_batch`` of them."""
        rows: dict[int, Row] = {}
        answers: dict[int, ClassProbabilities | GeneratedText | UserError] = {}
        for i, request in enumerate(requests):
            try:
                rows[i] = request.row()
            except UserError as error:  # it is this request's alone
                answers[i] = error
        if rows:
            solve = self._generate if requests[0].sampling else self._classify
            answers |= zip(rows, solve([requests[i] for i in rows], list(rows.values())))
        return [answers[i] for i in range(len(requests))]

    def warm(self) -> Iterator[None]:
        """Compiles all programs that requests can need, one per step of the iterator, by running them."""
        by_key: dict[Hashable, Request] = {}
        for served in self.tasks.values():
            for sampling in (None, PADDING):
                request = Request(served, Example("", {}, ""), sampling)
                if sampling or served.ready.task.choices:
                    by_key.setdefault(request.key, request)
        for request in by_key.values():
            group = request.served.group
            choices = group.choices[request.served.ready.task.name]
            solve, what = self._classify, "classes"
            if request.sampling:
                solve, what = self._generate, "texts"
            for cells in powers(SHORTEST, group.longest):
                row = Row([0] * (cells // 2 + 1), [0], choices)
                for size in self._batch_sizes:
                    rows = f"{size} row{'s' * (size > 1)} of {cells} tokens"
                    say(f"warming up: {what}, {rows}", every=WARMING_EVERY)
                    yield
                    solve([request] * size, [row] * size)

    def _classify(self, requests: Sequence[Request], rows: Sequence[Row]) -> Sequence[ClassProbabilities]:
        served, size = requests[0].served, self._batch_size(len(rows))
        model, prompt_index = served.group.narrowed([request.served.member for request in requests], size)
        task = served.ready.task
        sizing = padded(0, served.group.tree(served.group.one_token(task)))
        probabilities = choice_probabilities(model, rows, prompt_index, size, sizing)
        return [
            ClassProbabilities(of_row[: len(row.choices)].tolist(), _read(row, model))
            for of_row, row in zip(probabilities, rows)
        ]

    def _generate(self, requests: Sequence[Request], rows: Sequence[Row]) -> Sequence[GeneratedText]:
        tokenizer, size = self.pretrained.tokenizer, self._batch_size(len(rows))
        end: Any = tokenizer.eos_token_id
        group = requests[0].served.group
        sampling = [request.sampling for request in requests if request.sampling]
        model, index = group.narrowed([request.served.member for request in requests], size)
        padding, layout = size - len(rows), model.backbone.layout
        inputs = [row._replace(targets=[end]) for row in [*rows, *[rows[0]] * padding]]
        batch = collate(inputs, [*index, *[index[0]] * padding], layout, padded(1)(inputs, layout))
        method = _params([*sampling, *[PADDING] * padding])
        answers = [GeneratedText("", False, _read(row, model), 0, more=True) for row in rows]
        growing = set(range(len(requests)))
        for part in generate_in_parts(
            model, batch, max_new_tokens=self._max_new_tokens, stop=[end], method=method
        ):
            for i in sorted(growing):
                answers[i] = _grown(answers[i], requests[i], part, i, tokenizer)
                is_wanted = requests[i].listen(answers[i])
                if not (is_wanted and answers[i].more):
                    part.over[i] = True
                    growing.remove(i)
        return answers

    def _batch_size(self, rows: int) -> int:
        """The number of rows that a batch of ``rows`` rows is padded to."""
        return next(size for size in self._batch_sizes if size >= rows)


def _read(row: Row, model: Prompted) -> int:
    """Number of tokens of a text, with those that stand in front of the prompt."""
    return len(model.backbone.opening) + len(row.inputs)


def _params(sampling: Sequence[TextSampling]) -> SamplingParams:
    """The sampling parameters of a batch."""
    return SamplingParams(
        temperature=jnp.array([each.temperature for each in sampling], jnp.float32),
        top_p=jnp.array([each.top_p for each in sampling], jnp.float32),
        seed=jnp.array([each.seed for each in sampling], jnp.int32),
        max_new_tokens=jnp.array([each.max_new_tokens for each in sampling], jnp.int32),
        scored=jnp.array([each.likeliest is not None for each in sampling]),
    )


def _grown(
    answer: GeneratedText, request: Request, part: Part, index: int, tokenizer: PreTrainedTokenizerBase
) -> GeneratedText:
    """The answer with what a further part has brought; ``index`` is that of its row."""
    sampling, decode = request.sampling, functools.partial(decoded, tokenizer)
    assert sampling
    ids, words = part.texts[index], request.served.ready.task.choices
    grown = text_of(ids, bool(part.over[index]), sampling, words, answer.tokens_read, decode)
    if sampling.likeliest is None or part.scores is None:
        return grown
    scores = TokenScores(*(of_all[index] for of_all in part.scores))
    return grown._replace(tokens=tokens_of(grown, ids, scores, sampling.likeliest, answer.tokens, decode))


def padded(targets: int, tree: TreeSizes = NO_TREE) -> Sizing:
    """A function that pads the texts of a batch to a power of two.

    Args:
        targets: number of targets that rows are padded to.
        tree: what a row's class words are padded to.
    """

    def sizing(rows: Sequence[Row], layout: Layout) -> Sizes:
        cells = bucket(max(SHORTEST, *(len(row.inputs) for row in rows)), 1)
        cells += tree.nodes if layout == "decoder" else 0
        of_batch = tree._replace(branches=len(rows) * tree.branches)
        return Sizes(len(rows) * cells, cells, targets, of_batch)

    return sizing


def powers(first: int, last: int) -> list[int]:
    """``first`` and its doubles, up to the first that is at least ``last``.

    >>> powers(32, 65)
    [32, 64, 128]
    """
    return [first] if last <= first else [first, *powers(2 * first, last)]


def open_runs(runs: Sequence[AnyPath]) -> tuple[Pretrained, Mapping[str, Ready]]:
    """Opens runs that have the same backbone: returns that backbone, and their tasks by name.

    Raises:
        UserError: the runs have different backbones, or two of them have a task of the same name.
    """
    first, _ = trained(runs[0])
    cards = {}
    for run in runs:
        config, name = trained(run)
        cards[run] = load_prompt(run, name)[1]
        others = [f.name for f in fields(config) if f.name not in ("name", "remat", "bos")]
        different = [name for name in others if getattr(config, name) != getattr(first, name)]
        if cards[run].backbone_hash != cards[runs[0]].backbone_hash:
            different = ["name"]
        if different:
            option = f"model.{different[0]}"
            raise UserError(
                f"{run}: {option} is {getattr(config, different[0])}, and {getattr(first, different[0])} in "
                f"{runs[0]}; a server has one backbone: start another for this run"
            )
    of_task: dict[str, AnyPath] = {}
    for run, card in cards.items():
        for task in card.prompts:
            if (other := of_task.setdefault(task, run)) != run:
                raise UserError(f"{run}: task '{task}' is served already, from {other}; leave one out")
    pretrained = load_pretrained(**asdict(first))
    return pretrained, {task: open_run(run, task, 0, pretrained) for task, run in of_task.items()}
