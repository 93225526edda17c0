"""Checkpoints are whole, or found out."""

import resource
import shutil

import jax
import numpy as np
import pytest

from mpt.errors import UserError
from mpt.rundir.checkpoint import Checkpoints, Resumed


def state(step: int, size: int = 64) -> dict:
    return {"vectors": jax.random.normal(jax.random.key(step), (2, 16, size)), "count": jax.numpy.int32(step)}


def resumed(step: int, size: int = 64) -> Resumed:
    return Resumed(step, state(step, size), {"next": {"row": step}}, 1.5 * step)


def same(found: Resumed | None, step: int) -> bool:
    wanted = resumed(step)
    if found is None or found._replace(arrays=None) != wanted._replace(arrays=None):
        return False
    return jax.tree.all(jax.tree.map(np.array_equal, found.arrays, wanted.arrays))


def steps(folder) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The checkpoints of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for step in (3, 6):
        checkpoints.save(resumed(step), score=float(step))
    checkpoints.close()
    return folder


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of TensorStore's readers
@pytest.mark.parametrize("damage", [truncated, flipped])
def test_damage_to_any_file_is_harmless_or_found_out(saved, tmp_path, capsys, damage):
    fallen_back = 0
    for number, file in enumerate(sorted(path for path in (saved / "6").rglob("*") if path.is_file())):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        victim = folder / file.relative_to(saved)
        victim.write_bytes(damage(victim.read_bytes()))
        checkpoints = Checkpoints(folder)
        found = checkpoints.restore(state(0))
        error = capsys.readouterr().err
        if same(found, 3):
            fallen_back += 1
            assert f"mpt: warning: {folder / '6'}: this checkpoint is damaged" in error
            assert error.endswith("the one of step 3 is taken\n")
            assert error.count("\n") == 2
            checkpoints.save(resumed(6))  # in the place of the damaged one
            assert same(checkpoints.restore(state(0)), 6)
        else:
            assert same(found, 6), file
        checkpoints.close()
    assert fallen_back >= 5


def test_changed_values_are_found_out_by_the_checksum(saved, tmp_path, capsys):
    """Files that are whole, but of another step."""
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    shutil.rmtree(folder / "6" / "arrays")
    shutil.copytree(folder / "3" / "arrays", folder / "6" / "arrays")
    checkpoints = Checkpoints(folder)
    assert same(checkpoints.restore(state(0)), 3)
    checkpoints.close()
    assert "its checksum is another" in capsys.readouterr().err
    assert steps(folder) == [3]


def test_damage_to_all_is_an_error_that_removes_nothing(saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    for step in "36":
        (folder / step / "position" / "metadata").write_text("{}")
    with pytest.raises(UserError, match="all checkpoints are damaged; remove it"):
        Checkpoints(folder).restore(state(0))
    assert steps(folder) == [3, 6]


def test_last_two_are_kept_and_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, score in enumerate((0.5, 0.9, None, 0.6, 0.9, 0.7, None, None), 1):
        checkpoints.save(resumed(step), score)
    assert same(checkpoints.restore(state(0), best=True), 5)  # the later of equals
    assert same(checkpoints.restore(state(0)), 8)
    checkpoints.close()
    assert steps(tmp_path / "checkpoints") == [5, 7, 8]
    again = Checkpoints(tmp_path / "checkpoints")
    assert same(again.restore(state(0), best=True), 5)
    again.close()


def test_without_scores_the_best_is_the_last(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.restore(state(0)) is None
    for step in (1, 2, 3):
        checkpoints.save(resumed(step))
    assert same(checkpoints.restore(state(0), best=True), 3)
    checkpoints.close()
    assert steps(tmp_path / "checkpoints") == [2, 3]


@pytest.fixture
def small_files():
    """Files of 64 KB at most: a write beyond fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_for_a_checkpoint_leaves_the_last_one(tmp_path, small_files):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)
    checkpoints.save(resumed(1))
    checkpoints.save(resumed(2, size=4096))
    with pytest.raises(
        UserError, match=r"cannot be written \(.*the last good one is of step 1\. With free disk"
    ):
        checkpoints.close()
    small_files()
    again = Checkpoints(folder)
    assert same(again.restore(state(0)), 1)
    again.save(resumed(2))
    again.close()
    assert steps(folder) == [1, 2]
