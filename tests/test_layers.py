"""Imports go one way: a package imports what stands below it, never what stands above."""

import ast
from pathlib import Path

import mpt

ROOT = Path(mpt.__file__).parent

# From the faces down to the ground. What stands on one line may import each other's names freely.
LAYERS = """
cli
api
commands
run
recipes
plan
report
comparison
continual_learning
serve
pretraining
adaptation
baselines
interop insight
inference
methods
training
prompts
cards
catalog
loading
models
render
data
rundir
sharding metrics
config
system
types
errors version
"""
LEVEL = {name: level for level, line in enumerate(LAYERS.split("\n")) for name in line.split()}
EVERYWHERE = {"__init__", "tasks", "configs"}  # `mpt.tasks` is the folder of task files


def _imported(tree: ast.AST) -> set[str]:
    """The modules of mpt that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} if node.module != "mpt" else {f"mpt.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("mpt.")}


def _part(module: str) -> str:
    return module.split(".")[1]


def test_no_import_goes_against_the_layers():
    upward = []
    for file in sorted(ROOT.rglob("*.py")):
        part = file.relative_to(ROOT).with_suffix("").parts[0]
        if part in EVERYWHERE:
            continue
        for module in sorted(_imported(ast.parse(file.read_text()))):
            other = _part(module)
            if other not in EVERYWHERE and other != part and LEVEL[other] <= LEVEL[part]:
                upward.append(f"{file.relative_to(ROOT)} imports {module}")
    assert not upward, "\n".join(upward)


def test_every_module_and_package_has_a_layer():
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - EVERYWHERE == LEVEL.keys()


def test_rooms_are_few_and_small():
    loose = list(ROOT.glob("*.py"))
    assert len(loose) <= 8
    for folder in {file.parent for file in ROOT.rglob("*.py") if not file.is_symlink()} - {ROOT}:
        files = [file for file in folder.glob("*.py") if file.stem != "__init__"]
        assert len(files) <= 15, folder
