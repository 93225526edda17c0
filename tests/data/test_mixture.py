"""Batches are a function of the seed and the step alone."""

import itertools

import grain
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.config.options import TrainConfig
from mpt.data.mixture import SHORT, few_shot, shares, training_batches
from mpt.errors import UserError
from mpt.types import Row, Shards

# Each row's tokens name it: task and place. Task sizes differ.
SIZES = (200, 1000, 400)
ROWS = [[Row([task, place], [1]) for place in range(size)] for task, size in enumerate(SIZES)]


SAMPLINGS = ["equal", "proportional", "stochastic"]


def batches(steps=30, batch_size=12, sampling="equal", seed=0, rows=ROWS, parts=1, shards=None, **rest):
    config = TrainConfig(steps=steps, batch_size=batch_size, sampling=sampling, microbatches=parts, **rest)
    made = training_batches(rows, config, seed, shards=shards)
    return made.map(lambda batch: jax.tree.map(lambda array: array[0], batch)) if parts == 1 else made


def same(a, b) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_batch_depends_on_seed_and_step_only(sampling):
    forwards, backwards = batches(sampling=sampling), batches(sampling=sampling)
    expected = [forwards[i] for i in range(30)]
    assert all(same(backwards[i], expected[i]) for i in reversed(range(30)))
    assert not same(batches(sampling=sampling, seed=1)[0], expected[0])


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("stop", [0, 7])
def test_reading_goes_on_from_a_saved_position(sampling, stop):
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    reader = iter(batches(sampling=sampling).to_iter_dataset(options))
    for _ in range(stop):
        next(reader)
    position = reader.get_state()
    rest = list(reader)
    resumed = iter(batches(sampling=sampling).to_iter_dataset(options))
    resumed.set_state(position)
    assert len(rest) == 30 - stop
    assert all(same(a, b) for a, b in zip(rest, resumed, strict=True))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_row_reads_its_own_tasks_prompt(sampling):
    for batch in batches(sampling=sampling):
        assert batch.prompt_index.tolist() == batch.tokens[batch.grid[:, 0]].tolist()
        assert len(batch.prompt_index) == 12


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_parts_are_the_whole(sampling):
    def read(batch) -> list[tuple[int, ...]]:
        tokens = batch.tokens[batch.grid[:, :2]]
        return [(*row, prompt) for row, prompt in zip(tokens.tolist(), batch.prompt_index.tolist())]

    for whole, stack in zip(batches(sampling=sampling), batches(sampling=sampling, parts=3)):
        parts = [read(jax.tree.map(lambda array, i=i: array[i], stack)) for i in range(3)]
        assert [len(part) for part in parts] == [4, 4, 4]
        assert sorted(itertools.chain(*parts)) == sorted(read(whole))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_each_batch_without_overlap(sampling, processes):
    """Six shards, and each process reads its own of every part."""
    own = [tuple(range(i, 6, processes)) for i in range(processes)]
    shares = [batches(sampling=sampling, parts=2, shards=Shards(each, 6)) for each in own]
    for whole, *read in zip(batches(sampling=sampling), *shares):
        assert {batch.numbers.shape for batch in read} == {(2, 6 // processes, 1)}
        assert len({batch.tokens.shape for batch in read}) == len({batch.grid.shape for batch in read}) == 1
        assert sorted(np.concatenate([batch.numbers.ravel() for batch in read])) == sorted(whole.numbers)


def test_rows_that_cannot_be_dealt_out_equally_are_refused():
    with pytest.raises(UserError, match="12 rows cannot be divided into 1 microbatches × 5 shards"):
        batches(shards=Shards((0,), 5))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_rows_number_is_its_place_among_all_rows(sampling):
    first = np.cumsum([0, *SIZES])
    for batch in batches(sampling=sampling):
        assert batch.numbers.tolist() == (first[batch.prompt_index] + batch.tokens[batch.grid[:, 1]]).tolist()


@pytest.mark.parametrize("parts", [1, 3])
def test_batches_of_a_short_stage_have_one_size(parts):
    lengths = np.random.default_rng(0).integers(1, 40, 60)
    rows = [[Row([1] * int(length), [1]) for length in lengths]]

    def shapes(steps):
        made = batches(steps=steps, rows=rows, parts=parts)
        return {tuple(array.shape for array in jax.tree.leaves(batch)) for batch in made}

    assert len(shapes(SHORT)) == 1
    assert len(shapes(SHORT + 1)) > 1


def test_only_the_number_of_tokens_varies_in_a_long_stage():
    rng = np.random.default_rng(0)
    words = [
        [[int(word)] + [2] * int(rng.integers(3)) for word in range(3, rng.integers(5, 9))] for _ in range(8)
    ]
    rows = [
        [Row([1] * int(rng.integers(1, 40)), each[0], tuple(each), 0) for each in words for _ in range(8)]
    ]
    made = batches(steps=SHORT + 20, rows=rows, objective="classes")
    assert len({(batch.grid.shape, batch.classes.paths.shape) for batch in list(made)[:SHORT]}) == 1
    assert len({batch.tokens.shape for batch in made}) > 1


def test_proportional_sampling_draws_rows_by_share():
    index = np.concatenate([batch.prompt_index for batch in batches(300, 12, "proportional")])
    assert np.bincount(index) / len(index) == pytest.approx(np.array(SIZES) / sum(SIZES), abs=0.03)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.2, 0.8]),
        ({"share_cap": 100}, [0.5, 0.5]),
        ({"temperature": 2.0}, [1 / 3, 2 / 3]),
        ({"shares": (3.0, 1.0)}, [0.75, 0.25]),
    ],
)
def test_shares(options, expected):
    assert shares([100, 400], TrainConfig(**options)) == pytest.approx(expected)


