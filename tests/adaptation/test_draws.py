"""What an adaptation reads: a validation split that is not there, and one that cannot be read, are two."""

import json
from dataclasses import replace

import pytest
from toys import toy_rows, write_task

from mpt.adaptation.draws import CHECKED, draw
from mpt.catalog.library import find_task
from mpt.errors import UserError
from mpt.methods import AdaptConfig

ROWS = "".join(json.dumps(row) + "\n" for row in toy_rows("tone"))


@pytest.fixture
def drawn(tmp_path, pretrained):
    """What is drawn for a task whose source is given, with files that hold what is given."""

    def made(source, **files: str):
        for name, content in files.items():
            (tmp_path / f"{name}.jsonl").write_text(content)
        path = write_task(tmp_path, "mine", toy_rows("tone"), source=source)
        config = replace(AdaptConfig(), max_length=24, test_rows=8, baselines=True)
        return draw(config, find_task(str(path)), pretrained)

    return made


def test_validation_rows_are_checked(drawn):
    found = drawn({"train": "mine.jsonl", "test": "mine.jsonl", "validation": "held.jsonl"}, held=ROWS)
    assert len(found.checked.rows) == min(120, CHECKED)


def test_a_task_without_a_validation_split_has_none(drawn):
    assert not drawn({"train": "mine.jsonl", "test": "mine.jsonl"}).checked.rows


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (ROWS + "{\n", "held.jsonl:121: not JSON"),
        ('{"text": "a", "label": "maybe"}\n', "held.jsonl:1: label 'maybe'"),
        ("", "the validation split of .* is empty"),
        (None, "held.jsonl: no such file"),
    ],
)
def test_a_broken_validation_split_is_told_of(drawn, held, message):
    files = {} if held is None else {"held": held}
    with pytest.raises(UserError, match=message):
        drawn({"train": "mine.jsonl", "test": "mine.jsonl", "validation": "held.jsonl"}, **files)


def test_a_file_of_so_few_rows_that_none_is_for_validation(drawn, tmp_path, pretrained):
    rows = [row for row in toy_rows("tone") if row["text"]]
    path = write_task(tmp_path, "few", rows[:40])
    task = find_task(str(path))
    kept = [record.columns for split in ("train", "test") for record in task.load(split)]
    task = find_task(str(write_task(tmp_path, "few", kept)))
    assert list(task.load("validation")) == []
    config = replace(AdaptConfig(), max_length=24, test_rows=4)
    assert not draw(config, task, pretrained).checked.rows
