"""Tasks and configs travel with the package."""

import importlib.util
import os
import subprocess
import sys
import zipfile

import pytest
from toys import ROOT

import mpt.configs
import mpt.tasks


def test_tasks_and_configs_are_the_top_level_folders():
    for package in (mpt.tasks, mpt.configs):
        assert os.path.samefile(package.__path__[0], ROOT / package.__name__.removeprefix("mpt."))


@pytest.mark.full
@pytest.mark.skipif(not importlib.util.find_spec("setuptools"), reason="building a wheel needs setuptools")
def test_wheel_holds_tasks_configs_and_prompts(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    here = {
        f"mpt/{path.relative_to(ROOT)}"
        for folder in ("tasks", "configs")
        for path in (ROOT / folder).glob("*.[py]*")
    } | {path.relative_to(ROOT).as_posix() for path in (ROOT / "mpt/prompts/packaged").iterdir()}
    assert here <= names
    assert not {name for name in names if name.startswith(("tests/", "tasks/", "configs/"))}
    program = (
        "from mpt.config.yaml_file import find_config\n"
        "from mpt.catalog.library import find_task\n"
        "import mpt\n"
        f"assert mpt.__file__.startswith({str(tmp_path)!r})\n"
        "print(find_config('quickstart'), find_task('movies').name)\n"
    )
    paths = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, cwd=tmp_path)
