"""Files become records; what is wrong in one is named with its line, and the rest is read all the same."""

import csv
import gzip
import io
import json
import sys
import tracemalloc
from datetime import date

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from mpt.data.files import QUOTED, read_file, read_rows
from mpt.data.records import Blank, Fault, Record

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
# NUL in a table is refused: it is the mark of another encoding.
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NAMES = st.lists(CELLS.filter(str.strip), min_size=1, max_size=3, unique=True)


@st.composite
def tables(draw, names=NAMES, cells=CELLS):
    columns = draw(names)
    return columns, draw(st.lists(st.fixed_dictionaries(dict.fromkeys(columns, cells)), max_size=10))


def columns(path) -> list[dict]:
    return [dict(row.columns) for row in records(path)]


def records(path) -> list[Record]:
    found = list(read_file(path))
    assert all(isinstance(row, Record) for row in found), found
    return found


def faults(path) -> list[str]:
    return [str(row) for row in read_file(path) if isinstance(row, Fault)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


def write(path, data: bytes) -> str:
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return str(path)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".JSONL"])
@pytest.mark.parametrize("ascii_only", [True, False])
@given(rows=st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=6))
def test_jsonl_round_trip(folder, ending, ascii_only, rows):
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    assert columns(write(folder / f"rows{ending}", text.encode())) == rows


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".csv.gz", ",")])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
@given(table=tables())
def test_table_round_trip(folder, ending, delimiter, end, table):
    names, rows = table
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    assert columns(write(folder / f"rows{ending}", text.getvalue().encode())) == rows


@given(table=tables(cells=TEXTS | st.none()), group=st.integers(1, 4))
def test_parquet_round_trip(folder, table, group):
    names, rows = table
    whole = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in names]))
    parquet.write_table(whole, folder / "rows.parquet", row_group_size=group)
    assert columns(folder / "rows.parquet") == rows


def test_parquet_keeps_types_and_names_rows(folder):
    rows = [
        {"n": i, "x": i / 2, "on": i > 1, "day": date(2020, 1, 1 + i), "many": ["a"] * i} for i in range(3)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "types.parquet")
    assert columns(folder / "types.parquet") == rows
    assert records(folder / "types.parquet")[2].where == f"{folder / 'types.parquet'} row 2"


# What stands between two tabs: quotes anywhere, but no cell that is quoted as a whole.
PLAIN = st.text('ab", \u2028é', max_size=6).filter(lambda text: not QUOTED.fullmatch(text))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@given(rows=st.lists(st.tuples(PLAIN, PLAIN), max_size=8))
def test_each_line_of_tabs_is_a_row_whatever_quotes_it_has(folder, end, rows):
    text = end.join(["text\tmore", *("\t".join(row) for row in rows), ""])
    found = columns(write(folder / "plain.tsv", text.encode()))
    assert [tuple(row.values()) for row in found] == rows


def test_cells_that_a_spreadsheet_has_quoted_lose_their_quotes(tmp_path):
    path = write(tmp_path / "a.tsv", b'text\tlabel\n"so, ""we"""\t1\n"a\tb"\t0\n"\t1\n"c"d\t"1"\n')
    assert [tuple(row.values()) for row in columns(path)] == [
        ('so, "we"', "1"),
        ("a\tb", "0"),
        ('"', "1"),
        ('"c"d', "1"),
    ]


@pytest.mark.parametrize("content", [b'text\tlabel\n"a\nb"\t1\n', b'label\ttext\n1\t"a\nb"\n'])
def test_line_end_within_a_cell_of_tabs_is_a_fault(tmp_path, content):
    (found,) = faults(write(tmp_path / "a.tsv", content))
    assert "not 2 fields like the header; " in found
    assert found.endswith("give texts with line ends in a .csv or .jsonl file")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'\n{"text": "a"}\n \n\n{"text": "b"}\n'),
        ("a.csv", b'text,n\n\n"a",1\n\n\nb,2\n'),
        ("a.tsv", b"text\tn\n\na\t1\n\n\nb\t2\n"),
        ("b.tsv", b'"text"\t"n"\n\n"a"\t1\n\n\nb\t2\n'),
    ],
)
def test_blank_lines_can_be_asked_for(tmp_path, name, content):
    kinds = [
        row.columns["text"] if isinstance(row, Record) else row
        for row in read_rows(write(tmp_path / name, content))
    ]
    first = 1 if name == "a.jsonl" else 2
    path = tmp_path / name
    expected = [first, "a", first + 2, first + 3, "b"]
    assert kinds == [Blank(f"{path}:{each}") if isinstance(each, int) else each for each in expected]


