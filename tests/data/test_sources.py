"""Sources give the records of a split: of files, or of rows that Python holds or makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.records import Fault
from mpt.data.sources import Files, Rows, with_label_names
from mpt.data.splits import SPLITS
from mpt.errors import UserError

LINE = '{"text": "a"}\n'


def texts(source, split) -> list[str]:
    return [record.columns["text"] for record in source.load(split)]


def test_named_split_is_read_whole(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINE * 2)
    assert texts(Files({"test": tmp_path / "a.jsonl"}), "test") == ["a", "a"]


@pytest.mark.parametrize("make", [lambda path: Files({"train": path}), lambda path: Rows({"train": []})])
def test_split_that_is_not_there(tmp_path, make):
    source = make(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r" has no test split; it has train: name it in the task's source"):
        list(source.load("test"))


def test_first_fault_stops_loading(tmp_path):
    (tmp_path / "a.jsonl").write_text(LINE + "{\n" + LINE + "[\n")
    source = Files({"train": tmp_path / "a.jsonl"})
    loaded = source.load("train")
    assert next(loaded).columns == {"text": "a"}
    with pytest.raises(Fault, match=r"a.jsonl:2: not JSON: "):
        next(loaded)
    assert [isinstance(row, Fault) for row in source.rows("train")] == [False, True, False, True]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=20))
def test_rows_of_python(values):
    rows = [{"text": value} for value in values]
    for table in (rows, lambda: iter(rows)):
        assert texts(Rows({"train": table}), "train") == values
        whole = Rows({"all": table})
        assert sorted(text for split in SPLITS for text in texts(whole, split)) == sorted(set(values))


def test_rows_can_be_loaded_again():
    source = Rows({"train": lambda: ({"text": str(i)} for i in range(3))})
    assert texts(source, "train") == texts(source, "train") == ["0", "1", "2"]


def test_rows_keep_groups_together():
    source = Rows({"all": [{"text": str(i), "of": str(i // 10)} for i in range(200)]}, group="of")
    groups = [{record.columns["of"] for record in source.load(split)} for split in SPLITS]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20


def test_iterator_that_is_read_once_is_refused():
    with pytest.raises(UserError, match="train rows: an iterator can be read only once; give a list"):
        Rows({"train": iter([{"text": "a"}])})


@pytest.mark.parametrize("row", ["a text", {1: "a"}, None])
def test_row_that_is_no_mapping_is_named(row):
    with pytest.raises(UserError, match=r"train row 1: .* is not a mapping from column names"):
        list(Rows({"train": lambda: iter([{"text": "a"}, row])}).load("train"))


def test_hidden_and_missing_labels_have_no_name():
    class Names:
        def int2str(self, number):
            return ("no", "yes")[number]

    found = [with_label_names({"label": label}, {"label": Names()})["label"] for label in (1, 0, -1, None)]
    assert found == ["yes", "no", -1, None]
