"""The Python objects of mpt: a backbone in memory, and finished runs that use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mpt.adaptation.result import Result, read_results
from mpt.cards.card import Card
from mpt.catalog.from_python import Table, labelled, listed
from mpt.catalog.library import name_of
from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import cells
from mpt.comparison.estimates import Comparison, interval
from mpt.comparison.tables import in_percent, k
from mpt.config.options import MeshConfig, ModelConfig
from mpt.continual_learning.results import TITLES, Results
from mpt.data.sources import Rows
from mpt.data.task import Task
from mpt.errors import UserError
from mpt.inference.predict import Ready, open_run, predicted, scored, with_data
from mpt.inference.run_prompts import of_all_seeds
from mpt.insight.findings import Findings
from mpt.insight.tokens import nearest_tokens, spelled
from mpt.interop.exporting import export_run
from mpt.loading.hf import Pretrained
from mpt.prompts import PlainPrompt
from mpt.prompts.class_head import in_front
from mpt.recipes.inspect import inspect
from mpt.rundir.directory import atomic_folder
from mpt.sharding import use_mesh
from mpt.system.paths import AnyPath, run_path


@dataclass(frozen=True)
class LoadedBackbone:
    """A frozen language model in memory, for any number of runs; see ``mpt.load_backbone``.

    Attributes:
        config: its name and precision.
        mesh: how the devices share it.
        pretrained: its weights and its tokenizer.
    """

    config: ModelConfig
    mesh: MeshConfig
    pretrained: Pretrained = field(repr=False, compare=False)


@dataclass(frozen=True)
class Run:
    """A finished run: prompts on disk, and the backbone that they belong to.

    ``mpt.pretrain``, ``mpt.adapt`` and ``mpt.load`` return it. An adaptation has one prompt per seed, a
    pretraining one per source task.

    Attributes:
        path: the run directory.
        backbone: it may be shared with other runs.
    """

    path: AnyPath
    backbone: LoadedBackbone

    def predict(
        self,
        inputs: str | Mapping[str, Any] | Iterable[str | Mapping[str, Any]],
        task: str | Path | Task = "",
        index: int = 0,
    ) -> list[dict[str, Any]]:
        """Predicts for new texts.

        Args:
            inputs: texts, or a single one; or mappings with the columns of the task's template, or a pandas
                frame.
            task: needed if the prompt has several tasks, or if a universal prompt is used on a new one.
            index: which of an adaptation's prompts, one per seed.

        Returns:
            For each input ``{"prediction": label, "probabilities": {label: p, ...}}``; for a task without
            classes ``{"prediction": text}``.

        Raises:
            UserError: the run has no such prompt, or an input lacks a column.
        """
        ready = self._ready(task, index)
        given = [inputs] if isinstance(inputs, (str, Mapping)) else listed(inputs, "predict: inputs")
        with use_mesh(self.backbone.mesh):
            return predicted(ready, ready.task.records("inputs", given))

    def evaluate(
        self,
        task: str | Path | Task = "",
        split: str = "test",
        rows: int = 0,
        index: int = 0,
        data: Table | None = None,
    ) -> dict[str, Any]:
        """The task's metrics on a labelled split.

        Args:
            task: needed if the prompt has several tasks; by default an adaptation's own.
            split: "train", "validation" or "test".
            rows: number of rows; 0: all.
            index: which of an adaptation's prompts, one per seed.
            data: labelled rows instead of the split: mappings, (text, label) pairs, or a frame.
        """
        ready = self._ready(task, index)
        known = ready.task
        if data is None:
            known = with_data(known, self.path)
        else:
            found = labelled(data, known.label, "evaluate: data", text=known.columns[0])
            known = replace(known, source=Rows({split: found}, known.label))
        with use_mesh(self.backbone.mesh):
            return scored(ready, known, split, rows)

    def words(self, count: int = 5, index: int = 0) -> list[list[str]]:
        """The tokens whose embeddings are nearest to each of a prompt's vectors, by cosine, best first.

        Args:
            index: which of the prompts.
        """
        if not 0 <= index < len(self.vectors):
            raise UserError(f"{self.path}: no prompt {index}; it has {len(self.vectors)}, from 0")
        with use_mesh(self.backbone.mesh):
            near = nearest_tokens(self.backbone.pretrained.backbone, self.vectors[index], count)
        tokenizer = self.backbone.pretrained.tokenizer
        return [[spelled(tokenizer, int(token)) for token in line] for line in near.ids]

    def inspect(self, rows: int = 64, targets: Sequence[str] = (), out: AnyPath | None = None) -> Findings:
        """Analyses the prompts, as `mpt inspect` does, and writes a page with the results.

        Args:
            rows: number of rows of each task to evaluate the prompts on; 0: only what needs no rows.
            targets: names or files of further tasks to evaluate them on.
            out: the page; inspect.html inside the run where left out.
        """
        with use_mesh(self.backbone.mesh):
            return inspect(self.path, rows, targets, out, self.backbone.pretrained)

    def export(self, format: str = "peft", out: AnyPath | None = None) -> AnyPath:
        """Writes the prompts for other libraries and returns their folder.

        Args:
            format: "peft" for folders that `peft` loads, "embeddings" for plain arrays.
            out: the folder; named by the format, inside the run, where left out.
        """
        return export_run(self.path, format, out)

    def save(self, folder: str | Path) -> AnyPath:
        """Copies what prediction needs: the prompts and their cards, without checkpoints and data.

        `mpt.load`, `mpt predict` and `mpt serve` accept the folder like a run directory. Its README is a
        model card, so that it can be uploaded to the Hugging Face hub without changes.
        """
        saved = run_path(folder)
        with atomic_folder(saved) as copy:
            (copy / "prompts").mkdir()
            for file in (self.path / "prompts").iterdir():
                (copy / "prompts" / file.name).write_bytes(file.read_bytes())
            for name in ("config.yaml", "result.json", "results.json"):
                if (self.path / name).is_file():
                    (copy / name).write_bytes((self.path / name).read_bytes())
            (copy / "README.md").write_text(self.card.model_card(), encoding="utf-8")
        return saved

    @property
    def card(self) -> Card:
        """The prompts' card: method, tasks, scores, versions."""
        return of_all_seeds(self.path)[2]

    @property
    def vectors(self) -> Float[np.ndarray, "J P D"]:
        """The prompt vectors, as they are prepended to an embedded text."""
        _, prompt, card = of_all_seeds(self.path)
        prompt = in_front(prompt)
        if not isinstance(prompt, PlainPrompt):
            raise UserError(
                f"{self.path}: what it holds is more than a prompt ({card.kind}); it has no vectors"
            )
        return np.asarray(prompt.compose())

    @property
    def results(self) -> list[Result]:
        """An adaptation's scores on held-out rows, one for each target; empty for other runs."""
        return read_results(self.path)

    def _ready(self, task: str | Path | Task, index: int) -> Ready:
        named = str(task) if isinstance(task, Path) else task
        return open_run(self.path, named, index, self.backbone.pretrained)

    def _repr_markdown_(self) -> str:
        """The card, where a notebook shows the run."""
        return self.card.markdown()

    def __repr__(self) -> str:
        """A line with the kind of prompts, and an adaptation's scores on held-out rows."""
        try:
            scores, card = [_score(result) for result in self.results], self.card
        except UserError:  # an entry such as LoRA keeps no model, and a folder may be gone
            return f"<Run {self.path}>"
        tasks = ", ".join(dict.fromkeys(card.prompts))
        return f"<Run {self.path}: {'; '.join(scores) or f'{card.method}, of {tasks}'}>"


