"""On meshes of eight devices a step is what it is on one; and what crosses the network is counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCALARS = 64  # bytes that a step's loss and its terms' weights may take


def _every(family: str):
    return pytest.param((family, "all"), marks=pytest.mark.full, id=f"{family}, every mesh")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("llama",), id="llama"),
        *map(_every, ("llama", "t5", "qwen3_moe", "gpt_oss", "qwen3_5", "gemma4", "t5gemma", "t5gemma2")),
    ],
)
def found(request) -> dict:
    """What the benchmark's worker finds: only a process of its own can have eight devices."""
    environment = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_PLATFORMS": "cpu",
        "NPROC": "16",
    }
    paths = [str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, str(BENCHMARKS / "sharding_worker.py"), *request.param]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"family": request.param[0], "every": len(request.param) > 1}


def test_every_mesh_gives_one_devices_loss_and_gradient(found):
    assert len(found["meshes"]) == (5 if found["every"] else 4)
    for mesh, line in found["meshes"].items():
        assert line["loss"] < 1e-5, mesh
        assert line["gradient"] < 1e-5, mesh


def test_every_mesh_trains_the_same_prompt(found):
    trained = [line["prompt"] for line in found["meshes"].values() if "prompt" in line]
    assert len(trained) >= 2
    assert max(trained) < 1e-4


def test_under_data_parallelism_only_the_prompts_gradient_crosses(found):
    line = found["meshes"]["8 × 1 × 1"]["bytes"]
    assert list(line) == ["all-reduce"]
    assert found["gradient bytes"] <= line["all-reduce"] <= found["gradient bytes"] + SCALARS


def test_under_fsdp_weights_are_gathered_and_only_the_gradient_is_summed(found):
    line = found["meshes"]["1 × 8 × 1"]["bytes"]
    assert line["all-gather"] > 0
    assert found["gradient bytes"] <= line["all-reduce"] <= found["gradient bytes"] + SCALARS


def test_under_tensor_parallelism_no_weight_moves(found):
    """What is gathered is the gradient of keys and values, where KV heads are repeated: T5 repeats none."""
    if found["family"] != "t5":
        pytest.skip("Llama repeats KV heads; pytest -m full has T5")
    assert list(found["meshes"]["1 × 1 × 8"]["bytes"]) == ["all-reduce"]
