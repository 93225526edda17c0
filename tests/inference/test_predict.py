"""`mpt predict` reads what training reads, by the same code, and answers line by line."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from toys import refused

import mpt
from mpt import cli
from mpt.catalog.library import find_task
from mpt.inference.predict import classified

TEXTS = ["so glad", "it is sad", '"so" we', "é 日本"]


@pytest.fixture
def predict(adapted, capsys, monkeypatch, tmp_path):
    """The answers to what a file holds, or to the same from standard input."""

    def answers(content: bytes, name: str = "") -> list:
        arguments = []
        if name:
            (tmp_path / name).write_bytes(content)
            arguments = ["--input", str(tmp_path / name)]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))
        capsys.readouterr()
        assert cli.main(["predict", str(adapted), *arguments]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return answers


def table(ending: str, texts=TEXTS) -> bytes:
    frame = pd.DataFrame({"id": range(len(texts)), "text": texts})
    match ending:
        case "jsonl":
            return frame.to_json(orient="records", lines=True).encode()
        case "csv":
            return frame.to_csv(index=False).encode()
        case "tsv":
            return "".join(f"{a}\t{b}\n" for a, b in [frame.columns, *frame.to_numpy()]).encode()
        case "parquet":
            return frame.to_parquet()
        case _:
            return "\n".join(texts).encode()


@pytest.fixture
def expected(adapted):
    run = mpt.load(adapted)
    found = run.predict(TEXTS)
    assert len({answer["probabilities"]["yes"] for answer in found}) == len(TEXTS)
    assert (
        run.predict(pd.DataFrame({"text": TEXTS})) == run.predict([{"text": text} for text in TEXTS]) == found
    )
    return found


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.txt", "a", ""])
def test_every_kind_of_input_has_the_same_answers(predict, expected, name):
    assert predict(table(name.rpartition(".")[2]), name) == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", ""])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_marks_and_line_ends_of_other_systems_change_nothing(predict, expected, name, end):
    content = b"\xef\xbb\xbf" + table(name.rpartition(".")[2]).replace(b"\n", end)
    assert predict(content, name) == expected


def test_a_mark_before_json_on_standard_input(predict):
    first, second = predict(b'\xef\xbb\xbf{"text": "so glad"}\n{"text": "so glad"}\n')
    assert first == second


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", ""])
def test_each_line_has_its_answer(predict, expected, name):
    """A blank line is answered by null, and so the answers stand beside the lines."""
    lines = table(name.rpartition(".")[2]).splitlines()
    head, rows = lines[: -len(TEXTS)], lines[-len(TEXTS) :]
    content = [*head, rows[0], b"", rows[1], b"", b"", *rows[2:], b"", b""]
    one, two, *others = expected
    assert predict(b"\n".join(content), name) == [one, None, two, None, None, *others, None]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", ""])
def test_other_encodings_are_told_of_with_their_line(adapted, capsys, monkeypatch, tmp_path, name):
    texts = ["so glad", "café"]
    content = table(name.rpartition(".")[2], texts).decode("unicode_escape" if "jsonl" in name else "utf-8")
    content = content.encode("latin-1")
    (tmp_path / (name or "a")).write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))
    place = name or "standard input"
    number = 3 if name in ("a.csv", "a.tsv") else 2
    error = refused(capsys, "predict", str(adapted), *(["--input", str(tmp_path / name)] if name else []))
    assert f"{place}:{number}: not UTF-8 (byte 0xe9); save it as UTF-8" in error


def test_an_array_of_json_is_not_read_as_text(adapted, capsys, tmp_path):
    (tmp_path / "a.json").write_text('[{"text": "so glad"}]')
    assert "make it JSONL" in refused(capsys, "predict", str(adapted), "--input", str(tmp_path / "a.json"))


@pytest.mark.parametrize("gap", [1e-9, -1e-9, 4e-7, -4e-7, 0.0])
def test_near_ties_are_decided_as_in_an_evaluation(toy, gap):
    task = find_task(toy["tone"])
    probabilities = np.array([0.5 - gap, 0.5 + gap])
    found = classified(task, probabilities.tolist())["prediction"]
    assert task.verbalizer[found] == task.choices[probabilities.argmax()]
