"""A user's task file: what it stands for, and every fault with its line."""

import json

import fsspec
import pytest

from mpt.data.hub import Hub, Saved
from mpt.data.sources import Files, Tfds
from mpt.data.taskfile import parse_task, read_task
from mpt.errors import UserError

GOOD = {"source": "a.jsonl", "template": "{text}", "verbalizer": {"yes": "good", "no": "bad"}}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "mine.yaml"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_task_file_reads_data_beside_it(write, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nfine,1\n")
    path = write(
        'source: {train: a.csv}\ntemplate: "{text}. So:"\nverbalizer: {0: bad, 1: good}\nmetric: macro_f1\n'
    )
    task = read_task(path)
    (example,) = task.examples("train")
    assert (task.name, task.metrics) == ("mine", ("macro_f1",))
    assert (example.inputs, example.target, example.choices) == ("fine. So:", "good", ("bad", "good"))


def test_boolean_labels_match_json_and_yaml(write, tmp_path):
    """JSON's true, YAML's true and the word in quotes are one label to whoever writes them."""
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": true}\n')
    task = read_task(
        write("source: {train: a.jsonl}\ntemplate: '{text}'\nverbalizer: {true: good, false: bad}")
    )
    assert next(task.examples("train")).target == "good"


def test_several_templates_and_metrics(write):
    task = read_task(
        write(GOOD | {"template": {"a": "{text}", "b": "{c}?"}, "metric": ["macro_f1", "accuracy"]})
    )
    assert (task.template, task.with_template("b").template) == ("{text}", "{c}?")
    assert task.metrics == ("macro_f1", "accuracy")


SAME = {split: split for split in ("train", "validation", "test")}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.csv", lambda here: Files({"all": f"{here}/a.csv"}, "answer")),
        ({"all": "a.csv"}, lambda here: Files({"all": f"{here}/a.csv"}, "answer")),
        ({"test": "/x/a.csv"}, lambda here: Files({"test": "/x/a.csv"}, "answer")),
        ({"train": "gs://b/a.csv"}, lambda here: Files({"train": "gs://b/a.csv"}, "answer")),
        ({"tfds": "glue/sst2"}, lambda here: Tfds("glue/sst2", SAME, label="answer")),
        ({"tfds": "imdb", "all": "train"}, lambda here: Tfds("imdb", {"all": "train"}, label="answer")),
        ({"hub": "a/b"}, lambda here: Hub("a/b", SAME, "", "answer")),
        ({"hub": "a/b", "config": "c", "train": "t"}, lambda here: Hub("a/b", {"train": "t"}, "c", "answer")),
        ({"saved": "rows"}, lambda here: Saved(f"{here}/rows", {}, "answer")),
        ({"saved": "s3://b/rows", "train": "t"}, lambda here: Saved("s3://b/rows", {"train": "t"}, "answer")),
    ],
)
def test_source(write, tmp_path, source, expected):
    assert read_task(write(GOOD | {"source": source, "label": "answer"})).source == expected(tmp_path)


def test_remote_source_is_read(write):
    with fsspec.open("memory://task/a.jsonl", "wt") as file:
        file.write('{"text": "fine", "label": "yes"}\n')
    task = read_task(write(GOOD | {"source": {"train": "memory://task/a.jsonl"}}))
    assert [example.target for example in task.examples("train")] == ["good"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD | {"tempate": "x"}, r":1: unknown key 'tempate'; did you mean 'template'\?"),
        ({"source": "a.jsonl"}, r": missing key 'template'"),
        ({"template": "{text}"}, r": missing key 'source'"),
        (GOOD | {"template": 3}, r"template must be a text or a mapping, not 3"),
        (GOOD | {"template": {"a": 3}}, r"template: 'a' must be a text, not 3"),
        (GOOD | {"template": {}}, r"template: it is empty"),
        (GOOD | {"template": "none"}, r"task mine: template: it contains no"),
        (
            GOOD | {"template": {"a": "{text}", "b": "{c!r}"}},
            r"task mine: template: '\{c!r\}' is not a column",
        ),
        (GOOD | {"verbalizer": ["a"]}, r"verbalizer must be a mapping, not \['a'\]"),
        (GOOD | {"verbalizer": {"a": ["b"]}}, r"verbalizer: the word for 'a' must be a text, not \['b'\]"),
        (GOOD | {"verbalizer": {"a": "b", "c": "b"}}, r"task mine: verbalizer: two labels share one word"),
        (GOOD | {"scoring": "max"}, r":1: scoring is 'max'; sum and mean are known"),
        (GOOD | {"metric": "acuracy"}, r"metric 'acuracy' is unknown; did you mean 'accuracy'\?"),
        (GOOD | {"metric": []}, r"metric: it is empty"),
        (GOOD | {"source": ["a"]}, r"source must be a text or a mapping"),
        (GOOD | {"source": {}}, r"source: it names no file; write train: FILE, or all: FILE"),
        (GOOD | {"source": {"trian": "a"}}, r"source: unknown split 'trian'; did you mean 'train'\?"),
        (GOOD | {"source": {"train": 3}}, r"source: train must be a text, not 3"),
        (GOOD | {"source": {"tfds": "a", "hub": "b"}}, r"source: it names tfds and hub; one of them only"),
        (GOOD | {"source": {"all": "a", "test": "b"}}, r"source: all stands for what is to be split"),
        (
            GOOD | {"source": {"train": "a", "config": "b"}},
            r"source: config is a hub data set's; leave it out",
        ),
        ("a: [", r":1: not YAML"),
        ("- a\n", r"must hold 'key: value' lines"),
        ("a: 1\na: 2\n", r":2: not YAML"),
    ],
)
def test_faulty_task_file_is_named(write, content, message):
    path = write(content)
    with pytest.raises(UserError, match=message) as error:
        read_task(path)
    assert str(error.value).startswith(str(path))


def test_file_that_is_no_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"source: \xff\n")
    with pytest.raises(UserError, match=r"mine.yaml: cannot be read as text: "):
        read_task(path)


def test_all_faults_come_at_once_with_their_lines(write):
    path = write(
        "source:\n  train: a.csv\n  tset: b.csv\n"
        "template:\n  one: '{text}'\n  two: '{'\n"
        "metric: [acuracy, f2]\nverbalizer: {a: 1, b: 1}\nscoring: max\nurls: x\n"
    )
    task, faults = parse_task(path)
    assert task is None
    found = [str(fault).removeprefix(f"{path}:").partition(" ") for fault in faults]
    assert [line for line, _, _ in found] == ["3:", "6:", "7:", "7:", "8:", "9:", "10:"]


def test_task_of_what_is_sound_is_there_to_check_its_data(write):
    task, faults = parse_task(write(GOOD | {"metric": "f2", "verbalizer": 3}))
    assert len(faults) == 2
    assert (task.metrics, task.verbalizer, task.template) == (("accuracy",), {}, "{text}")


def test_a_name_of_its_own(write):
    assert read_task(write(GOOD | {"name": "reviews-2"})).name == "reviews-2"
    with pytest.raises(UserError, match=r"mine.yaml:1: name is 'a/b'; write it with letters, digits"):
        read_task(write(GOOD | {"name": "a/b"}))
