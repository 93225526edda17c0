"""The search for a mesh and a batch, with a compiler that only does arithmetic."""

import dataclasses

import pytest

from mpt.config.options import MeshConfig, ModelConfig, TrainConfig
from mpt.config.yaml_file import from_plain, to_plain
from mpt.plan.chips import Chip
from mpt.plan.job import Estimate, Job
from mpt.plan.search import Facts, best, dealt_out, fitted, guess, meshes, ranked, search
from mpt.plan.step import abstract_model, kept_bytes

CHIP = Chip(memory=16e9, flops=200e12, bandwidth=800e9, links=200e9)
FACTS = Facts(weights=14e9, flops=2e12, layers=32, width=4096, itemsize=2, heads=32, d_ff=11008)
JOB = Job(
    model=ModelConfig(name="llama-7b"),
    train=TrainConfig(batch_size=24),
    prompts=4,
    length=16,
    rank=1,
    shared=1,
    distilled=True,
    inputs=128,
    labels=2,
    mesh=MeshConfig(1),
    chip=CHIP,
)


def compiler(weights: float = 14e9, per_row: float = 1e9):
    """Says that a step takes what its weights and rows do, and remembers what it was asked."""
    asked: list[Job] = []

    def compile(job: Job) -> Estimate:
        asked.append(job)
        held = weights / (job.mesh.fsdp * job.mesh.tensor) + per_row * job.rows / job.shards
        if held > CHIP.memory:
            return Estimate(memory=held, fault=f"needs {held:.0f}")
        # Doubling the rows takes less than double the time.
        return Estimate(memory=held, flops=1.0, seconds=(10 + job.rows) / 100)

    return compile, asked


def test_a_job_travels_as_text_unchanged():
    for job in (JOB, dataclasses.replace(JOB, nodes=3)):
        assert from_plain(Job, to_plain(job), "job") == job


def test_a_step_keeps_the_nodes_of_class_words_too(tiny_model):
    job = dataclasses.replace(JOB, model=ModelConfig(str(tiny_model)), inputs=16, distilled=False)
    model = abstract_model(job)
    target, tree = (kept_bytes(dataclasses.replace(job, nodes=nodes), model) for nodes in (-1, 16))
    assert 1.5 * target < tree


def test_every_mesh_has_all_chips_and_divides_heads_and_feed_forward():
    found = meshes(64, heads=36, d_ff=96)
    assert {mesh.data * mesh.fsdp * mesh.tensor for mesh in found} == {64}
    assert {mesh.tensor for mesh in found} == {1, 2, 4}
    assert len(set(found)) == len(found) == 7 + 6 + 5


def test_rows_are_dealt_out_equally_and_never_fewer_than_asked():
    assert dealt_out(JOB, MeshConfig(8, 1, 2)).rows == 24
    assert dealt_out(JOB, MeshConfig(16, 1, 1)).rows == 32
    two = dataclasses.replace(JOB, train=TrainConfig(batch_size=24, microbatches=2))
    assert dealt_out(two, MeshConfig(8, 1, 2)).rows == 32


def test_a_mesh_whose_chips_cannot_hold_the_weights_is_not_tried():
    heavy = FACTS._replace(weights=100e9)
    assert all(job.mesh.fsdp * job.mesh.tensor > 6 for job in ranked(JOB, heavy, meshes(16, 32, 11008)))
    assert ranked(JOB, FACTS._replace(weights=300e9), meshes(16, 32, 11008)) == []


def test_where_weights_fit_a_chip_dealing_out_rows_alone_is_the_first_guess():
    light = FACTS._replace(weights=2e8)
    first = ranked(dataclasses.replace(JOB, train=TrainConfig(batch_size=64)), light, meshes(16, 32, 11008))[
        0
    ]
    assert first.mesh == MeshConfig(16, 1, 1)
    assert guess(first, light) < guess(first.on(MeshConfig(1, 16, 1), 64), light)


def test_batches_grow_until_memory_is_full():
    compile, asked = compiler()
    tried = search(ranked(JOB, FACTS, [MeshConfig(2, 8, 1)]), FACTS.weights, compile, tries=9)
    assert [job.rows for job in asked] == [32, 64, 128, 256]  # 256 rows are 16 GB a chip, and weights
    assert [one.fits for one in tried] == [True, True, True, False]
    suggested = best(tried)
    assert suggested and suggested.job.rows == 128
    assert suggested.tokens_per_second == pytest.approx(128 * 130 / 1.38)


def test_no_more_is_tried_than_asked_for():
    compile, asked = compiler(per_row=1e6)
    search(ranked(JOB, FACTS, meshes(16, 32, 11008)), FACTS.weights, compile, tries=5)
    assert len(asked) == 5
    assert len({job.mesh for job in asked}) == 3


def test_where_no_mesh_fits_the_nearest_has_its_rows_in_more_parts():
    compile, asked = compiler(per_row=6e9)  # 24 GB for the rows of a chip
    large = dataclasses.replace(JOB, train=TrainConfig(batch_size=64))
    candidates = [MeshConfig(8, 2, 1), MeshConfig(4, 4, 1), MeshConfig(2, 8, 1)]
    tried = search(ranked(large, FACTS, candidates), FACTS.weights, compile, tries=6)
    suggested = best(tried)
    assert suggested and suggested.job.mesh == MeshConfig(2, 8, 1)
    assert [(job.rows, job.train.microbatches) for job in asked] == [(64, 1), (64, 1), (64, 1), (64, 2)]


def test_where_the_first_meshes_do_not_fit_it_goes_on_with_one_that_should():
    compile, asked = compiler(per_row=3e9)  # 6 GB for the rows of a chip, and 14 for the weights
    some = [MeshConfig(16, 1, 1), MeshConfig(1, 1, 16), MeshConfig(2, 1, 8), MeshConfig(4, 4, 1)]
    jobs = [dealt_out(JOB, mesh) for mesh in some]
    tried = search(jobs, FACTS.weights, compile, tries=6)
    assert [(job.mesh, job.train.microbatches) for job in asked[:4]] == [(mesh, 1) for mesh in some]
    assert [one.fits for one in tried[:4]] == [False, False, False, True]


def test_where_nothing_fits_there_is_no_best():
    compile, asked = compiler(per_row=1e12)
    tried = search(ranked(JOB, FACTS, meshes(16, 32, 11008)), FACTS.weights, compile, tries=9)
    assert best(tried) is None
    assert len(set(asked)) == len(asked) == 9


def test_a_compiler_that_fails_for_other_reasons_is_asked_for_other_meshes():
    asked: list[Job] = []

    def compile(job: Job) -> Estimate:
        asked.append(job)
        return Estimate(fault="not compiled within 3 s")

    search(ranked(JOB, FACTS, meshes(16, 32, 11008)), FACTS.weights, compile, tries=5)
    assert len({job.mesh for job in asked}) == 5


def test_a_stage_that_does_not_fit_is_planned_in_as_many_parts_as_it_takes():
    compile, _ = compiler(weights=1e9, per_row=4e9)
    one = fitted(dealt_out(JOB, MeshConfig(4)), compile)  # 24 rows: 6 of each chip
    assert one.fits and one.job.train.microbatches == 2
    compile, _ = compiler(weights=1e9, per_row=20e9)
    one = fitted(dealt_out(JOB, MeshConfig(4)), compile)  # three rows of a chip cannot be halved
    assert not one.fits and one.job.train.microbatches == 2
