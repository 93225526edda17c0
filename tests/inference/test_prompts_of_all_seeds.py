"""Where each seed of an adaptation found its own steps, its prompts are in files of their own."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

import mpt
from mpt.config.adapt import SearchConfig
from mpt.errors import UserError
from mpt.inference.run_prompts import of_all_seeds

SEARCH = SearchConfig(every=2, steps=4, rows=4, probe=False)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, tiny_model, toy):
    """method -> a run of two seeds."""
    backbone = mpt.load_backbone(str(tiny_model))
    options = {"vectors": {"length": 4}, "max_length": 24, "test_rows": 8, "baselines": False, "shots": 4}

    def run(method: str):
        out = tmp_path_factory.mktemp("seeds") / "run"
        options_of = options | {"method": method, "search": SEARCH, "seeds": (0, 1)}
        return mpt.adapt(backbone, toy["tone"], out, **options_of)

    return {method: run(method) for method in ("prompt", "classifier")}


@pytest.mark.parametrize("method", ["prompt", "classifier"])
def test_a_run_has_the_prompts_of_all_its_seeds(searched, method):
    run = searched[method]
    files = [run.path / "prompts" / f"adapted-{seed}.safetensors" for seed in (0, 1)]
    each = [load_file(file)["vectors"] for file in files]
    np.testing.assert_array_equal(run.vectors, np.concatenate(each))
    assert run.card.seeds == [0, 1] and run.card.prompts == ["tone", "tone"]
    assert len(run.words(count=2, index=1)) == 4
    with pytest.raises(UserError, match=r"no prompt 2; it has 2, from 0$"):
        run.words(index=2)


def test_an_export_has_the_prompts_of_all_seeds(searched):
    folder = searched["prompt"].export("peft")
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0-tone", "1-tone"]
    for place, vectors in enumerate(searched["prompt"].vectors):
        found = load_file(folder / f"{place}-tone" / "adapter_model.safetensors")["prompt_embeddings"]
        np.testing.assert_array_equal(found, vectors)


def test_the_figures_of_a_card_are_means_over_the_seeds(searched):
    run = searched["prompt"]
    _, _, card = of_all_seeds(run.path)
    assert card.metrics["test accuracy"] == pytest.approx(np.mean(run.results[0].scores))
