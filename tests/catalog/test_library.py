"""Tasks by name, and from a user's own file."""

import pytest
from toys import refused, toy_rows, write_task

from mpt.catalog.library import find_task, find_tasks, in_folders, name_of, packaged_tasks
from mpt.errors import UserError


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


@pytest.fixture
def two(tmp_path, monkeypatch) -> list[str]:
    """Two task files of one name, in folders of their own."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_task(tmp_path / name, "task", toy_rows("tone"))
    return ["a/task.yaml", "b/task.yaml"]


def test_two_files_of_one_name_are_told(two):
    with pytest.raises(UserError) as refused:
        find_tasks("adapt", two)
    assert str(refused.value) == (
        "adapt: a/task.yaml and b/task.yaml are both called 'task'; "
        "give b/task.yaml another name by a line such as name: my_task"
    )


def test_a_name_in_the_file_tells_them_apart(two, tmp_path):
    file = tmp_path / "b" / "task.yaml"
    file.write_text(file.read_text().replace("{", '{"name": "other", ', 1))
    assert [task.name for task in find_tasks("adapt", two)] == ["task", "other"]
    assert [name_of(name) for name in two] == ["task", "other"]


def test_a_file_named_like_a_packaged_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path, "movies", toy_rows("tone"))
    for names in (["movies", "movies.yaml"], ["movies.yaml", "movies"]):
        with pytest.raises(UserError, match=r"both called 'movies'; give movies\.yaml another name"):
            find_tasks("compare", names)


def test_one_file_by_two_paths_is_one_task(two, tmp_path):
    assert len(find_tasks("compare", ["a/task.yaml", str(tmp_path / "b" / ".." / "a" / "task.yaml")])) == 2


def test_a_folder_stands_for_its_task_files(two, tmp_path):
    (tmp_path / "a" / "deeper").mkdir()
    write_task(tmp_path / "a" / "deeper", "other", toy_rows("tone"))
    names = ["sst2", "a", "b/task.yaml"]
    assert in_folders(names) == ["sst2", "a/deeper/other.yaml", "a/task.yaml", "b/task.yaml"]
    (tmp_path / "movies").mkdir()
    assert in_folders(["movies", ""]) == ["movies", ""]  # the packaged task, and what is no name
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no task file in this folder"):
        in_folders(["empty"])


def test_a_file_that_is_gone_counts_by_its_own_name():
    assert name_of("gone/mine.yaml") == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        "pretrain --tasks a/task.yaml b/task.yaml",
        "pretrain --tasks a/task.yaml b/task.yaml --dry-run",
        "pretrain --tasks a b",
        "compare --targets a b",
        "adapt --task a/task.yaml --also b/task.yaml",
        "compare --targets a/task.yaml b/task.yaml",
        "compare --targets a/task.yaml --tune.tasks b/task.yaml --tune.factors 1",
        "continual --tasks a/task.yaml b/task.yaml",
        "adapt --task a/task.yaml --also b/task.yaml --dry-run",
    ],
)
def test_every_command_tells_two_tasks_of_one_name(two, capsys, tiny_model, arguments):
    key = "--pretrain.model.name" if arguments.startswith("compare") else "--model.name"
    methods = ["--methods", "LoRA"] if arguments.startswith("compare") else []
    error = refused(capsys, *arguments.split(), key, str(tiny_model), *methods)
    assert "a/task.yaml and " in error and "both called 'task'" in error


def test_file_of_a_tasks_name_does_not_stand_in_its_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("movies", "films.csv"):
        (tmp_path / name).touch()
    assert find_task("movies").name == "movies"
    with pytest.raises(UserError, match=r"films.csv is not a task file: write one, such as films.yaml"):
        find_task("films.csv")
