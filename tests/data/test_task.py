"""Records become text-to-text examples."""

import json

import pytest

from mpt.catalog.from_python import make_task
from mpt.data.sources import Files, Record, Rows
from mpt.data.splits import SPLITS
from mpt.data.task import Task
from mpt.errors import UserError, warnings_once

WORDS = {"0": "no", "1": "yes"}


def task(template="{text}\nSo:", verbalizer=WORDS, **rest) -> Task:
    return Task("toy", Files({}), template, verbalizer, **rest)


def record(**columns) -> Record:
    return Record("a.jsonl:7", columns)


def test_example_reads_as_the_template_says():
    found = task("{a} and {b}: {a}?").example(record(a=" x ", b=2, label=1))
    assert found.inputs == "x and 2: x?"
    assert (found.target, found.choices, found.label) == ("yes", ("no", "yes"), 1)


def test_doubled_braces_are_the_templates_own():
    assert task("{{{text}}}").example(record(text="a", label=0)).inputs == "{a}"


def test_braces_in_a_text_are_plain():
    assert task().example(record(text="{label}", label=0)).inputs == "{label}\nSo:"


def test_free_text_has_no_choices():
    found = task(verbalizer={}).example(record(text="a", label="b c"))
    assert (found.target, found.choices) == ("b c", ())


def test_target_may_be_given():
    assert task().example(record(text="a"), target="no").target == "no"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"template": "no place"}, r"task toy: template: it contains no \{column\} of the data"),
        ({"template": "{text"}, r"task toy: template: .*; write \{\{ \}\} for braces"),
        ({"template": "{}"}, r"task toy: template: '\{\}' is not a column name"),
        ({"template": "{0}"}, r"task toy: template: '\{0\}' is not a column name"),
        ({"template": "{a.b}"}, r"task toy: template: '\{a.b\}' is not a column name"),
        ({"template": "{a[0]}"}, r"task toy: template: '\{a\[0\]\}' is not a column name"),
        ({"verbalizer": {"0": "no", "1": "no"}}, r"task toy: verbalizer: two labels share one word"),
    ],
)
def test_faulty_task_is_refused_when_made(keys, message):
    with pytest.raises(UserError, match=message):
        task(**keys)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"other": "a", "label": 0},
            r"a.jsonl:7: no column 'text', which task toy needs; it has other, label",
        ),
        ({"text": "a"}, r"a.jsonl:7: no column 'label', which task toy needs; it has text"),
        ({"text": None, "label": 0}, r"a.jsonl:7: column 'text' is empty; task toy can render text only"),
        ({"text": "a \ud800", "label": 0}, r"a.jsonl:7: column 'text': half a surrogate pair"),
        ({"text": "a", "label": "\udcff"}, r"a.jsonl:7: column 'label': half a surrogate pair"),
        ({"text": ["a"], "label": 0}, r"a.jsonl:7: column 'text' is a list; task toy can render text only"),
        (
            {"text": {"a": 1}, "label": 0},
            r"a.jsonl:7: column 'text' is a dict; task toy can render text only",
        ),
        (
            {"text": "a", "label": "2"},
            r"a.jsonl:7: label '2' is not in the verbalizer of task toy, which knows 0, 1",
        ),
    ],
)
def test_faulty_record_is_named_by_its_place(columns, message):
    with pytest.raises(UserError, match=message):
        task().example(record(**columns))


@pytest.mark.parametrize("template", ["{text!r}", "{text:>10}"])
def test_conversions_and_formats_are_no_part_of_a_template(template):
    """A field is cut to length as plain text, so nothing may reshape it afterwards."""
    with pytest.raises(UserError, match=r"template: .* is not a column name"):
        task(template)


def test_rows_without_text_are_told_of_once(capsys):
    texts = [("a", ""), (" ", "\t"), ("", "b"), ("", "")]
    rows = [{"one": one, "two": two, "label": 0} for one, two in texts]
    blank = Task("toy", Rows({"train": rows}), "{one} {two}\nSo:", WORDS)
    with warnings_once():
        for _ in range(2):
            assert len(list(blank.examples("train"))) == 4
    told = "mpt: warning: 2 train rows of task toy have no text in one, two; the first is train row 1\n"
    assert capsys.readouterr().err == told


def test_empty_split_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    empty = Task("toy", Files({"test": tmp_path / "a.jsonl"}), "{text}", WORDS)
    with pytest.raises(UserError, match=r"task toy: the test split of .*a.jsonl is empty"):
        list(empty.examples("test"))


ROWS = [{"id": i, "text": f"text {i // 3}", "title": f"title {i}", "label": i % 2} for i in range(240)]


def by_split(task) -> dict[str, set[str]]:
    return {split: {example.fields["text"] for example in task.examples(split)} for split in SPLITS}


def alone(places: dict[str, set[str]]) -> bool:
    return sum(map(len, places.values())) == len(set.union(*places.values())) == 80


def test_equal_texts_with_other_ids_are_in_one_split_in_files_and_in_python(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    template, words = "{text}\nSo:", {"0": "no", "1": "yes"}
    made = [
        Task("toy", Files({"all": tmp_path / "rows.jsonl"}), template, words),
        Task("toy", Rows({"all": ROWS}), template, words),
        make_task(ROWS, template=template, verbalizer=words),
    ]
    places = [by_split(task) for task in made]
    assert alone(places[0]) and places[0] == places[1] == places[2]
    assert sum(len(list(made[0].examples(split))) for split in SPLITS) == 80


def test_a_row_is_in_one_split_whichever_template_reads_it():
    templates = {"short": "{text}\nSo:", "long": "{title}: {text}\nSo:"}
    both = Task("toy", Rows({"all": ROWS}), templates["short"], WORDS, templates=templates)
    places = [by_split(both), by_split(both.with_template("long"))]
    assert alone(places[0]) and places[0] == places[1]
    # The longer one reads titles, which differ: none of its rows is a duplicate.
    assert sum(len(list(both.with_template("long").examples(split))) for split in SPLITS) == 240


def test_templates_that_share_no_column_have_their_own_splits():
    task = Task("toy", Rows({"all": ROWS}), "{text}", WORDS, templates={"other": "{title}"})
    assert alone(by_split(task))
