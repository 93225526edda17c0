"""`mpt predict` reads what training reads, by the same code, and answers line by line."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest

import mpt
from mpt import cli
from mpt.catalog.library import find_task
from mpt.inference.predict import CHUNK, classified

TEXTS = ["so glad", "it is sad", '"so" we', "é 日本"]


@pytest.fixture
def predict(adapted, capsys, monkeypatch, tmp_path):
    """The answers to what a file holds, or to the same from standard input; ``told`` is what else is said."""

    def answers(content: bytes, name: str = "", *options: str, status: int = 0) -> list:
        arguments = []
        if name:
            (tmp_path / name).write_bytes(content)
            arguments = ["--input", str(tmp_path / name)]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))
        capsys.readouterr()
        assert cli.main(["predict", str(adapted), *arguments, *options]) == status
        out, answers.told = capsys.readouterr()
        return [json.loads(line) for line in out.splitlines()]

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


BAD = {
    "jsonl": [b"{", b"[1]", b'{"txt": "so glad"}', b'{"text": null}', b'{"text": "caf\xe9"}', b"so glad"],
    "csv": [b"1,2,3", b"1,caf\xe9", b"1,so\0"],
    "tsv": [b"1\t2\t3", b"1\tcaf\xe9", b"1"],
    "txt": [b"caf\xe9", b"so\0", b'{"txt": "so glad"}', b'{"text": '],
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", ""])
def test_bad_lines_do_not_keep_the_good_ones_from_their_answers(predict, expected, name):
    """Each bad line has its error and its number in the answer's place; --strict writes nothing at all."""
    ending = name.rpartition(".")[2] or "txt"
    lines = table(ending).splitlines()
    head, rows, bad = lines[: -len(TEXTS)], lines[-len(TEXTS) :], BAD[ending]
    content = b"\n".join([*head, rows[0], *bad, b"", *rows[1:], bad[0]])
    first, *others = predict(content, name, status=1)
    told, others = others[: len(bad)], others[len(bad) :]
    last = others.pop()
    assert [first, *others] == [expected[0], None, *expected[1:]]
    numbers = [len(head) + 2 + i for i in range(len(bad))] + [len(head) + len(bad) + len(rows) + 2]
    assert [answer["line"] for answer in [*told, last]] == numbers
    place = name or "standard input"
    for answer, number in zip([*told, last], numbers):
        assert f"{place}:{number}: " in answer["error"]
    assert f"mpt: {len(bad) + 1} lines have an error for an answer, the first of them: " in predict.told
    assert f"{place}:{numbers[0]}: " in predict.told
    assert predict(content, name, "--strict", status=2) == []
    assert f"{place}:{numbers[0]}: " in predict.told


@pytest.mark.parametrize("bad", ["first", "last"])
def test_bad_lines_far_apart_are_all_told(predict, bad):
    """More lines than are read at a time."""
    lines = [b"so glad"] * (2 * CHUNK + 3)
    lines[0 if bad == "first" else -1] = b"\0"
    found = predict(b"\n".join(lines), status=1)
    assert len(found) == len(lines)
    assert ["error" in answer for answer in found] == [line == b"\0" for line in lines]


def test_empty_text_among_others_has_its_error(predict):
    found = predict(b'{"text": "so glad"}\n{"text": 3}\n{"text": ["a"]}\n', status=1)
    assert [sorted(answer)[0] for answer in found] == ["prediction", "prediction", "error"]


def test_bad_row_of_a_parquet_file_has_its_number(predict):
    content = pd.DataFrame({"text": ["so glad", None, "it is sad"]}).to_parquet()
    _, bad, _ = predict(content, "a.parquet", status=1)
    assert bad["line"] == 1
    assert "a.parquet row 1: column 'text' is empty" in bad["error"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,txt\n1,so glad\n2,so sad\n", "a.csv:2: no column 'text', which task mood needs"),
        ("a.tsv", b"txt\nso glad\n", "a.tsv:2: no column 'text'"),
        ("a.parquet", pd.DataFrame({"txt": TEXTS}).to_parquet(), "a.parquet row 0: no column 'text'"),
        ("a.csv", b"text,text\nso,glad\n", "two columns are named 'text'"),
        ("a.csv", b"t\xe9xt,text\nso,glad\n", "a.csv:1: not UTF-8"),
        ("a.csv", b'"text\nso glad\n', "a.csv:1: unexpected end of data"),
        ("a.parquet", b"nothing like it", "a.parquet: not a whole Parquet file"),
        ("a.json", b'[{"text": "so glad"}]', "make it JSONL"),
    ],
)
def test_fault_of_a_whole_file_is_told_once(predict, name, content, message):
    assert predict(content, name, status=2) == []
    assert message in predict.told


def test_rows_in_front_of_where_a_file_breaks_off_have_their_answers(predict, expected):
    whole = gzip.compress(table("jsonl") + b'{"text": "so"}\n' * 20000)
    found = predict(whole[: len(whole) // 2], "a.jsonl.gz", status=2)
    assert found[: len(expected)] == expected
    assert "not whole gzip data" in predict.told


def test_what_is_typed_is_answered_line_by_line(adapted, expected, monkeypatch, capsys):
    """On a terminal, the next line is read once the last one's answer is there."""
    answered = []

    class Terminal(io.StringIO):
        def __next__(self):
            answered.append(capsys.readouterr().out)
            return super().__next__()

        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("\n".join(TEXTS)))
    assert cli.main(["predict", str(adapted)]) == 0
    first, *others = [*answered, capsys.readouterr().out]
    assert first == "" and [json.loads(line) for text in others if text for line in [text]] == expected


@pytest.mark.parametrize("gap", [1e-9, -1e-9, 4e-7, -4e-7, 0.0])
def test_near_ties_are_decided_as_in_an_evaluation(toy, gap):
    task = find_task(toy["tone"])
    probabilities = np.array([0.5 - gap, 0.5 + gap])
    found = classified(task, probabilities.tolist())["prediction"]
    assert task.verbalizer[found] == task.choices[probabilities.argmax()]
