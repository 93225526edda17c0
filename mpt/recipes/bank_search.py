"""Ranks a bank's prompts as starts for a new task: by similarity to its own prompt, and by a trial on few
rows."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from scipy.stats import rankdata

from mpt.adaptation.draws import training_rows
from mpt.cards.bank import Bank
from mpt.catalog.library import find_task
from mpt.config.options import ModelConfig, PromptConfig, TrainConfig
from mpt.data.task import Task
from mpt.errors import UserError, show, warn
from mpt.insight.transfer import Trial, trials
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.methods.spot import brief_tuning, similarities
from mpt.models.backbone import check_positions
from mpt.prompts import MultitaskPrompt
from mpt.prompts.initial import starting_vectors
from mpt.prompts.saved import misfit
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.recipes.bank import Entry, entries
from mpt.render.console import print_table
from mpt.rundir.directory import RunDir
from mpt.system.progress import Progress
from mpt.training.loop import train_stage
from mpt.types import Row

BATCH = 16  # rows of a step of the task's own prompt
INSTRUCTION = "(its instruction)"

Vectors = Float[np.ndarray, "_ D"]


class Candidate(NamedTuple):
    """A prompt of the bank, as a start for the new task.

    Attributes:
        similarity: the cosine of its mean vector with that of the task's own, briefly tuned prompt.
        trial: its scores on the task's few rows, without training.
        rank: among all; 1 is the best.
    """

    entry: Entry
    similarity: float
    trial: Trial
    rank: int


class Ranking(NamedTuple):
    """The prompts of a bank, ranked as starts for a task.

    Attributes:
        candidates: the best first.
        instruction: the trial of the task's instruction, which needs no bank; None where it has none.
        rows: how many rows were tried.
    """

    task: Task
    candidates: list[Candidate]
    instruction: Trial | None
    rows: int


def search(
    bank: Bank,
    name: str,
    model: str = "",
    shots: int = 16,
    steps: int = 8,
    seed: int = 0,
    max_length: int = 96,
) -> Ranking:
    """Ranks a bank's prompts as starts for a task.

    Args:
        name: the task's name or file.
        model: the backbone; that of the bank's prompts where left out.
        shots: training rows per class, those that `mpt adapt` draws with this ``seed``.
        steps: of prompt tuning, which give the task's own prompt to compare with.
        max_length: most tokens of an input.

    Raises:
        UserError: no prompt of the bank fits the backbone.
    """
    if shots < 1 or steps < 1:
        raise UserError(f"bank: --{'shots' if shots < 1 else 'steps'} must be at least 1")
    task, held = find_task(name), list(entries(bank))
    if held and all(isinstance(entry.prompt, UniversalPrefix) for entry in held):
        raise UserError(
            f"{bank.path}: its prompts are in every layer, and have no vectors to compare; "
            f"start from one as it is: --prompt {bank.path}/{held[0].name}"
        )
    pretrained = load_pretrained(model or _backbone(bank, held))
    pretrained.check_words(task)
    fitting = _fitting(bank, held, pretrained)
    pretrained = pretrained.beginning(fitting[0].card.bos_rule)  # as the bank's prompts were trained
    longest = max(len(start_of(entry)) for entry in fitting)
    check_positions(pretrained.backbone, longest, max_length)
    _, (rows,) = training_rows(task, shots, [seed], max_length, pretrained)
    return ranked(task, rows, fitting, pretrained, steps, seed)


def ranked(
    task: Task, rows: Sequence[Row], entries: Sequence[Entry], pretrained: Pretrained, steps: int, seed: int
) -> Ranking:
    """Prompts that fit the backbone, as starts for a task of which there are few rows; see ``search``."""
    vectors = [start_of(entry) for entry in entries]
    length = Counter(map(len, vectors)).most_common(1)[0][0]
    tuned = _briefly_tuned(task, pretrained, rows, length, steps, seed)
    similar = [float(similarities(tuned, each[None])[0, 0]) for each in vectors]
    words = []
    if task.instruction:
        config = PromptConfig(length=length, start="instruction")
        words = [np.asarray(starting_vectors(config, [task], [seed], pretrained)[0])]
    tried = _tried(task, pretrained, rows, [*vectors, *words])
    order = ranks(similar, [trial.loss for trial in tried[: len(vectors)]])
    candidates = [Candidate(*each) for each in zip(entries, similar, tried, order)]
    instruction = tried[-1] if words else None
    return Ranking(task, sorted(candidates, key=lambda each: each.rank), instruction, len(rows))


def ranks(similarity: Sequence[float], loss: Sequence[float]) -> list[int]:
    """The order of candidates: by the sum of their places in both columns; the loss decides a tie.

    >>> ranks([0.9, 0.8, 0.1], [0.5, 0.3, 0.7])
    [2, 1, 3]
    """
    by_loss = rankdata(loss)
    both = rankdata(-np.asarray(similarity)) + by_loss
    return (np.argsort(np.lexsort((by_loss, both))) + 1).tolist()


def _backbone(bank: Bank, held: Sequence[Entry]) -> str:
    names = sorted({entry.card.backbone for entry in held})
    if len(names) == 1:
        return names[0]
    hint = f"its prompts are of {', '.join(names)}; choose one with --model" if names else "none can be read"
    raise UserError(f"{bank.path}: {hint}")


def _fitting(bank: Bank, held: Sequence[Entry], pretrained: Pretrained) -> list[Entry]:
    """The prompts that the backbone can read; which others are left out, and why, a line for each reason."""
    misfits, width = defaultdict(list), pretrained.backbone.embedding.shape[-1]
    for entry in held:
        if isinstance(entry.prompt, UniversalPrefix):
            misfits["it is in every layer, and has no vectors to compare"].append(entry)
            continue
        its_width = entry.prompt.compose().shape[-1]
        fault = (
            f"{its_width} numbers wide, not {width}" if its_width != width else misfit(entry.card, pretrained)
        )
        if not fault and entry.card.layer:
            fault = (
                f"it enters before layer {entry.card.layer}, and those that are tried enter before the first"
            )
        misfits[fault].append(entry)
    for fault, left_out in misfits.items():
        if fault:
            warn(f"{bank.path}: left out {', '.join(entry.name for entry in left_out)}: {fault}")
    if not misfits[""]:
        raise UserError(
            f"{bank.path}: no prompt of {pretrained.name} in it; add one, or choose another --model"
        )
    return misfits[""]


def start_of(entry: Entry) -> Vectors:
    """The one prompt that a new task gets from an entry."""
    prompt = entry.prompt
    assert not isinstance(prompt, UniversalPrefix)  # left out
    return np.asarray((prompt.for_targets(1) if isinstance(prompt, MultitaskPrompt) else prompt).compose()[0])


def _briefly_tuned(
    task: Task, pretrained: Pretrained, rows: Sequence[Row], length: int, steps: int, seed: int
) -> Float[np.ndarray, "1 P D"]:
    """The task's own prompt after a short training, as SPoT has it."""
    start = "instruction" if task.instruction else "vocabulary"
    vectors = starting_vectors(PromptConfig(length=length, start=start), [task], [seed], pretrained)
    train = TrainConfig(batch_size=BATCH, save_every=steps)
    stage = brief_tuning(pretrained.backbone, vectors, [rows], train, steps, [task.name])
    with TemporaryDirectory() as scratch:
        trained = train_stage(stage, RunDir(Path(scratch), name=f"a first prompt for {task.name}")).model
    return np.asarray(trained.prompt.compose())


