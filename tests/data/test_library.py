"""Tasks by name, and from a user's own file."""

import json

import pytest

from mpt.data.library import find_task, packaged_tasks, read_task
from mpt.errors import UserError

GOOD = {"source": "a.jsonl", "template": "{text}", "verbalizer": {"yes": "good", "no": "bad"}}


@pytest.fixture
def write(tmp_path):
    def write(content) -> str:
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
    assert (task.name, task.metric) == ("mine", "macro_f1")
    assert (example.inputs, example.target, example.choices) == ("fine. So:", "good", ("bad", "good"))


def test_boolean_labels_match_json_and_yaml(write, tmp_path):
    """JSON's true, YAML's true and the word in quotes are one label to whoever writes them."""
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": true}\n')
    task = read_task(
        write("source: {train: a.jsonl}\ntemplate: '{text}'\nverbalizer: {true: good, false: bad}")
    )
    assert task.examples("train")[0].target == "good"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD | {"tempate": "x"}, r"unknown key 'tempate'; did you mean 'template'\?"),
        ({"source": "a.jsonl"}, r"missing key 'template'"),
        ({"template": "{text}"}, r"missing key 'source'"),
        (GOOD | {"template": 3}, r"template must be a text, not 3"),
        (GOOD | {"verbalizer": ["a"]}, r"verbalizer must be a mapping, not \['a'\]"),
        (GOOD | {"source": ["a"]}, r"source must be a text or a mapping"),
        (GOOD | {"metric": "acuracy"}, r"metric 'acuracy' is unknown; did you mean 'accuracy'\?"),
        (GOOD | {"source": {"trian": "a"}}, r"source: unknown split 'trian'; did you mean 'train'\?"),
        (GOOD | {"template": "none"}, r"task mine: template: it names no"),
        ("a: [", r":1: not YAML"),
        ("- a\n", r"must hold 'key: value' lines"),
        ("a: 1\na: 2\n", r"not YAML"),
    ],
)
def test_faulty_task_file_is_named(write, content, message):
    path = write(content)
    with pytest.raises(UserError, match=message) as error:
        read_task(path)
    assert str(error.value).startswith(str(path))


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"gone.yaml: no such file"):
        find_task(str(tmp_path / "gone.yaml"))


def test_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match=r"task 'movie' is unknown; did you mean 'movies'\?"):
        find_task("movie")


@pytest.mark.parametrize("name", packaged_tasks())
def test_packaged_task_says_what_it_is(name):
    task = packaged_tasks()[name]
    assert task.url.startswith("https://") or task.url.startswith("http://")
    assert task.instruction.endswith("\n")
