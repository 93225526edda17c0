"""The benchmark for a GPU, without one: packing, resuming, its table, and every part of it at tiny sizes."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import ROOT

GPU = ROOT / "benchmarks" / "gpu"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    for folder in (ROOT / "benchmarks", GPU):
        monkeypatch.syspath_prepend(folder)


def bash(script: str, *arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", GPU / script, *arguments], capture_output=True, text=True)


@pytest.fixture
def packed(tmp_path) -> Path:
    """A folder of eleven small pieces."""
    content = tmp_path / "content"
    (content / "wheels").mkdir(parents=True)
    (content / "rows.json").write_text("[1, 2, 3]")
    (content / "wheels" / "a.whl").write_bytes(np.random.default_rng(0).bytes(20_000))
    size = -(-(content / "wheels" / "a.whl").stat().st_size // 7)
    done = bash("split.sh", content, tmp_path / "packed", str(size))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "packed").iterdir())) > 9  # so that a wrong order of their numbers shows
    return tmp_path / "packed"


def test_pieces_are_put_together_as_they_were(packed, tmp_path):
    for _ in range(2):
        done = bash("join.sh", packed)
        assert done.returncode == 0, done.stderr
    for name in ("rows.json", "wheels/a.whl"):
        assert (packed / "given" / name).read_bytes() == (tmp_path / "content" / name).read_bytes()


def test_a_damaged_or_a_missing_piece_is_named_and_nothing_unpacked(packed):
    piece = packed / "3" / "piece"
    piece.write_bytes(b"x" + piece.read_bytes()[1:])
    done = bash("join.sh", packed)
    assert done.returncode != 0 and "3/piece" in done.stdout + done.stderr
    piece.unlink()
    done = bash("join.sh", packed)
    assert done.returncode != 0 and "3/piece is missing" in done.stderr
    assert not (packed / "given").exists()


def test_what_has_been_measured_is_skipped_and_what_failed_is_not(tmp_path):
    from results import Results

    results = Results(tmp_path / "new" / "results.jsonl")
    results.add("a step", "PEFT", {"rows/s": 2.0})
    results.add("a step", "mpt", {"error": "out of memory"})
    again = Results(results.file)
    assert again.has("a step", "PEFT") and not again.has("a step", "mpt") and not again.has("other", "mpt")


def test_the_table_compares_only_what_computes_the_same(tmp_path):
    from results import Results, table

    results = Results(tmp_path / "results.jsonl")
    results.add("peak", "mpt", {"TFLOP/s": 500.0})
    for case, cosine, loss in (
        ("a bfloat16", 0.5, 0.001),
        ("b bfloat16", 0.5, 0.1),
        ("d float32", 0.99, 0.001),
    ):
        results.add(case, "PEFT", {"rows/s": 10.0, "GB": 4.0})
        found = {"rows/s": 30.0, "step s": 2.0, "TFLOP": 250.0, "GB": 1.0, "loss": 2.0}
        results.add(case, "mpt", found | {"cosine": cosine, "loss differs by": loss})
    results.add("c bfloat16", "mpt", {"error": "out of memory"})
    shown = table(results, datasheet=1000.0)
    first, *others = (line.split(" | ") for line in shown.splitlines() if "| mpt |" in line)
    assert first[1:10] == ["10", "mpt", "30", "3", "4", "1", "0.25", "0.25", "0.125"]
    assert [line[4] for line in others] == ["not compared"] * 2
    assert "- c bfloat16, mpt: out of memory" in shown


def test_a_profile_names_what_takes_the_longest_on_the_device(tmp_path):
    from operations import longest_operations

    events = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 7, "args": {"name": "Stream #7(Compute)"}},
        {"ph": "M", "name": "thread_name", "pid": 2, "tid": 1, "args": {"name": "python"}},
        {"ph": "X", "name": "gemm", "pid": 1, "tid": 7, "dur": 30, "args": {"hlo_op": "dot.1"}},
        {"ph": "X", "name": "copy", "pid": 1, "tid": 7, "dur": 10},
        {"ph": "X", "name": "waiting", "pid": 2, "tid": 1, "dur": 900},
    ]
    (tmp_path / "host.trace.json.gz").write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    first, second = longest_operations(tmp_path, 5)
    assert first == {"share": 0.75, "operation": "gemm · dot.1"}
    assert second == {"share": 0.25, "operation": "copy"}


def test_a_step_has_rows_of_just_so_many_tokens_and_the_token_after_each():
    from cases import Step
    from given import Rows

    rows = Rows([list(range(5)), list(range(5, 20))], [[1]])
    assert rows.for_step(Step(1, 2, 4), vocab=100)[1] == ([4, 5, 6, 7], [8], (), 0)


def test_jax_and_numpy_scramble_alike():
    import weights

    drawn = weights.RandomTensors({"a.weight": [300, 7], "norm": [5]}, Path("here"))["a.weight"]
    bits = weights.scrambled(np.arange(2100), weights.seed_of("a.weight"))
    numbers, middle, factor = weights.whole_numbers(bits, 2)
    expected = ((2 * numbers - middle) * factor).reshape(300, 7)
    np.testing.assert_array_equal(np.asarray(drawn, np.float32), expected)
    assert abs(expected.mean()) < 2e-3 and 0.017 < expected.std() < 0.019


def test_a_worker_that_takes_too_long_or_ends_is_an_error_that_can_be_caught(tmp_path, monkeypatch):
    import duel

    (tmp_path / "slow.py").write_text("import sys, time\nfor line in sys.stdin: time.sleep(600)\n")
    (tmp_path / "gone.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(duel, "HERE", tmp_path)
    with pytest.raises(duel.Ended, match="gave no answer in 1 s"):
        duel.Worker("slow", within=1.0)
    with pytest.raises(duel.Ended, match="ended with 3"):
        duel.Worker("gone", within=60.0)


@pytest.mark.full
def test_every_part_runs_at_tiny_sizes_and_agrees_with_peft(torch, peft, tmp_path):
    file = tmp_path / "results.jsonl"
    command = ["bash", GPU / "run.sh", "--tiny", "--seconds", "3000", "--results", file]
    for _ in range(2):  # the second run finds everything done
        done = subprocess.run(
            [*command, "--scratch", tmp_path / "scratch"],
            env=os.environ | {"PYTHON": sys.executable, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert not [line for line in lines if "error" in line]
    assert len({(line["case"], line["program"]) for line in lines}) == len(lines) == 17
    steps = [line for line in lines if "cosine" in line]
    assert len(steps) == 6 and all(line["gradient differs by"] < 1e-4 for line in steps)
    assert [line["same answers"] for line in lines if "same answers" in line] == [1, 1]
    assert [line["operations"] for line in lines if line["program"] == "profile"] != [[]]
    assert "not compared" not in file.with_suffix(".md").read_text()
