"""`mpt tasks check` finds every fault of a task and its data in one go, and says what the rows are like."""

import json

import pandas as pd
import pytest
from toys import toy_rows, write_task

from mpt import cli

GOOD = {"text": "so great", "label": "yes"}


def check(capsys, path) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main(["tasks", "check", str(path)])
    return status, *capsys.readouterr()


def write_rows(path, rows) -> None:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def test_sound_task_has_no_faults(capsys, toy):
    status, out, err = check(capsys, toy["tone"])
    assert (status, err) == (0, "")
    assert out.endswith("No faults.\n")
    rows = [int(line.split("│")[2]) for line in out.splitlines() if "good" in line]
    assert sum(rows) == 120


@pytest.mark.parametrize("source", ["bad.jsonl", {"train": "bad.jsonl"}])
def test_every_fault_is_told_with_its_line(capsys, tmp_path, source):
    bad = [
        "{",
        {"txt": "a"},
        {"text": "b", "label": "maybe"},
        {"text": None, "label": "no"},
        [1],
        '{"a": NaN}',
    ]
    bad += [{"text": " ", "label": "yes"}]
    path = write_task(tmp_path, "bad", [], source=source, metric="acuracy")
    write_rows(tmp_path / "bad.jsonl", [*toy_rows("tone"), *bad])
    status, out, err = check(capsys, path)
    assert (status, err) == (2, f"mpt: {path}: 9 faults\n")
    where = tmp_path / "bad.jsonl"
    for told in (
        f"  {path}:1: metric 'acuracy' is unknown",
        f"  {where}:121: not JSON: ",
        f"  {where}:122: no column 'text'",
        f"  {where}:122: no column 'label'",
        f"  {where}:123: label 'maybe' is not in the verbalizer",
        f"  {where}:124: column 'text' is empty",
        f"  {where}:125: a list",
        f"  {where}:126: not JSON: NaN",
        f"  {where}:127: no text in text",
    ):
        assert told in out


BAD_ROWS = {
    "label": (
        {"text": "a", "label": "x"},
        "label 'x' is not in the verbalizer of task bad, which knows yes, no",
    ),
    "empty": ({"text": None, "label": "yes"}, "column 'text' is empty; task bad can render text only"),
    "blank": ({"text": " ", "label": "yes"}, "no text in text"),
    "list": ([1], "a list; it must be an object, {...}"),
    "half": ('{"text": ', "not JSON: Expecting value (column 10)"),
}


@pytest.mark.parametrize("source", ["bad.jsonl", {"test": "bad.jsonl"}])
@pytest.mark.parametrize(("row", "reason"), BAD_ROWS.values(), ids=list(BAD_ROWS))
def test_one_fault_of_many_rows_is_told_once(capsys, tmp_path, row, reason, source):
    """With the number of its rows and the first of them, whichever fault it is."""
    path = write_task(tmp_path, "bad", [], source=source)
    write_rows(tmp_path / "bad.jsonl", [*toy_rows("tone", 40), *[row] * 322, GOOD, *[row] * 2])
    status, out, err = check(capsys, path)
    assert (status, err) == (2, f"mpt: {path}: 1 fault\n")
    assert f"  {tmp_path}/bad.jsonl:41: {reason}; in 324 rows, at 41, 42, 43, 44, …\n" in out
    write_rows(tmp_path / "bad.jsonl", [*toy_rows("tone", 40), row, GOOD, row])
    assert f"{reason}; in 2 rows, at 41, 43\n" in check(capsys, path)[1]


def test_many_faults_of_a_kind_are_counted(capsys, tmp_path):
    rows = [GOOD] + [{"text": "a", "label": f"x{i}"} for i in range(322)]
    path = write_task(tmp_path, "bad", rows, source={"test": "bad.jsonl"})
    status, out, err = check(capsys, path)
    assert (status, err) == (2, f"mpt: {path}: 322 faults\n")
    assert out.count("is not in the verbalizer") == 10
    assert "\n  and 312 more like them\n" in out