def test_shares_are_one_for_each_task():
    with pytest.raises(UserError, match="shares: 2 are given for 3 tasks; give one for each"):
        batches(sampling="proportional", shares=(1.0, 2.0))


def test_equal_sampling_gives_equal_quotas():
    for batch in batches():
        assert np.bincount(batch.prompt_index, minlength=3).tolist() == [4, 4, 4]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_tasks_have_their_turns_over_several_steps(batch_size):
    """A batch of fewer rows than there are tasks, or of no multiple, left the last tasks out."""
    drawn = list(batches(steps=300, batch_size=batch_size))
    counts = np.bincount(np.concatenate([batch.prompt_index for batch in drawn]))
    assert counts.tolist() == [100 * batch_size] * 3
    numbers = np.concatenate([batch.numbers[batch.prompt_index == 0] for batch in drawn])[: SIZES[0]]
    assert len(set(numbers.tolist())) == len(numbers) == min(SIZES[0], 100 * batch_size)


def test_rows_come_back_only_after_all_the_others():
    drawn = batches(steps=50, batch_size=60)
    places = [batch.tokens[batch.grid[batch.prompt_index == 1, 1]] for batch in drawn]
    assert sorted(np.concatenate(places)) == list(range(1000))


def of_classes(*sizes: int) -> list[Row]:
    return [Row([0], [1], label=label) for label, size in enumerate(sizes) for _ in range(size)]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_balanced_steps_have_each_class_of_a_task_alike(sampling):
    rows = [of_classes(9, 2, 4), of_classes(5, 30)]
    made = batches(rows=rows, sampling=sampling, balanced=True)
    assert not same(batches(rows=rows, sampling=sampling, balanced=True, seed=1)[0], made[0])
    labels = np.array([row.label for task in rows for row in task])
    for batch in made:
        for task, classes in enumerate((3, 2)):
            read = labels[batch.numbers[batch.prompt_index == task]]
            assert np.ptp(np.bincount(read, minlength=classes)) <= 1


def test_balanced_rows_come_back_only_after_all_the_others_of_their_class():
    made = batches(steps=9, batch_size=3, rows=[of_classes(9, 2, 4)], balanced=True)
    numbers = np.concatenate([batch.numbers for batch in made])
    assert sorted(np.bincount(numbers)) == [*[1] * 9, *[2] * 3, 3, 4, 5]


def test_stochastic_sampling_takes_two_to_all_tasks():
    rows = [[Row([task, 0], [1])] * 1000 for task in range(5)]
    counts = {len(set(batch.prompt_index)) for batch in batches(100, 20, "stochastic", rows=rows)}
    # Tasks are drawn with replacement: one alone is rare, never the rule.
    assert counts >= {2, 3, 4}
    assert max(counts) <= 5


def test_stochastic_sampling_draws_tasks_by_their_share_of_rows():
    index = np.concatenate([batch.prompt_index for batch in batches(300, 12, "stochastic")])
    share = np.bincount(index) / len(index)
    assert share == pytest.approx(np.array(SIZES) / sum(SIZES), abs=0.05)


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8), st.integers(0, 9))
def test_few_shot_takes_that_many_of_each_class(labels, per_class, seed):
    places = few_shot(labels, per_class, seed)
    assert len(set(places)) == len(places)
    for label in set(labels):
        assert sum(labels[i] == label for i in places) == min(per_class, labels.count(label))


def test_few_shot_can_count_the_rows_in_all():
    places = few_shot([0] * 9 + [1], 4, 0, "task")
    assert len(set(places)) == 4 and set(places) <= set(range(10))
    assert few_shot([0, 1], 4, 0, "task") in ([0, 1], [1, 0])


def test_few_shot_follows_its_seed():
    labels = [i % 2 for i in range(100)]
    assert few_shot(labels, 4, 0) == few_shot(labels, 4, 0)
    assert few_shot(labels, 4, 0) != few_shot(labels, 4, 1)
