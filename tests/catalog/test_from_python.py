"""Rows that Python holds become tasks, and tasks files that say the same."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import mpt
from mpt.catalog.from_python import make_task, task_files
from mpt.catalog.library import find_task
from mpt.data.sources import Rows
from mpt.data.splits import SPLITS
from mpt.data.task import Task

ROWS = [{"text": f"text {i}", "label": "yn"[i % 2], "id": object()} for i in range(60)]


def test_rows_of_every_kind_make_one_task():
    pairs = [(row["text"], row["label"]) for row in ROWS]
    frame = pd.DataFrame(ROWS)
    tasks = [make_task(rows, template="{text}\n") for rows in (ROWS, pairs, frame, iter(pairs))]
    assert tasks[1:] == tasks[:-1]
    assert tasks[0].verbalizer == {"n": "n", "y": "y"}


def test_columns_that_no_template_names_are_left_out():
    """Else a row's number would put its text into two splits."""
    task = make_task(ROWS, template="{text}\n")
    assert {name for row in task.source.load("train") for name in row.columns} == {"text", "label"}
    assert {row.columns["text"] for row in task.source.load("train")} == {
        row.columns["text"] for row in make_task(ROWS[::-1], template="{text}\n").source.load("train")
    }


def test_template_has_all_columns_but_the_label():
    task = make_task([{"one": "a", "two": "b", "stars": 1}], label="stars")
    assert task.template == "{one}\n{two}\nAnswer:"
    assert task.choices == ("1",)


@pytest.mark.parametrize("column", ["id", "ID", "idx", "index", "uuid"])
def test_equal_texts_of_other_numbers_are_in_one_split(column):
    rows = [{column: i, "text": f"text {i % 30}", "label": "yn"[i % 2]} for i in range(90)]
    task = make_task(rows)
    assert task.template == "{text}\nAnswer:"
    texts = [{row.columns["text"] for row in task.source.load(split)} for split in SPLITS]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 30
    assert make_task([{column: i, "label": "yn"[i]} for i in range(2)]).template == f"{{{column}}}\nAnswer:"


def test_free_text_has_no_verbalizer():
    rows = [(f"question {i}", f"answer {i}") for i in range(200)]
    with pytest.raises(mpt.UserError, match=r"200 different labels; for free text, set verbalizer=\{\}"):
        make_task(rows)
    assert make_task(rows, verbalizer={}).choices == ()


def test_missing_value_of_a_frame_is_told_by_its_row():
    frame = pd.DataFrame({"text": ["a", None], "label": [1, 2]})
    with pytest.raises(mpt.UserError, match="train row 1: column 'text' is empty"):
        list(make_task({"train": frame}).examples("train"))


MISSING = [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, Decimal("NaN")]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_missing_text_is_missing_whoever_says_so(value):
    rows = [{"text": "a", "label": "x"}, {"text": value, "label": "y"}]
    for table in (rows, pd.DataFrame(rows), [tuple(row.values()) for row in rows]):
        with pytest.raises(mpt.UserError, match="train row 1: column 'text' is empty"):
            list(make_task({"train": table}).examples("train"))


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_missing_label_is_no_class(value):
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": value}, {"text": "c", "label": value}]
    for table in (rows, pd.DataFrame(rows)):
        with pytest.raises(mpt.UserError, match="task rows: row 1 and 1 more: column 'label' is empty"):
            make_task(table)
    made = make_task({"train": [{"text": "a", "label": ["x", value]}]}, verbalizer={})
    with pytest.raises(mpt.UserError, match="train row 0: column 'label' is a list with an empty text"):
        list(made.examples("train"))


def test_words_for_nothing_are_words():
    rows = [{"text": text, "label": label} for text, label in (("nan", "None"), ("None", "NaN"))]
    found = list(make_task({"train": rows}).examples("train"))
    assert [(example.fields["text"], example.target) for example in found] == [
        ("nan", "None"),
        ("None", "NaN"),
    ]


def test_columns_of_one_name_are_refused():
    frame = pd.DataFrame([["a", "b", "x"]], columns=["text", "text", "label"])
    with pytest.raises(mpt.UserError, match="two columns are named 'text'; rename one"):
        make_task(frame)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "task rows: there are no rows"),
        ("text", {}, "give a list or a pandas frame, not 'text'"),
        ([1], {}, "task rows: all row 0: 1 is neither a mapping nor a"),
        ({"trian": ROWS}, {}, "no split 'trian'; did you mean 'train'?"),
        (ROWS, {"label": "stars"}, "row 0 has no column 'stars'; it has text, label, id"),
        (ROWS, {"name": "a/b"}, "task 'a/b': name it with letters"),
        (ROWS, {"instrution": "x"}, "no part 'instrution'; did you mean 'instruction'?"),
        (ROWS, {"template": "{a b}"}, "is not a column name"),
        (ROWS, {"template": "{txt}"}, "no row has a column 'txt'; they have text, label, id"),
        (ROWS, {"label": "stars", "verbalizer": {}}, "no row has a column 'stars'"),
        (ROWS, {"group": "about"}, "no row has a column 'about'"),
        (ROWS, {"metrics": "acuracy"}, "metric 'acuracy' is unknown; did you mean 'accuracy'?"),
        (ROWS, {"metrics": ["accuracy", "f2"]}, "metric 'f2' is unknown"),
    ],
)
def test_mistake_is_told(rows, options, message):
    with pytest.raises(mpt.UserError) as error:
        make_task(rows, **options)
    assert message in str(error.value)


def test_one_metric_is_a_list_of_one():
    assert make_task(ROWS, metrics="macro_f1").metrics == ("macro_f1",)


def test_written_task_reads_as_it_was(tmp_path):
    rows = [
        {"text": f"é {i}\u2028", "stars": bool(i % 2), "about": i // 3, "more": object()} for i in range(60)
    ]
    task = Task(
        "mine",
        Rows({"all": rows}, label="stars", group="about"),
        "{text} {{}}\n",
        {"True": "good", "False": "bad"},
        "stars",
        ("f1", "accuracy"),
        "Is it?\n",
        scoring="mean",
        group="about",
    )
    files = task_files(task)
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    read = find_task(str(tmp_path / "mine.yaml"))
    assert {split: list(read.examples(split)) for split in SPLITS} == {
        split: list(task.examples(split)) for split in SPLITS
    }
    assert (read.metrics, read.scoring, read.instruction) == (task.metrics, task.scoring, task.instruction)


def test_what_json_has_no_word_for_is_told_by_its_row():
    task = make_task({"train": [("a", 1.0), ("b", float("nan"))]}, verbalizer={})
    with pytest.raises(mpt.UserError, match=r"train row 1: .* make it a text or a number"):
        task_files(task)
