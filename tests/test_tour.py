"""The notebook in docs/: what it shows was run, and runs."""

import json
import os
import subprocess
import sys

import pytest
from toys import ROOT

NOTEBOOK = ROOT / "docs" / "tour.ipynb"
SOURCES = 'MODEL, SOURCES = "smollm2-135m", ["products", "vader_tweets"]'


@pytest.fixture(scope="module")
def cells():
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == "code"]


def test_notebook_was_run_from_top_to_bottom(cells):
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data", "stream"}
    assert {output.get("name") for output in outputs} <= {None, "stdout"}
    assert NOTEBOOK.stat().st_size < 300_000


def test_notebook_tells_nothing_of_the_machine(cells):
    outputs = json.dumps([cell["outputs"] for cell in cells])
    assert [place for place in ("/home/", "/root", "/tmp", "/usr", "site-packages") if place in outputs] == []


@pytest.mark.full
def test_notebook_runs_on_the_tiny_model(cells, tiny_model, toy, tmp_path):
    program = "\n".join("".join(cell["source"]) for cell in cells)
    assert SOURCES in program
    tiny = f"MODEL, SOURCES = {str(tiny_model)!r}, {[toy['tone'], toy['colour']]!r}"
    program = program.replace(SOURCES, tiny).replace('"steps": 16', '"steps": 2')
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert json.loads(answer)["results"][0]["probabilities"].keys() == {"complaint", "praise"}
