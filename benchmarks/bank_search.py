"""Whether `mpt bank search` finds the prompts that do best: its columns beside figures on test rows.

    python benchmarks/bank_search.py BANK [--targets movies tweets editorials sarcasm bbc]

For each target, every prompt of the bank that was not trained on it is ranked as `mpt bank search` does,
then scored on test rows as it is, and again after a short training on the target's few rows. What is
reported is Spearman's rank correlation of each column of the search with both figures, and the figures of
the prompt that the search chose, of the best and of the mean one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from duel import report
from mpt.adaptation.draws import held_out, training_rows
from mpt.cards.bank import Bank
from mpt.catalog.library import find_task
from mpt.config.options import TrainConfig
from mpt.insight.transfer import trials
from mpt.loading.hf import load_pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.recipes.bank import entries
from mpt.recipes.bank_search import ranked, start_of
from mpt.rundir.directory import RunDir
from mpt.training.loop import train_stage
from mpt.training.stage import Stage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bank")
    parser.add_argument("--targets", nargs="+", default=["movies", "tweets", "editorials", "sarcasm", "bbc"])
    parser.add_argument("--shots", type=int, default=16, help="training rows per class")
    parser.add_argument("--steps", type=int, default=8, help="of the adaptation, 4 rows each")
    parser.add_argument("--test-rows", type=int, default=120)
    parser.add_argument("--max-length", type=int, default=40)
    options = parser.parse_args()
    held = list(entries(Bank(options.bank)))
    pretrained = load_pretrained(held[0].card.backbone)
    backbone, rows = pretrained.backbone, []
    for name in options.targets:
        task = find_task(name)
        _, (few,) = training_rows(task, options.shots, [0], options.max_length, pretrained)
        test = held_out(task, "test", options.test_rows, options.max_length, pretrained).rows
        strangers = [entry for entry in held if name not in entry.card.prompts]
        found = ranked(task, few, strangers, pretrained, steps=8, seed=0).candidates
        starts = [start_of(candidate.entry) for candidate in found]
        as_is = [trial.accuracy for trial in trials(backbone, task, test, starts)]
        config = TrainConfig(steps=options.steps, batch_size=4 * len(starts), learning_rate=0.002)
        with tempfile.TemporaryDirectory() as scratch:
            start = Prompted(backbone, SoftPrompt(jnp.stack(starts)))
            names = [candidate.entry.name for candidate in found]
            stage = Stage("adapt", start, [few] * len(starts), config, tasks=names)
            model, _ = train_stage(stage, RunDir(Path(scratch)))
        adapted = [trial.accuracy for trial in trials(backbone, task, test, list(model.prompt.compose()))]
        columns = {
            "similarity": [candidate.similarity for candidate in found],
            "loss": [-candidate.trial.loss for candidate in found],
            "accuracy": [candidate.trial.accuracy for candidate in found],
            "rank": [-candidate.rank for candidate in found],
        }
        for truth, figures in (("as it is", as_is), ("adapted", adapted)):
            correlations = {
                column: float(spearmanr(values, figures).statistic) for column, values in columns.items()
            }
            chosen = {"chosen": figures[0], "best": max(figures), "mean": float(np.mean(figures))}
            rows.append({"target": name, "truth": truth, "prompts": len(found), **correlations, **chosen})
        report("bank_search", rows)  # after each target: they take minutes
        for candidate, *figures in zip(found, as_is, adapted):
            print(candidate.entry.name, f"{candidate.similarity:.4f}", *candidate.trial, *figures, flush=True)


if __name__ == "__main__":
    main()
