"""The mesh that a config asks for, and the one table of rules."""

from __future__ import annotations

import pytest
from jax.sharding import PartitionSpec
from toys import refused

from mpt.config.options import MeshConfig
from mpt.errors import UserError
from mpt.plan.collectives import collective_bytes
from mpt.sharding import mesh_sizes, spec
from mpt.system.launch import launch

SIZES = {"data": 2, "fsdp": 2, "tensor": 4}


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (MeshConfig(), (8, 1, 1)),
        (MeshConfig(fsdp=-1, data=2), (2, 4, 1)),
        (MeshConfig(tensor=8), (1, 1, 8)),
        (MeshConfig(2, 2, 2), (2, 2, 2)),
    ],
)
def test_one_axis_takes_what_the_others_leave(config, sizes):
    assert tuple(mesh_sizes(config, 8).values()) == sizes


@pytest.mark.parametrize("config", [MeshConfig(3, 1, 2), MeshConfig(tensor=3), MeshConfig(1)])
def test_a_mesh_that_does_not_fit_is_refused(config):
    with pytest.raises(UserError, match=r"mesh data \d × fsdp 1 × tensor \d needs \d devices, there are 8"):
        mesh_sizes(config, 8)


@pytest.mark.parametrize("sizes", [{"data": 0}, {"fsdp": -2}, {"data": -1, "fsdp": -1}])
def test_lengths_that_mean_nothing_are_refused(sizes):
    with pytest.raises(UserError, match="one of them may be -1"):
        MeshConfig(**sizes)


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("layer embed heads head_dim", (2, 32, 8, 4), (None, "fsdp", "tensor", None)),
        ("layer embed kv_heads head_dim", (2, 32, 8, 4), (None, "fsdp", "tensor", None)),
        ("layer embed kv_heads head_dim", (2, 32, 2, 4), (None, "fsdp", None, None)),
        ("layer mlp embed", (2, 64, 32), (None, "tensor", "fsdp")),
        ("vocab embed", (97, 33), (None, None)),
        ("layer embed", (2, 32), (None, None)),
        ("layer mlp", (2, 64), (None, "tensor")),
    ],
)
def test_rules(axes, shape, expected):
    assert spec(tuple(axes.split()), shape, SIZES) == PartitionSpec(*expected)


@pytest.mark.parametrize(("axis", "what"), [("heads", "9 heads"), ("mlp", "9 feed-forward units")])
def test_tensor_must_divide_heads_and_feed_forward(axis, what):
    with pytest.raises(UserError, match=f"tensor 4 does not divide the model's {what}"):
        spec(("embed", axis), (32, 9), SIZES)


def test_a_mesh_that_does_not_fit_this_machine_is_one_line(capsys, config_file, plain_pretrain, tmp_path):
    config = config_file(plain_pretrain | {"out": str(tmp_path / "run")})
    error = refused(capsys, "pretrain", config, "--mesh.tensor", "2")
    assert "mesh data 1 × fsdp 1 × tensor 2 needs 2 devices, there are 1" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("2", "--", "evaluate", "runs/x"), "'evaluate' does not run in several processes; known: adapt"),
        (
            ("2", "--", "pretrian", "x"),
            "'pretrian' does not run in several processes; did you mean 'pret",
        ),
        (("2", "pretrain", "x"), "no command; write it after --, as in: mpt launch --processes 2 -- "),
        (("2",), "no command; write it after --, as in: mpt launch --processes 2 -- pretrain CONFIG"),
        (("0", "--", "pretrain"), "processes: it must be 1 or more, not 0"),
    ],
)
def test_what_cannot_be_launched_is_refused(capsys, arguments, why):
    assert why in refused(capsys, "launch", "--processes", *arguments)


def test_processes_are_heard_by_their_numbers_and_end_together(capsys):
    """With commands that need no JAX."""
    launch(["--help"], 2)
    lines = capsys.readouterr().out.splitlines()
    assert {line[:15] for line in lines if "usage" in line} == {"[0] usage: mpt ", "[1] usage: mpt "}
    told = r"process \d of 2 ended with status 2, the others were stopped: mpt: task 'movie' is unknown; did"
    with pytest.raises(UserError, match=told):
        launch(["tasks", "show", "movie"], 2)


def test_collectives_in_loops_count_as_often_as_the_loop_runs():
    program = """
%body (x: f32[4]) -> f32[4] {
  %all-gather.1 = bf16[2,4]{1,0} all-gather(%x), dimensions={0}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %sums = (f32[2,3]{1,0}, f32[]) all-reduce(%a, %b), to_apply=%add
  %loop = (f32[4]) while(%x), condition=%less, body=%body, backend_config={"known_trip_count":{"n":"3"}}
}
"""
    assert collective_bytes(program) == {"all-reduce": 28, "all-gather": 48}
