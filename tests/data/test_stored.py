"""Rows on disk are those that tokenising gives, and are made anew whenever that may give others."""

import json

import pytest

import mpt.data.stored
from mpt.data.sources import Files, Rows
from mpt.data.stored import stored_rows
from mpt.data.task import Task
from mpt.data.tokenise import encode

WORDS = {"0": "no", "1": "yes"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


@pytest.fixture
def tokenizer(pretrained):
    return pretrained.tokenizer


def rows_of(count: int) -> list[dict[str, str]]:
    return [{"text": "it is " * (i % 4) + str(i), "label": str(i % 2)} for i in range(count)]


def of_file(path, count=9, **rest) -> Task:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(count)))
    return Task("toy", Files({"train": path}), "{text}\nSo:", WORDS, **rest)


def plain(rows) -> list[tuple]:
    """Rows as lists, for comparison."""
    return [
        (list(row.inputs), list(row.targets), [list(choice) for choice in row.choices], row.label)
        for row in rows
    ]


@pytest.mark.parametrize("layout", ["decoder", "encoder-decoder"])
def test_rows_are_those_of_tokenising(tmp_path, tokenizer, layout):
    task = of_file(tmp_path / "a.jsonl")
    found = stored_rows(task, "train", tokenizer, 32, layout)
    assert plain(found) == plain(encode(list(task.examples("train")), tokenizer, 32, layout))
    assert found.labels.tolist() == [i % 2 for i in range(9)]


def test_cut_rows_are_told_of_when_they_are_read_again(tmp_path, tokenizer, capsys):
    task = of_file(tmp_path / "a.jsonl")
    for _ in range(2):
        found = stored_rows(task, "train", tokenizer, 12, "decoder")
        assert found.lost.tolist() == [
            row.lost for row in encode(list(task.examples("train")), tokenizer, 12)
        ]
        assert [row.lost for row in found] == found.lost.tolist()
        cut = sum(found.lost > 0)
        assert 0 < cut < 9
        told = f"{cut} of 9 train rows of task toy are longer than max_length, 12 tokens, and are truncated: "
        assert told in capsys.readouterr().err


def test_rows_of_free_text_have_no_choices(tokenizer):
    task = Task("toy", Rows({"train": rows_of(3)}), "{text}", label="text")
    found = stored_rows(task, "train", tokenizer, 32, "decoder")
    assert plain(found) == plain(encode(list(task.examples("train")), tokenizer, 32))


def test_rows_are_tokenised_once(tmp_path, tokenizer, monkeypatch):
    task = of_file(tmp_path / "a.jsonl")
    first = plain(stored_rows(task, "train", tokenizer, 32, "decoder"))
    monkeypatch.setattr(mpt.data.stored, "encode", lambda *_, **__: pytest.fail("tokenised again"))
    assert plain(stored_rows(task, "train", tokenizer, 32, "decoder")) == first


def test_what_may_change_the_rows_makes_them_anew(tmp_path, tokenizer, cache):
    def count() -> int:
        return len(list(cache.iterdir()))

    path = tmp_path / "a.jsonl"
    stored_rows(of_file(path), "train", tokenizer, 32, "decoder")
    assert count() == 1
    stored_rows(
        Task("toy", Files({"train": path}), "{text}\nThen:", WORDS), "train", tokenizer, 32, "decoder"
    )
    stored_rows(Task("toy", Files({"train": path}), "{text}\nSo:", WORDS), "train", tokenizer, 16, "decoder")
    assert count() == 3
    assert len(stored_rows(of_file(path, 12), "train", tokenizer, 32, "decoder")) == 12
    assert count() == 4


def test_rows_that_python_gives_are_not_kept(tokenizer, cache):
    task = Task("toy", Rows({"train": rows_of(5)}), "{text}", WORDS)
    assert len(stored_rows(task, "train", tokenizer, 32, "decoder")) == 5
    assert not cache.exists()


def test_an_interrupted_write_leaves_nothing(tmp_path, tokenizer, cache):
    task = of_file(tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(Exception, match=r"a\.jsonl:10: not JSON"):
        stored_rows(task, "train", tokenizer, 32, "decoder")
    assert not list(cache.iterdir())


@pytest.mark.full
def test_worker_processes_keep_the_order(tokenizer, monkeypatch):
    monkeypatch.setattr(mpt.data.stored, "CHUNK", 8)
    monkeypatch.setattr(mpt.data.stored, "SERIAL_CHUNKS", 1)
    task = Task("toy", Rows({"train": rows_of(50)}), "{text}\nSo:", WORDS)
    found = stored_rows(task, "train", tokenizer, 32, "decoder")
    assert plain(found) == plain(encode(list(task.examples("train")), tokenizer, 32))