def test_blank_lines_are_skipped_and_counted(tmp_path):
    jsonl = write(tmp_path / "rows.jsonl", b'{"text": "a"}\n\n \n{"text": "b"}\n')
    assert [row.where for row in records(jsonl)] == [f"{jsonl}:1", f"{jsonl}:4"]
    table = write(tmp_path / "rows.csv", b'text\n\n"a\nb"\n\nc\n')
    assert [row.where for row in records(table)] == [f"{table}:3", f"{table}:6"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.csv", [b"text,label", b"a,b", b"c,d"]),
        ("a.jsonl", [b'{"text": "a", "label": "b"}', b'{"text": "c", "label": "d"}']),
    ],
)
def test_marks_and_line_ends_of_all_systems(tmp_path, mark, end, name, lines):
    path = write(tmp_path / name, mark + end.join(lines))
    assert columns(path) == [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_empty_file_has_no_rows(tmp_path, name):
    assert columns(write(tmp_path / name, b"")) == []


def test_header_alone_has_no_rows(tmp_path):
    assert columns(write(tmp_path / "a.csv", b"text,label\n")) == []


@pytest.mark.parametrize(
    ("name", "head", "tail"), [("a.csv", b'text\n"', b'"\n'), ("a.jsonl", b'{"text": "', b'"}\n')]
)
def test_line_of_50_megabytes(tmp_path, name, head, tail):
    (row,) = columns(write(tmp_path / name, head + b"x" * 50_000_000 + tail))
    assert len(row["text"]) == 50_000_000


JSON_ROW = b'{"text": "x"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", JSON_ROW + b'{"text": \n' + JSON_ROW, "a.jsonl:2: not JSON: Expecting value (column 10)"),
        ("a.jsonl", JSON_ROW + b"[1, 2]\n", "a.jsonl:2: a list; it must be an object, {...}"),
        ("a.jsonl", JSON_ROW + b"7\n", "a.jsonl:2: a number; it must be an object, {...}"),
        ("a.jsonl", JSON_ROW + b"null\n", "a.jsonl:2: null; it must be an object, {...}"),
        ("a.jsonl", JSON_ROW + b'{"text": "\xff"}\n', "a.jsonl:2: not UTF-8 (byte 0xff); save it as UTF-8"),
        ("a.jsonl", b'{"text": "\0"}\n' + JSON_ROW, "a.jsonl:1: a NUL character; save it as UTF-8"),
        ("a.jsonl", b'{"a": 1, "b": 2, "b": 3}', "a.jsonl:1: not JSON: key 'b' occurs twice"),
        ("a.jsonl", b'{"a": {"b": 2, "b": 2}}', "a.jsonl:1: not JSON: key 'b' occurs twice"),
        ("a.jsonl", b'{"a": -Infinity}', "a.jsonl:1: not JSON: -Infinity is not a JSON number; write null"),
        ("a.jsonl", b'{"a": NaN}\n' + JSON_ROW, "a.jsonl:1: not JSON: NaN is not a JSON number; write null"),
        ("a.jsonl", b'{"a": "\\ud800"}', "a.jsonl:1: half a surrogate pair (\\ud800 to"),
        ("a.csv", b"text,label\na,b\nc\nd,e\n", "a.csv:3: not 2 fields like the header"),
        ("a.csv", b'text,label\n"a\n\nb",b\nc,d,e\n', "a.csv:5: not 2 fields like the header"),
        ("a.tsv", b"text\tlabel\na\n", "a.tsv:2: not 2 fields like the header; quote fields with tabs"),
        ("a.csv", b"text,label\n\xff,b\nc,d\n", "a.csv:2: not UTF-8 (byte 0xff); save it as UTF-8"),
        ("a.csv", b"text,label\na\0,b\nc,d\n", "a.csv:2: a NUL character; save it as UTF-8"),
        ("a.csv", b"text,text,label\na,b,c\n", "a.csv:1: two columns are named 'text'; rename one"),
        ("a.csv", b",text,label\n0,b,c\n", "a.csv:1: column 1 has no name; name it, or leave it out"),
        ("a.csv", "text,label\n".encode("utf-16"), "a.csv:1: not UTF-8 (byte 0xff); save it as UTF-8"),
        ("a.csv", b'text,label\n"a"b,c\nd,e\n', "a.csv:2: ',' expected after '\"'; look for a quote"),
        ("a.csv", b'text,label\na,b\n"a,b\n', "a.csv:3: unexpected end of data; look for a quote"),
        ("a.parquet", b"text,label\n" * 9, "a.parquet: not a whole Parquet file: "),
        ("a.json", b'[{"text": "a"}]', "a.json: make it JSONL: a .jsonl file with one object per line"),
        ("a.txt", b"text\n", "a.txt: cannot read '.txt' files; give .jsonl, .csv, .tsv or .parquet"),
        ("data", b"text\n", "data: cannot read '' files; give .jsonl, .csv, .tsv or .parquet"),
    ],
)  # fmt: skip
def test_fault_is_named_with_its_line(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    (found,) = faults(path)
    assert found.startswith(str(tmp_path / message))
    assert "\n" not in found


def test_reading_goes_on_after_each_fault(tmp_path):
    path = write(tmp_path / "a.csv", b'text,label\na,b\nc\n\xff,d\n"e"f,g\nh,i\n')
    kinds = [row.kind if isinstance(row, Fault) else row.columns["text"] for row in read_file(path)]
    assert kinds == ["a", "wrong number of fields", "not UTF-8", "faulty quotes", "h"]


def test_deep_nesting_is_a_fault(tmp_path):
    (found,) = faults(write(tmp_path / "a.jsonl", b'{"a":' * 200_000))
    assert "a.jsonl:1: not JSON: " in found


def test_missing_file_and_folder(tmp_path):
    assert faults(tmp_path / "a.csv") == [f"{tmp_path / 'a.csv'}: no such file"]
    (tmp_path / "b.csv").mkdir()
    assert faults(tmp_path / "b.csv") == [f"{tmp_path / 'b.csv'}: a folder; give a file in it"]


def test_gzip_that_is_none_or_ends_early(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(JSON_ROW)
    assert faults(path)[0].startswith(f"{path}:1: not whole gzip data (")
    whole = gzip.compress(b"".join(b'{"text": "%d"}\n' % (i * 7919) for i in range(20_000)))
    path.write_bytes(whole[: len(whole) // 2])
    *rows, last = read_file(path)
    assert [row.columns["text"] for row in rows] == [str(i * 7919) for i in range(len(rows))]
    assert str(last).startswith(f"{path}:{len(rows) + 1}: not whole gzip data (")


def test_damaged_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["a"] * 9}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert faults(path)[0].startswith(f"{path}: not a whole Parquet file: ")


def test_parquet_row_that_is_not_utf8(tmp_path):
    texts = pa.array([b"a", b"\xff", b"c"]).cast(pa.binary()).view(pa.utf8())
    parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    first, fault, last = read_file(tmp_path / "a.parquet")
    assert (first.columns, last.columns) == ({"text": "a"}, {"text": "c"})
    assert str(fault).endswith("a.parquet row 1: a text that is not UTF-8")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", JSON_ROW),
        ("a.jsonl.gz", gzip.compress(JSON_ROW, mtime=0)),
        ("a.csv", b"text\nx\n"),
        ("a.parquet", None),
    ],
)
def test_remote_file(name, data):
    with fsspec.open(f"memory://rows/{name}", "wb") as file:
        file.write(data) if data else parquet.write_table(pa.table({"text": ["x"]}), file)
    (row,) = records(f"memory://rows/{name}")
    assert row.columns == {"text": "x"}
    assert row.where.startswith(f"memory://rows/{name}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://rows/gone.csv", "memory://rows/gone.csv: no such file"),
        ("nowhere://a.csv", "nowhere://a.csv: cannot be opened: Protocol not known: nowhere"),
    ],
)
def test_remote_file_that_cannot_be_had(url, message):
    assert faults(url) == [message]


def test_missing_client_of_a_store_is_named(monkeypatch):
    for scheme, extra in (("gs", "gcs"), ("s3", "s3")):
        monkeypatch.setitem(sys.modules, f"{extra}fs", None)
        remedy = f"in mpt's source folder, `python -m pip install -e '.[{extra}]'`"
        url = f"{scheme}://a/b.csv"
        assert faults(url) == [f"{url}: {scheme}:// needs the package {extra}fs: {remedy}"]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".jsonl.gz", ".parquet"])
def test_reading_holds_little_of_a_file(tmp_path, ending):
    path, count = tmp_path / f"rows{ending}", 10_000
    if ending == ".parquet":
        table = pa.table({"text": [f"{i} " + "x" * 400 for i in range(count)]})
        parquet.write_table(table, path, row_group_size=500, use_dictionary=False, compression="none")
    else:
        line = '{"text": "%s"}\n' if "jsonl" in ending else "%s\n"
        write(path, (line % "text" + line % ("x" * 400) * (count - 1)).encode())
    next(iter(read_file(path)))
    tracemalloc.start()
    total = sum(1 for _ in read_file(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total >= count - 1
    assert peak < 1e6 < count * 400 / 3