def test_one_fault_of_two_files_is_told_of_each(capsys, tmp_path):
    path = write_task(tmp_path, "bad", [], source={"train": "a.jsonl", "test": "b.jsonl"})
    for name in "ab":
        write_rows(tmp_path / f"{name}.jsonl", [GOOD, *[{"text": "a", "label": "x"}] * 3])
    _, out, err = check(capsys, path)
    assert err == f"mpt: {path}: 2 faults\n"
    assert out.count("; in 3 rows, at 2, 3, 4\n") == 2


def test_summary_of_named_splits(capsys, tmp_path):
    path = write_task(
        tmp_path, "mine", [], source={"train": "a.jsonl", "test": "b.jsonl"}, template="{text} {more}"
    )
    long = {"text": "x" * 99, "label": "no", "more": ""}
    write_rows(tmp_path / "a.jsonl", [GOOD | {"more": "!"}] * 3 + [long])
    write_rows(tmp_path / "b.jsonl", [GOOD | {"more": "!", "label": "no"}, GOOD | {"more": "?"}])
    status, out, _ = check(capsys, path)
    assert status == 0
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines()]
    train, test = [row for row in rows if len(row) > 5 and row[1] in ("train", "test")]
    assert train[1:5] == ["train", "4", "good 3, bad 1", "2"]
    assert test[1:5] == ["test", "2", "bad 1, good 1", "0"]
    assert train[5] == "100 characters"
    assert f"The longest train input is that of {tmp_path / 'a.jsonl'}:4." in out
    assert "1 test row has a text that is in train too." in out
    assert "Column 'more' is empty in 1 train row." in out


def test_duplicates_of_one_file_are_left_out(capsys, tmp_path):
    rows = toy_rows("tone")
    status, out, _ = check(capsys, write_task(tmp_path, "mine", rows + rows[:7]))
    assert status == 0
    assert "7 duplicates were left out before the splits were made." in out


def test_equal_texts_with_other_ids_are_duplicates(capsys, tmp_path):
    rows = [{"id": i, **row} for i, row in enumerate(toy_rows("tone") * 3)]
    status, out, _ = check(capsys, write_task(tmp_path, "mine", rows))
    assert status == 0
    assert "240 duplicates were left out before the splits were made." in out
    assert "have a text that is in" not in out


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"train": "gone.jsonl"}, "gone.jsonl: no such file"),
        ({"train": "empty.csv"}, "empty.csv: the train split is empty"),
        ({"train": "mine.jsonl", "test": "empty.csv"}, "\n  {folder}/empty.csv: the test split is empty\n"),
        ({"train": "mine.jsonl", "test": "gone.csv"}, "\n  {folder}/gone.csv: no such file\n"),
        ("empty.csv", "empty.csv: it is empty"),
        ({"saved": "gone"}, "mine: cannot load saved data set"),
        ({"tfds": "nothing_like_it"}, "mine: cannot load TFDS nothing_like_it (validation)"),
    ],
)
def test_data_that_cannot_be_had_is_a_fault(capsys, tmp_path, monkeypatch, source, message):
    monkeypatch.setattr("mpt.data.sources.is_online", lambda: True)
    (tmp_path / "empty.csv").write_text("text,label\n")
    status, out, _ = check(capsys, write_task(tmp_path, "mine", toy_rows("tone"), source=source))
    assert status == 2
    assert message.format(folder=tmp_path) in out


def test_data_is_not_read_without_a_template(capsys, tmp_path):
    path = write_task(tmp_path, "mine", ["no object"], template="{text")
    status, out, err = check(capsys, path)
    assert (status, err) == (2, f"mpt: {path}: 1 fault; its data was not read\n")
    assert "write {{ }} for braces" in out


