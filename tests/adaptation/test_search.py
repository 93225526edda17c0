import json

from mpt.config.options import ModelConfig, PromptConfig, SearchConfig
from mpt.methods import AdaptConfig
from mpt.recipes.adapt import adapt


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
        **options,
    )
    return adapt(config), json.loads((tmp_path / "run" / "search.json").read_text())


def test_an_adaptation_without_steps_finds_them(tmp_path, tiny_model, toy):
    result, found = searched(tmp_path, tiny_model, toy["tone"])
    assert found["steps"] in (4, 8, 12) and set(found["rates"]) == {"0.5", "1", "2"}
    assert result.steps == found["steps"]
