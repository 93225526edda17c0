"""Context tuning: a training row does not attend to its own copy among the examples of its prefix."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import tiny
from test_prefix import ROWS, TASKS, naive_targets, outputs

from mpt.methods.context import ContextPrefix, fingerprint, keep
from mpt.methods.examples import Context
from mpt.prompts import PromptParam
from mpt.prompts.prompted import Prompted, take_prompts

# Two prefixes of 8 and 7 tokens, which is what both are cut to; the first has rows 1 and 2, the second row 0.
CONTEXTS = [
    Context([20, 10, 11, 12, 13, 14, 21, 22], {1: (1, 6), 2: (6, 8)}),
    Context([23, 5, 6, 7, 8, 9, 24], {0: (1, 6)}),
]
NUMBERED = [row._replace(number=number) for number, row in enumerate(ROWS)]


@pytest.fixture
def prompt(pretrained) -> ContextPrefix:
    return ContextPrefix.of(pretrained.backbone, CONTEXTS, [ROWS, ROWS])


@pytest.mark.parametrize(
    ("tasks", "hidden"),
    [([0, 0, 0], [[], range(5), range(5, 7)]), ([1, 0, 1], [range(1, 6), range(5), []])],
    ids=["one prefix", "two prefixes"],
)
def test_logits_are_those_of_attention_without_the_own_copy(pretrained, prompt, tasks, hidden):
    rows = [[row for row, task in zip(ROWS, tasks) if task == which] for which in (0, 1)]
    order = [row for which in rows for row in which]
    numbered = [row._replace(number=order.index(row)) for row in ROWS]
    batch = prompt.hiding(rows)(tiny.collate(numbered, tasks))
    used = prompt if any(tasks) else take_prompts(prompt, [0])  # one prefix takes another way
    found = outputs(Prompted(pretrained.backbone, used), batch).logits
    for i, (row, task, its) in enumerate(zip(ROWS, tasks, hidden)):
        expected = naive_targets(pretrained.backbone, prompt, row, task, its)
        np.testing.assert_allclose(found[i, : len(row.targets)], expected, rtol=0, atol=2e-5)


def test_nothing_is_hidden_outside_training(pretrained, prompt):
    found, kept = (
        outputs(Prompted(pretrained.backbone, each), tiny.collate(NUMBERED, TASKS)).logits
        for each in (prompt, keep(Prompted(pretrained.backbone, prompt)))
    )
    np.testing.assert_array_equal(found, kept)
    expected = naive_targets(pretrained.backbone, prompt, ROWS[0], 1)
    np.testing.assert_allclose(found[0, :1], expected, rtol=0, atol=2e-5)


def test_what_is_dropped_depends_on_the_batch_alone(pretrained):
    prompt = ContextPrefix.of(pretrained.backbone, CONTEXTS[:1] * 50, [ROWS] * 50, dropout=0.3)
    rows = [ROWS] * 50
    numbered = [row._replace(number=number) for number, row in enumerate(ROWS * 50)]
    batch, other = (
        tiny.collate(numbered, [i // 3 for i in range(150)]),
        tiny.collate(numbered[::-1], [0] * 150),
    )
    hidden, again = (prompt.hiding(rows)(batch).hidden for _ in range(2))
    np.testing.assert_array_equal(hidden, again)
    assert not np.array_equal(hidden, prompt.hiding(rows)(other).hidden)
    of_row_0 = np.asarray(hidden)[::3]  # it has no copy
    assert 0.2 < of_row_0.mean() < 0.4
    assert np.asarray(hidden)[1::3, 1:6].all(), "the own copy is always hidden"


def test_rows_are_told_apart_by_inputs_and_targets():
    apart = [
        ROWS[0],
        ROWS[0]._replace(targets=[8]),
        ROWS[0]._replace(inputs=[*ROWS[0].inputs, 9], targets=[]),
    ]
    assert len({fingerprint(row) for row in apart}) == 3
    assert fingerprint(ROWS[0]) == fingerprint(ROWS[0]._replace(number=7, inputs=np.array(ROWS[0].inputs)))


def test_only_keys_and_values_are_trained(prompt):
    trained = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(prompt, PromptParam))}
    assert trained == {"keys", "values"}
    assert jnp.issubdtype(prompt.copies[...].dtype, jnp.unsignedinteger)
