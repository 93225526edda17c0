import json
import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from mpt.adaptation import search
from mpt.adaptation.budget import Budget
from mpt.adaptation.splits import splits_of
from mpt.adaptation.time_limit import affordable
from mpt.config.adapt import SearchConfig
from mpt.config.methods import ContextConfig
from mpt.config.options import ModelConfig, PromptConfig
from mpt.loading.hf import load_pretrained
from mpt.methods import AdaptConfig, context, examples
from mpt.prompts import PromptParam, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt
from mpt.recipes.adapt import adapt
from mpt.types import Row

SEARCH = SearchConfig(every=4, steps=12, rows=4)


def searched(tmp_path, tiny_model, task, search=SEARCH, **options):
    config = AdaptConfig(
        out=str(tmp_path / "run"),
        model=ModelConfig(str(tiny_model)),
        task=task,
        shots=8,
        max_length=24,
        test_rows=40,
        vectors=PromptConfig(length=4),
        search=search,
        baselines=False,
        **options,
    )
    result = adapt(config)
    (file,) = (tmp_path / "run").glob("search*.json")
    return result, json.loads(file.read_text())


def test_an_adaptation_without_steps_finds_them(tmp_path, tiny_model, toy):
    result, found = searched(tmp_path, tiny_model, toy["tone"])
    assert found["steps"] in (0, 4, 8, 12) and set(found["rates"]) == {"0.5", "1", "2"}
    assert result.steps == found["steps"] + found["steps_on_all_rows"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_rates_of_whole_models_are_tried_in_turn(tmp_path, tiny_model, toy, method):
    result, found = searched(tmp_path, tiny_model, toy["tone"], method=method)
    assert found["steps"] in (0, 4, 8, 12) and set(found["rates"]) == {"0.5", "1", "2"}
    assert result.steps == found["steps"] + found["steps_on_all_rows"]
    least = {rate: min(losses_of(tmp_path / "run" / f"search-x{rate}-0")) for rate in found["rates"]}
    assert least == found["rates"]
    assert found["rates"][f"{found['chosen']:g}"] == min(least.values())
    assert not list((tmp_path / "run").glob("*/checkpoints")) or method == "lora"


def losses_of(stage):
    lines = map(json.loads, (stage / "metrics.jsonl").read_text().splitlines())
    return [line["held-out loss"] for line in lines if "held-out loss" in line]


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


def test_the_time_that_is_left_bounds_the_steps():
    # 0.5 s a row: a step reads 8 rows, its part of a look 1, of what follows 8; 8 of those come first.
    of = {"rows": 8, "held_out": 24, "every": 8, "rows_after": 16}
    assert affordable(156.0, 0.5, **of) == pytest.approx((156 - 32) / (0.5 * 17))
    assert affordable(-1.0, 0.5, **of) == 1
    assert affordable(math.inf, 0.5, **of) == affordable(156.0, 0.0, **of) == math.inf


def test_an_adaptation_of_no_time_takes_the_least_steps(tmp_path, tiny_model, toy):
    _, found = searched(tmp_path, tiny_model, toy["tone"], minutes=1e-9)
    assert found["steps"] in (0, 4, 5)


def test_a_start_that_no_step_improves_is_kept(tmp_path, tiny_model, toy):
    result, found = searched(tmp_path, tiny_model, toy["tone"], replace(SEARCH, rates=(1e4,)))
    assert found["steps"] == found["steps_on_all_rows"] == result.steps == 0
    least, *trained = (loss for _, loss in found["held_out_loss"])
    assert trained and least < min(trained)
    assert any("none was taken" in remark for remark in result.remarks)
    prompt, _ = load_prompt(tmp_path / "run", "adapted")
    assert not np.any(prompt.last[...]) and np.any(prompt.bias[...])


@pytest.mark.parametrize("scratch", [True, False])
def test_a_source_is_compared_with_a_start_from_scratch(tmp_path, tiny_model, toy, universal, scratch):
    options = replace(SEARCH, scratch=scratch)
    result, found = searched(tmp_path, tiny_model, toy["tone"], options, prompt=str(universal))
    if not scratch:
        assert "starts" not in found
        return
    losses = found["starts"]
    assert list(losses) == [str(universal), "instruction"]
    assert found["start"] == min(losses, key=losses.get)
    tried = found["held_out_loss"][0][1], found["rates"][f"{found['chosen']:g}"]
    assert min(tried) == losses[found["start"]]
    assert any(remark.startswith("Starts: held-out loss ") for remark in result.remarks)
    card = (tmp_path / "run" / "prompts" / "adapted.md").read_text()
    assert ("started from instruction" in card) == (found["start"] == "instruction")


@pytest.mark.parametrize("part", [0.5, 1.0])
def test_half_of_what_a_universal_prompt_learns_is_kept_or_all(
    tmp_path, tiny_model, toy, universal, monkeypatch, part
):
    monkeypatch.setattr(search, "CLEARLY", 0.0)  # steps are taken
    monkeypatch.setattr(search, "chosen", lambda losses: min(losses) if part == 0.5 else max(losses))
    options = replace(SEARCH, scratch=False, rates=(1.0,))
    result, found = searched(tmp_path, tiny_model, toy["tone"], options, prompt=str(universal))
    assert found["steps"] and found.get("interpolation", 1.0) == part
    assert any(remark.startswith("Kept: 50% of the trained") for remark in result.remarks) == (part == 0.5)


def test_the_kept_values_are_between_those_before_and_after_training(tiny_model):
    backbone = load_pretrained(str(tiny_model)).backbone
    before, after = (
        Prompted(backbone, SoftPrompt(jnp.full((1, 2, backbone.embedding.shape[1]), value)))
        for value in (1.0, 3.0)
    )
    found = search.Found(1.0, 8, 0, {}, [], None, after, 0.0, part=0.25)
    assert np.all(Budget(found, None, before).kept(after, PromptParam).prompt.vectors[...] == 1.5)
    assert np.all(Budget(found).kept(after, PromptParam).prompt.vectors[...] == 3.0)


def test_a_prompt_from_scratch_is_kept_whole(tmp_path, tiny_model, toy):
    _, found = searched(tmp_path, tiny_model, toy["tone"])
    assert "interpolation" not in found


def test_a_prompt_that_starts_from_examples_is_shown_none_that_are_held_out(
    tmp_path, tiny_model, toy, monkeypatch
):
    shown = []

    def in_context(task, rows, *others):
        shown.append({tuple(row.inputs) for row in rows})
        return examples.in_context(task, rows, *others)

    monkeypatch.setattr(context, "in_context", in_context)
    searched(tmp_path, tiny_model, toy["tone"], method="context", context=ContextConfig(tokens=48))
    *tried, every = shown
    halves = tried[:2]
    assert tried == halves * 3 and not halves[0] & halves[1] and halves[0] | halves[1] == every
