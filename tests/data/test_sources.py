"""Files become records, one of each text, in splits that do not move."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.data.sources import Files, Record, read_file, split_by_hash
from mpt.errors import UserError

SPLITS = ("train", "validation", "test")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ROWS = st.lists(st.fixed_dictionaries({"text": TEXTS, "label": TEXTS}), max_size=20)
# A CSV reader cannot tell a bare carriage return or NUL apart from broken files.
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=12)
TABLE = st.lists(st.fixed_dictionaries({"text": CELLS, "label": CELLS}), max_size=20)


def records(rows) -> list[Record]:
    return [Record(f"row {i}", row) for i, row in enumerate(rows)]


def columns(found) -> list[dict]:
    return [dict(record.columns) for record in found]


@given(ROWS)
def test_jsonl_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert columns(read_file(path)) == rows


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t")])
@given(rows=TABLE)
def test_table_round_trip(tmp_path_factory, ending, delimiter, rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["text", "label"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("rows") / f"rows{ending}"
    path.write_bytes(text.getvalue().encode())
    assert columns(read_file(path)) == rows


def test_blank_lines_are_skipped_and_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"}\n')
    assert [record.where for record in read_file(path)] == [f"{path}:1", f"{path}:3"]


def test_byte_order_mark_is_no_part_of_the_header(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\na,b\n".encode("utf-8-sig"))
    assert columns(read_file(path)) == [{"text": "a", "label": "b"}]


def test_quoted_cell_may_hold_lines_and_commas(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"a,\nb",x\n')
    assert columns(read_file(path)) == [{"text": "a,\nb", "label": "x"}]


@given(ROWS)
def test_splits_are_disjoint_and_hold_each_text_once(rows):
    found = [
        record.columns["text"] for split in SPLITS for record in split_by_hash(records(rows), split, "label")
    ]
    assert sorted(found) == sorted({row["text"] for row in rows})


@given(ROWS, ROWS, st.randoms())
def test_split_of_a_text_stays_when_rows_come_and_move(rows, more, random):
    def place(rows):
        return {
            record.columns["text"]: split
            for split in SPLITS
            for record in split_by_hash(records(rows), split, "label")
        }

    shuffled = [*rows, *more]
    random.shuffle(shuffled)
    assert place(rows).items() <= place(shuffled).items()


def test_split_does_not_depend_on_the_label():
    places = [
        [split for split in SPLITS if split_by_hash(records([{"text": "a", "label": label}]), split, "label")]
        for label in ("yes", "no")
    ]
    assert places[0] == places[1]


def test_group_stays_together():
    rows = [{"text": str(i), "group": str(i // 10), "label": "x"} for i in range(300)]
    groups = {
        split: {record.columns["group"] for record in split_by_hash(records(rows), split, "label", "group")}
        for split in SPLITS
    }
    assert all(groups.values())
    assert sum(map(len, groups.values())) == 30


def test_shares_of_the_splits():
    rows = records([{"text": str(i), "label": "x"} for i in range(2000)])
    shares = [len(split_by_hash(rows, split, "label")) / 2000 for split in SPLITS]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_named_split_is_read_whole(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "a"}\n')
    assert len(Files({"test": tmp_path / "a.jsonl"}).load("test")) == 2


def test_split_without_a_file_says_which_there_are(tmp_path):
    with pytest.raises(UserError, match=r"names no test file; it has train: add 'test: FILE'"):
        Files({"train": tmp_path / "a.jsonl"}).load("test")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a.jsonl:2: not JSON: Expecting value \(column 10\)"),
        ("a.jsonl", b"[1, 2]\n", r"a.jsonl:1: a list; each line must be an object"),
        ("a.jsonl", b'{"text": "\xff"}\n', r"a.jsonl: not UTF-8 \(byte 10\); save it as UTF-8"),
        ("a.csv", b"text,label\na,b\nc\n", r"a.csv:3: not 2 fields, as the header has; quote fields"),
        ("a.csv", b"text,label\na,b,c\n", r"a.csv:2: not 2 fields, as the header has; quote fields"),
        ("a.csv", b'text,label\na,b\n"a,b\n', r"a.csv:3: .*; look for a quote"),
        ("a.csv", b"text,label\n\xff,b\n", r"a.csv: not UTF-8 \(byte 11\)"),
        ("a.txt", b"text\n", r"a.txt: cannot read '.txt' files; give .jsonl, .csv or .tsv"),
        ("a.jsonl", None, r"a.jsonl: no such file"),
    ],
)
def test_faulty_file_is_named_with_its_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(read_file(path))
