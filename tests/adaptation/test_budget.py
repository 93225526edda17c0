import json

import pytest

from mpt.adaptation.search import Candidate, Split, affordable, splits_of
from mpt.config.options import ModelConfig, PromptConfig, SearchConfig
from mpt.methods import AdaptConfig
from mpt.recipes.adapt import adapt
from mpt.types import Row


def searched(tmp_path, tiny_model, task, **options):
    config = AdaptConfig(
        out=str(tmp_path / "run"),
        model=ModelConfig(str(tiny_model)),
        task=task,
        shots=8,
        max_length=24,
        test_rows=40,
        vectors=PromptConfig(length=4),
        search=SearchConfig(every=4, steps=12, rows=4),
        baselines=False,
        **options,
    )
    return adapt(config), json.loads((tmp_path / "run" / "search.json").read_text())


def test_an_adaptation_without_steps_finds_them(tmp_path, tiny_model, toy):
    result, found = searched(tmp_path, tiny_model, toy["tone"])
    assert found["steps"] in (4, 8, 12) and set(found["rates"]) == {"0.5", "1", "2"}
    assert result.steps == found["steps"] + found["steps_on_all_rows"]


@pytest.mark.parametrize(
    ("rows", "validation", "learnt", "held_out", "splits"),
    [(16, 0, 8, 8, 2), (96, 0, 64, 32, 1), (400, 0, 266, 134, 1), (400, 50, 400, 50, 1)],
)
def test_rows_are_held_out(rows, validation, learnt, held_out, splits):
    train = [Row([i], [0], ((0,), (1,)), i % 2) for i in range(rows)]
    found = splits_of(train, [Row([-1], [0])] * validation, 0)
    assert [(len(split.learnt), len(split.held_out)) for split in found] == [(learnt, held_out)] * splits
    for split in found:
        assert not {row.inputs[0] for row in split.learnt} & {row.inputs[0] for row in split.held_out}
        if not validation:
            assert sum(row.label for row in split.learnt) == learnt // 2  # alike in their classes


def test_minutes_bound_the_steps():
    options = SearchConfig(rows=8, every=8, minutes=3.0)
    split = Split([], [Row([0], [0])] * 24)
    # 0.5 s a row: a step reads 8 rows, its part of a look 1 and of what follows 8; 124 s are left.
    assert affordable(options, 24.0, 48, [Candidate(1.0, split)], 16) == int((180 - 24 - 32) / (0.5 * 17))
    assert affordable(options, 600.0, 48, [Candidate(1.0, split)], 16) == 1
