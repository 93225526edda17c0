"""What all tests share: strict numerics, a tiny model made here, and toy tasks in files."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

# The models are tiny, and compiling them is what takes the time: little is optimised, and each program is
# compiled once for all workers and for the processes that tests start. JAX reads this when it is imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Strict numerics, in child processes too: nothing is broadcast along a new axis or cast without being told.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="mpt-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import pytest
from hypothesis import settings
from toys import (
    USERS_CACHE,
    WORDS,
    finish,
    stage,
    start_mpt,
    write_beginning,
    write_llama,
    write_t5,
    write_task,
)

from mpt import cli
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.system.quiet import hide_compiler

hide_compiler()

MAPPINGS = 40_000  # of memory, in a process

collect_ignore = ["golden", "make_golden.py"]  # no tests, and they import torch

# The same examples on every run, on machines of any speed.
settings.register_profile("mpt", max_examples=30, deadline=None, derandomize=True, database=None)
settings.load_profile("mpt")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    """A cache of the tests' own, also for the processes that they start."""
    os.environ["MPT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["HF_HUB_OFFLINE"] = "1"
    return Path(os.environ["MPT_CACHE"])


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Forgets compiled programs before the process has too many.

    Each takes several mappings of memory, of which Linux allows a process 65,530; beyond them, it aborts.
    """
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MAPPINGS:
        jax.clear_caches()


@pytest.fixture(scope="module")
def users_cache(cache):
    """The real assets are large: they are fetched once, into the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPT_CACHE", str(USERS_CACHE))
        yield


@pytest.fixture(scope="session")
def torch():
    """For the full set: what tests of the quick one need of torch's is in golden/."""
    return pytest.importorskip("torch", reason="python -m pip install -e '.[test-all]'")


@pytest.fixture(scope="session")
def peft():
    return pytest.importorskip("peft", reason="python -m pip install -e '.[test-all]'")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    return write_llama(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def beginning_model(tmp_path_factory) -> Path:
    """The tiny model with a tokenizer that adds the beginning-of-text token, number 1."""
    return write_beginning(tmp_path_factory.mktemp("beginning") / "tiny")


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5") / "tiny")


@pytest.fixture(scope="session")
def pretrained(tiny_model) -> Pretrained:
    return load_pretrained(str(tiny_model))


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> dict[str, str]:
    """Three task files: name -> path."""
    folder = tmp_path_factory.mktemp("toy")
    return {name: str(write_task(folder, name)) for name in WORDS}


@pytest.fixture(scope="session")
def plain_pretrain(tiny_model, toy) -> dict:
    """What a pretraining config on the tiny model holds, but for its run directory."""
    return {
        "model": {"name": str(tiny_model)},
        "tasks": [toy["tone"], toy["colour"]],
        "max_length": 24,
        "vectors": {"length": 4},
        "teachers": stage(),
        "universal": stage(),
        "gain_rows": 0,
    }


@pytest.fixture(scope="session")
def plain_adapt(tiny_model, toy) -> dict:
    """What an adaptation's config on the tiny model holds, but for its run directory and prompt."""
    return {
        "model": {"name": str(tiny_model)},
        "task": toy["mood"],
        "method": "prompt",
        "vectors": {"length": 4},
        "train": stage(6),
        "shots": 4,
        "max_length": 24,
        "validate_every": 3,
        "validation_rows": 8,
        "test_rows": 16,
        "baselines": False,
    }


@pytest.fixture
def config_file(tmp_path) -> Callable[..., str]:
    """Writes a config; nested keys are merged by the caller."""

    def write(content: dict, name: str = "run.yaml") -> str:
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.fixture(scope="session")
def universal(tmp_path_factory, plain_pretrain) -> Path:
    """The run directory of a finished pretraining."""
    folder = tmp_path_factory.mktemp("universal")
    config = folder / "pretrain.yaml"
    config.write_text(json.dumps(plain_pretrain | {"out": str(folder / "run")}))
    assert cli.main(["pretrain", str(config)]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def adapted(tmp_path_factory, plain_adapt, universal) -> Path:
    """The run directory of a finished adaptation with two seeds."""
    folder = tmp_path_factory.mktemp("adapted")
    config = folder / "adapt.yaml"
    keys = {"out": str(folder / "run"), "prompt": str(universal), "seeds": [0, 1]}
    config.write_text(json.dumps(plain_adapt | keys))
    assert cli.main(["adapt", str(config)]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def compare_file(tmp_path_factory, plain_pretrain, plain_adapt, toy) -> Path:
    """A comparison's config on the tiny model."""
    path = tmp_path_factory.mktemp("compare") / "compare.yaml"
    adapt = {name: value for name, value in plain_adapt.items() if name not in ("model", "task")}
    path.write_text(json.dumps({"pretrain": plain_pretrain, "targets": [toy["mood"]], "adapt": adapt}))
    return path


@pytest.fixture(scope="session")
def compared(tmp_path_factory, compare_file) -> tuple[Path, str]:
    """The run directory of a finished comparison, and what it printed; a process of its own."""
    run = tmp_path_factory.mktemp("compared") / "run"
    return run, finish(start_mpt("compare", str(compare_file), "--out", str(run)))
