"""The project's own files: the README is short, links lead somewhere, and metadata follow their schemas."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from toys import ROOT

import mpt
from mpt.config.yaml_file import read_yaml

FOLDERS = ("mpt", "tests", "tasks", "configs", "docs", "benchmarks")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
FILES = [*PAGES, ROOT / "docs" / "tour.ipynb", *(ROOT / "docs" / "cluster").iterdir()]


def prose(page: Path) -> str:
    """A page's text: of a notebook that of its cells in Markdown, of Markdown what is no block of code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures that are no addresses on the web."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if not re.match(r"https?:|mailto:", target)]


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    titles = re.findall(r"^#+ +(.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", [*PAGES, ROOT / "docs" / "tour.ipynb"], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in links(page):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_in_pages_exist(page):
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", prose(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_no_page_installs_a_package_that_is_not_published():
    """Until mpt is on PyPI, it is installed from a checkout."""
    assert [file.name for file in FILES if re.search(r"install\b.*\bmpt-jax", file.read_text("utf-8"))] == []


def test_citation_is_of_this_version():
    assert read_yaml(ROOT / "CITATION.cff")["version"] == mpt.__version__


@pytest.mark.full
@pytest.mark.parametrize(
    "file, schema",
    [(".github/workflows/ci.yml", "github-workflows"), ("CITATION.cff", "citation-file-format")],
)
def test_metadata_follow_their_schemas(file, schema):
    checker = Path(sysconfig.get_path("scripts"), "check-jsonschema")
    command = [checker, "--builtin-schema", f"vendor.{schema}", ROOT / file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.full
def test_continuous_integration_runs_on_every_python():
    matrix = read_yaml(ROOT / ".github/workflows/ci.yml")["jobs"]["ci"]["strategy"]["matrix"]
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "setup.py").read_text())
    assert matrix["python"] == supported
