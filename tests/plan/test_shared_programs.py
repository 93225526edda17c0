"""What a plan says of the programs that are compiled, beside those that runs compile."""

from __future__ import annotations

import jax
import pytest

from mpt.comparison.config import CompareConfig
from mpt.comparison.entries import OURS
from mpt.config.yaml_file import from_plain
from mpt.methods import AdaptConfig
from mpt.plan.here.programs import LONG, SEARCH, programs
from mpt.plan.reading import outline
from mpt.plan.stages import stages
from mpt.recipes.adapt import adapt
from mpt.training.step import train_step

SHAPES = {
    "one shape": ([{"start": "text", "text": "Read it."}, {"start": "vocabulary"}], 1),
    "two lengths": ([{"length": 4}, {"length": 3}], 2),
}


@pytest.mark.parametrize(("vectors", "expected"), SHAPES.values(), ids=list(SHAPES))
def test_runs_compile_as_many_training_steps_as_planned(vectors, expected, tmp_path, plain_adapt, pretrained):
    configs = []
    for i, keys in enumerate(vectors):
        plain = plain_adapt | {"out": str(tmp_path / str(i)), "vectors": {"length": 4} | keys}
        configs.append(from_plain(AdaptConfig, plain, "test"))
    planned = [one for config in configs for one in stages(config, outline(config.model))[1]]
    assert programs(planned, [1.0] * len(planned)).training == expected
    jax.clear_caches()
    for config in configs:
        adapt(config, pretrained)
    assert train_step._cache_size() == expected


def test_methods_of_a_comparison_share_programs(plain_pretrain, plain_adapt, toy):
    adapted = {name: value for name, value in plain_adapt.items() if name not in ("model", "task")}
    methods = [OURS, "prompt tuning from vocabulary", "prompt tuning from instruction"]
    plain = {"pretrain": plain_pretrain, "targets": [toy["mood"]], "methods": methods, "adapt": adapted}
    config = from_plain(CompareConfig, plain, "test")
    _, planned = stages(config, outline(config.model))
    assert len(planned) == 5
    assert programs(planned, [1.0, 1.0, 1.0, 0.0]) == (4, 4)


def test_searches_and_long_stages_compile_more(plain_adapt):
    def training(**train) -> int:
        config = from_plain(AdaptConfig, plain_adapt | {"train": train}, "test")
        return programs(stages(config, outline(config.model))[1], [1.0]).training

    assert training(steps=100, batch_size=8) == 1
    assert training(steps=101, batch_size=8) == LONG
    assert training(steps=-1, batch_size=8) >= 1 + SEARCH