@dataclass(frozen=True)
class ComparedRun:
    """A finished comparison; ``mpt.compare`` returns it.

    Attributes:
        path: the run directory, with ``results.md``, ``results.csv``, figures and ``report.html``.
        config: the options of the comparison.
    """

    path: AnyPath
    config: CompareConfig

    @property
    def results(self) -> dict[str, list[Result]]:
        """The results of each method, one for each target and number of examples, in the table's order."""
        found: dict[str, list[Result]] = {method: [] for method in self.config.methods}
        for cell in cells(self.config):
            found[cell.method] += read_results(self.path / cell.folder(self.config))
        return found

    def __repr__(self) -> str:
        """Each method's average over the targets, from the most examples."""
        found = {cell: read_results(self.path / cell.folder(self.config)) for cell in cells(self.config)}
        there = {cell: results[0] for cell, results in found.items() if results}
        comparison = Comparison.of(self.config, 0, there)  # of 0 weights, which no score depends on
        most = comparison.shots[-1]
        means = (f"  {name}: {in_percent(comparison.mean(name, most))}" for name in comparison.methods)
        what = f"{', '.join(map(name_of, self.config.targets))}, {k(most)}"
        return "\n".join([f"<ComparedRun {self.path}: {what}", *means]) + ">"

    def _repr_markdown_(self) -> str:
        """The tables, where a notebook shows the run."""
        return (self.path / "results.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class SequenceRun:
    """Tasks learned one after another; ``mpt.continual`` returns it.

    Attributes:
        path: the run directory, with ``results.md`` and ``report.html``.
        results: each method's scores on all tasks after each task, and what it has forgotten.
        runs: the run of each method, whose prompts are one per task, in the order of the sequence.
    """

    path: AnyPath
    results: Results
    runs: Mapping[str, Run]

    def __repr__(self) -> str:
        """Each method's average over the tasks once all are learned."""
        outcomes = self.results.outcomes.items()
        averages = (
            f"  {TITLES[method]}: {100 * outcome.figures['average']:.1f}" for method, outcome in outcomes
        )
        what = " → ".join(self.results.tasks)
        return "\n".join([f"<SequenceRun {self.path}: {what}", *averages]) + ">"

    def _repr_markdown_(self) -> str:
        """The tables, where a notebook shows the run."""
        return (self.path / "results.md").read_text(encoding="utf-8")


def _score(result: Result) -> str:
    """A result in words: the mean over seeds in percent, with its interval."""
    seeds = f" over {len(result.scores)} seeds" if len(result.scores) > 1 else ""
    return f"{result.task}: {result.metric} {in_percent(interval(result))}{seeds}, {result.rows:,} rows"
