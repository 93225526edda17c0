"""A comparison's rows are those that its config asks for."""

import json

import pytest
from toys import refused

from mpt import cli
from mpt.config import AdaptConfig, CompareConfig
from mpt.recipes.compare import ROWS


def test_default_rows_are_known_and_in_the_tables_order():
    assert list(CompareConfig().methods) == [name for name in ROWS if name in CompareConfig().methods]


def test_only_what_is_asked_for_runs(tmp_path, compare_file, capsys):
    out = tmp_path / "run"
    methods = ("in-context examples", "LoRA")
    assert cli.main(["compare", str(compare_file), "--out", str(out), "--methods", *methods]) == 0
    results = json.loads((out / "results.json").read_text())
    assert list(results) == list(methods)
    assert not (out / "pretrain").exists()
    table = (out / "results.md").read_text()
    assert "| in-context examples | " in table
    assert "| 0 | 0 | 0 |" in table.splitlines()[2]
    assert "universal" not in table


def test_unknown_method(compare_file, capsys, tmp_path):
    error = refused(capsys, "compare", str(compare_file), "--out", str(tmp_path / "x"), "--methods", "Lora")
    assert "compare: methods: no method 'Lora'; did you mean 'LoRA'?" in error
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ROWS)
def test_row_says_what_it_starts_from(name):
    row, base = ROWS[name], AdaptConfig(prompt="", freeze_shared=True, seeds=(0, 1))
    config = row.config(base, "sources", 0.5)
    assert config.method == row.method
    assert config.prompt == ("sources" if row.universal else "")
    assert config.freeze_shared is row.freeze_shared
    assert (config.train.learning_rate == 0.5) is (not row.universal or row.method == "attempt")
    assert len(config.seeds) == (2 if row.trained else 1)
