"""The files of docs/cluster are what their readers take them for."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from toys import ROOT

from mpt import cli
from mpt.config.yaml_file import read_yaml
from mpt.system import paths

FOLDER = ROOT / "docs" / "cluster"


@pytest.mark.full
def test_jobset_has_no_key_and_no_type_that_its_schema_has_not():
    from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

    manifest = read_yaml(FOLDER / "jobset.yaml")
    read = JobsetV1alpha2JobSet.from_dict(manifest)
    assert read and read.to_dict() == manifest  # an unknown key is left out


@pytest.mark.full
@pytest.mark.parametrize("script", sorted(path.name for path in FOLDER.glob("*.sh")))
def test_shell_scripts_pass_shellcheck(script):
    checker = Path(sysconfig.get_path("scripts"), "shellcheck")
    done = subprocess.run([checker, FOLDER / script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def commands() -> list[str]:
    """Every `mpt pretrain` in the guide and its files, without quotes and brackets."""
    files = [FOLDER.with_suffix(".md"), *sorted(FOLDER.iterdir())]
    texts = (re.sub(r"[\"',\[\]]+", " ", file.read_text()) for file in files)
    found = (re.findall(r"\bmpt +(pretrain +mpt_.*)", text) for text in texts)
    return [" ".join(line.split()) for lines in found for line in lines]


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_commands_are_ones_that_mpt_knows(command, capsys, monkeypatch):
    monkeypatch.setattr(paths, "lacking", lambda _: "")  # a dry run asks no store; its client may be missing
    assert cli.main([*command.split(), "--dry-run"]) == 0
    assert "universal" in capsys.readouterr().out
