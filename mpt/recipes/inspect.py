"""What a run's prompts say, how alike they are, and which of their vectors matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from flax import nnx

from mpt.cards.card import Card
from mpt.catalog.library import find_task
from mpt.config.yaml_file import read_yaml
from mpt.data.task import Task
from mpt.data.text.labelled import Labelled
from mpt.errors import UserError
from mpt.inference.run_prompts import trained
from mpt.insight.findings import Findings, Study, Subject, Transfer, Words
from mpt.insight.inspection import inspection_page
from mpt.insight.positions import ablation, attention
from mpt.insight.similarity import compared
from mpt.insight.tokens import nearest_tokens, spelled, token_norms
from mpt.insight.transfer import Target, transfer
from mpt.insight.variance_shares import common_and_specific, rank_shares
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.prompts import MultitaskPrompt, PlainPrompt
from mpt.prompts.class_head import in_front
from mpt.prompts.saved import load_prompt
from mpt.rundir.directory import write_atomic
from mpt.system.paths import AnyPath
from mpt.system.progress import Progress

NEAREST = 5  # number of tokens shown for each vector
# What the prompts of a pretraining's files are called.
STAGES = {"teachers": "teacher", "universal": "universal"}


def inspect(
    run: AnyPath,
    rows: int = 64,
    targets: Sequence[str] = (),
    out: AnyPath | None = None,
    pretrained: Pretrained | None = None,
) -> Findings:
    """Inspects a run's prompts and writes a page of it.

    Args:
        run: the run directory of `pretrain`, `adapt` or `import`.
        rows: number of rows of each task to evaluate the prompts on; 0: only what needs no rows.
        targets: further tasks to evaluate all prompts on; or one of the run's own, with the place of its
            data.
        out: the page; inspect.html inside the run where left out.
        pretrained: the run's backbone, where it is loaded already.

    Raises:
        UserError: the run has no prompts, or ones that are more than vectors in front of a text.
    """
    if rows < 0:
        raise UserError(f"inspect: --rows is {rows}; it must be 0 or more")
    model, _ = trained(run)
    found = _prompts(run, None)  # prompts that cannot be inspected are refused before the backbone is loaded
    more = [find_task(name) for name in targets]
    pretrained = pretrained or load_pretrained(**asdict(model))
    found = _prompts(run, pretrained)
    pretrained = pretrained.beginning(next(iter(found.values()))[1].bos_rule)
    findings = without_rows(run, found, pretrained)
    if rows:
        longest = max(card.max_length for _, card in found.values())
        _try(findings, _held(findings, run, more, rows, longest, pretrained), pretrained, _layer(found))
    else:
        findings.missing.append("Parts that need rows of the tasks were left out (--rows 0).")
    if layer := _layer(found):
        findings.missing.append(
            f"The prompts enter before layer {layer}: their norms and nearest tokens compare hidden states "
            "with embeddings, and attention to them is not told."
        )
    write_atomic(out or run / "inspect.html", inspection_page(findings))
    return findings


def _layer(found: Mapping[str, tuple[PlainPrompt, Card]]) -> int:
    """The layer before which the prompts of a run enter, the same for all of them."""
    return next(iter(found.values()))[1].layer


def without_rows(
    run: AnyPath, found: dict[str, tuple[PlainPrompt, Card]], pretrained: Pretrained
) -> Findings:
    """The results that need only the vectors."""
    backbone = pretrained.backbone
    subjects = [
        subject for file, (prompt, card) in found.items() for subject in _subjects(file, prompt, card)
    ]
    composed = {file: np.asarray(prompt.compose(), np.float32) for file, (prompt, _) in found.items()}
    factored = {file: prompt for file, (prompt, _) in found.items() if isinstance(prompt, MultitaskPrompt)}
    return Findings(
        run=str(run),
        backbone=pretrained.name,
        subjects=subjects,
        words=_words(subjects, pretrained),
        norms=token_norms(backbone),
        similarity=compared([subject.vectors for subject in subjects]),
        variance_shares={
            file: common_and_specific(prompts)
            for file, prompts in composed.items()
            if len(prompts) > 1 or file in factored
        },
        ranks={
            file: rank_shares(np.asarray(prompt.u[...]), np.asarray(prompt.v[...]))
            for file, prompt in factored.items()
        },
    )


def _prompts(run: AnyPath, pretrained: Pretrained | None) -> dict[str, tuple[PlainPrompt, Card]]:
    """All prompts of a run, by the names of their files: teachers before the universal prompt.

    Of a prompt with a class head, only its vectors.
    """
    names = sorted(path.stem for path in (run / "prompts").glob("*.safetensors")) or ["universal"]
    found: dict[str, tuple[nnx.Module, Card]] = {name: load_prompt(run, name, pretrained) for name in names}
    plain: dict[str, tuple[PlainPrompt, Card]] = {}
    for name, (prompt, card) in found.items():
        prompt = in_front(prompt)
        if not isinstance(prompt, PlainPrompt):
            raise UserError(
                f"{run}: what it holds is more than a prompt ({card.kind}), and only vectors in front of a "
                "text can be inspected; choose a run of `--method prompt`, spot, ulpt or examples"
            )
        plain[name] = (prompt, card)
    return plain


def _subjects(file: str, prompt: PlainPrompt, card: Card) -> list[Subject]:
    """The prompts of a file, each under a name of its own."""
    vectors, seeds = np.asarray(prompt.compose(), np.float32), card.seeds
    width = len(vectors) // max(len(seeds), 1)  # prompts of a seed, in an adaptation

    def name(place: int, task: str) -> str:
        if file in STAGES:
            return f"{task}, {STAGES[file]}"
        return f"{task}, seed {seeds[place // width]}"

    names = [name(i, task) for i, task in enumerate(card.prompts)]
    if len(set(names)) < len(names):
        names = [f"{task}, {i}" for i, task in enumerate(card.prompts)]
    return [Subject(*each) for each in zip(names, card.prompts, [file] * len(names), vectors)]


def _words(subjects: Sequence[Subject], pretrained: Pretrained) -> list[Words]:
    vectors = np.concatenate([subject.vectors for subject in subjects])
    near = nearest_tokens(pretrained.backbone, vectors, NEAREST)

    def spell(ids: np.ndarray) -> list[list[str]]:
        return [[spelled(pretrained.tokenizer, int(token)) for token in line] for line in ids]

    ends = np.cumsum([len(subject.vectors) for subject in subjects])
    by_subject = zip(*(np.split(part, ends[:-1]) for part in near))
    return [Words(spell(ids), cosines[:, 0].tolist(), spell(lens)) for ids, cosines, lens in by_subject]


def _held(
    findings: Findings, run: AnyPath, more: Sequence[Task], rows: int, max_length: int, pretrained: Pretrained
) -> dict[str, Target]:
    """Rows of the run's tasks, where they are at hand, and of those that were named besides.

    Raises:
        UserError: one that was named has no rows.
    """
    config, named = read_yaml(run / "config.yaml"), {task.name for task in more}
    held, missing = {}, []
    for name in filter(None, [*config.get("tasks", ()), config.get("task"), *config.get("also", ())]):
        try:
            task = find_task(str(name))
            if task.name not in named and not task.source.is_local:
                raise UserError("its data is not on this machine; --targets with its name downloads it")
            if task.name not in named:
                held[task.name] = _rows(task, rows, max_length, pretrained)
        except UserError as error:
            missing.append(f"No prompt was evaluated on rows of {name}: {error}.")
    held |= {task.name: _rows(task, rows, max_length, pretrained) for task in more}
    if any(subject.task not in held for subject in findings.subjects):
        findings.missing += missing
    return held


def _rows(task: Task, count: int, max_length: int, pretrained: Pretrained) -> Target:
    """Validation rows; training rows of a task that has no others."""
    split = "validation" if {"validation", "all"} & set(task.source.stored_splits) else "train"
    drawn = task.sample(split, count)
    pretrained.check_words(task)
    return Target(task, Labelled(drawn, pretrained.encode(drawn, max_length)), split)


def _try(findings: Findings, held: Mapping[str, Target], pretrained: Pretrained, layer: int) -> None:
    """Evaluates prompts on rows: the run's final prompts on their own tasks, and all prompts on all tasks."""
    if not held:
        return
    subjects = findings.subjects
    ended = {subject.file for subject in subjects} - {"teachers"} or {"teachers"}
    studied = [i for i, each in enumerate(subjects) if each.file in ended and each.task in held]
    passes = sum(len(subjects[i].vectors) for i in studied)
    with Progress("inspect", passes + len(subjects) * len(held)) as progress:
        for i in studied:
            subject, target = subjects[i], held[subjects[i].task]
            rows, step = target.labelled.rows, lambda: progress.step("ablation")
            worth = ablation(pretrained.backbone, subject.vectors, rows, step, layer)
            seen = {} if layer else attention(pretrained.backbone, subject.vectors, rows)
            findings.studies.append(Study(i, f"{len(rows)} {target.split} rows", worth, seen))
        scores = transfer(
            pretrained.backbone,
            pretrained.tokenizer,
            [subject.vectors for subject in subjects],
            list(held.values()),
            lambda: progress.step("transfer"),
            layer,
        )
    findings.transfer = Transfer([f"{name} ({t.task.metric})" for name, t in held.items()], scores)