def _tried(
    task: Task, pretrained: Pretrained, rows: Sequence[Row], prompts: Sequence[Vectors]
) -> list[Trial]:
    """Each prompt's trial; those of one length go together."""
    done_by_index: dict[int, Trial] = {}
    lengths = [len(each) for each in prompts]
    with Progress("trying the prompts", len(prompts)) as progress:
        for length in sorted(set(lengths)):
            indices = [i for i, each in enumerate(lengths) if each == length]
            alike = [prompts[i] for i in indices]
            done = trials(pretrained.backbone, task, rows, alike, lambda: progress.step("prompts"))
            done_by_index |= dict(zip(indices, done))
    return [done_by_index[i] for i in range(len(prompts))]


def print_found(bank: Bank, name: str, ranking: Ranking) -> None:
    """Prints a search's table, and the command that starts from the best.

    Args:
        name: the task, as it was asked for.
    """
    best = ranking.candidates[0]
    table = Table(
        Column("rank", justify="right"),
        Column("prompt", no_wrap=True),
        "trained on",
        Column("similarity", justify="right"),
        Column("loss", justify="right"),
        Column("accuracy", justify="right"),
        title=f"Starts for {ranking.task.name}; evaluated on {ranking.rows} training rows",
        box=SIMPLE,
        pad_edge=False,
    )
    for entry, similarity, trial, rank in ranking.candidates:
        table.add_row(
            str(rank), entry.name, ", ".join(entry.card.prompts), f"{similarity:.3f}", *_told(trial)
        )
    if ranking.instruction:
        table.add_row("–", INSTRUCTION, "", "", *_told(ranking.instruction), style="dim")
    print_table(Console(markup=False, highlight=False), table)
    command = ["mpt", "adapt", "few_shot", "--prompt", f"{bank.path}/{best.entry.name}", "--task", name]
    if best.entry.card.backbone != ModelConfig().name:
        command += ["--model.name", best.entry.card.backbone]
    if ranking.instruction and ranking.instruction.loss < best.trial.loss:
        show("Its own instruction has a lower loss on these rows: try the command without --prompt too.")
    print(f"Start from {best.entry.name}:\n  {shlex.join([*command, '--out', f'runs/{ranking.task.name}'])}")


def _told(trial: Trial) -> tuple[str, str]:
    accuracy = "–" if trial.accuracy is None else f"{100 * trial.accuracy:.1f} %"
    return f"{trial.loss:.3f}", accuracy