def test_columns_of_all_templates_are_looked_for(capsys, tmp_path):
    path = write_task(tmp_path, "mine", [GOOD] * 2, template={"a": "{text}", "b": "{other}"})
    _, out, _ = check(capsys, path)
    assert "mine.jsonl:1: no column 'other'" in out


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.csv", "mine.tsv", "mine.parquet"])
@pytest.mark.parametrize("as_split", [True, False])
@pytest.mark.parametrize("wrong", ["text", "label", "group"])
def test_misnamed_column_is_one_fault(capsys, tmp_path, name, as_split, wrong):
    frame = pd.DataFrame(toy_rows("tone")).assign(group="a").rename(columns={wrong: f"{wrong}s"})
    match name.rpartition(".")[2]:
        case "jsonl":
            frame.to_json(tmp_path / name, orient="records", lines=True)
        case "parquet":
            frame.to_parquet(tmp_path / name)
        case ending:
            frame.to_csv(tmp_path / name, sep="," if ending == "csv" else "\t", index=False)
    source = {"train": "good.jsonl", "test": name} if as_split else name
    write_rows(tmp_path / "good.jsonl", [row | {"group": "a"} for row in toy_rows("tone")])
    path = write_task(tmp_path, "task", [], source=source, group="group")
    status, out, err = check(capsys, path)
    assert (status, err) == (2, f"mpt: {path}: 1 fault\n")
    assert f"no column '{wrong}', which task task needs; it has " in out
    assert f"{wrong}s" in out
    assert "; all 120 rows lack it\n" in out
    assert "left out before" not in out


def test_column_that_some_rows_lack_is_a_fault_of_each(capsys, tmp_path):
    rows = [*toy_rows("tone"), {"text": "so"}, {"label": "yes"}, {"txt": "so", "label": "no"}]
    path = write_task(tmp_path, "mine", rows)
    status, out, err = check(capsys, path)
    assert (status, err) == (2, f"mpt: {path}: 3 faults\n")
    assert "mine.jsonl:121: no column 'label'" in out
    assert "mine.jsonl:122: no column 'text'" in out
    assert "mine.jsonl:123: no column 'text'" in out
    assert "lack it" not in out


ONCE, AGAIN = {"text": "so so", "label": "yes"}, {"text": "so so ", "label": "no"}


@pytest.mark.parametrize("extra", [{}, {"id": 7}])
def test_same_text_with_another_label_is_a_conflict(capsys, tmp_path, extra):
    """Not a duplicate, whichever files and splits the rows stand in."""
    path = write_task(tmp_path, "mine", [*toy_rows("tone"), ONCE, ONCE, AGAIN | extra])
    status, out, _ = check(capsys, path)
    assert status == 0
    assert "Warning: 1 row has the text of an earlier one and another label" in out
    told = f"{tmp_path}/mine.jsonl:123: 'bad', but 'good' in {tmp_path}/mine.jsonl:121"
    assert f"\nconflicting labels:\n  {told}\n" in out
    assert "1 duplicate was left out" in out


@pytest.mark.parametrize("other", ["train", "test"])
def test_conflict_within_and_between_splits(capsys, tmp_path, other):
    rows = {"train": [*toy_rows("tone"), ONCE], "test": [GOOD]}
    rows[other] = [*rows[other], AGAIN, *[AGAIN] * 11]
    for split, of_split in rows.items():
        write_rows(tmp_path / f"{split}.jsonl", of_split)
    source = {split: f"{split}.jsonl" for split in rows}
    status, out, _ = check(capsys, write_task(tmp_path, "mine", [], source=source))
    assert status == 0
    assert "Warning: 12 rows have the text of an earlier one and another label." in out
    first = len(rows[other]) - 11
    told = f"{other}.jsonl:{first}: 'bad', but 'good' in {tmp_path}/train.jsonl:121; in 12 rows, at {first}, "
    assert told in out
    assert ("12 test rows have a text that is in train too." in out) == (other == "test")
    assert all(
        line.split("│")[4].strip() == "0" for line in out.splitlines() if "good" in line and "│" in line
    )


def test_texts_with_several_targets_do_not_conflict(capsys, tmp_path):
    path = write_task(tmp_path, "mine", [*toy_rows("tone"), ONCE, AGAIN], verbalizer={}, metric="rouge1")
    assert "conflict" not in check(capsys, path)[1]
