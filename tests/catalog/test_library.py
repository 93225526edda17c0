"""Tasks by name, and from a user's own file."""

import pytest

from mpt.catalog.library import find_task, packaged_tasks
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
