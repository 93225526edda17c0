"""What each source task gained is measured on rows that it does not learn from, and told in the report."""

import jax.numpy as jnp
import numpy as np
import pytest
from toys import stage

from mpt.adaptation.held_out import class_scores
from mpt.catalog.library import find_task
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import from_plain
from mpt.data.tokenise import encode
from mpt.pretraining.gains import Gain, cosines, gains, gradients, kept_gains
from mpt.prompts import MultitaskPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import load_prompt
from mpt.recipes.pretrain import pretrain
from mpt.report.gains import remarks


@pytest.fixture(scope="module")
def rows(pretrained, toy):
    """Some rows of two tasks; one has fewer than the other."""
    tasks = [find_task(toy["tone"]), find_task(toy["colour"])]
    return [
        encode(task.sample("validation", count), pretrained.tokenizer, 24)
        for task, count in zip(tasks, (6, 3))
    ]


@pytest.fixture
def prompt(pretrained):
    """A universal prompt for two tasks, each with an instruction of its own."""
    shape = (2, 5, pretrained.backbone.embedding.shape[-1])
    random = jnp.asarray(np.random.default_rng(0).normal(0, 0.1, shape), jnp.float32)
    factors = MultitaskPrompt.start(random[0], 2, 1, jnp.array([0, 1], jnp.uint32))
    return MultitaskPrompt(factors.shared[...], factors.u[...], factors.v[...], random[:, :3])


def test_gradient_is_that_of_the_loss_among_the_classes(pretrained, rows, prompt):
    """Rows that fill a smaller task up do not change its mean: six of three rows are each of them twice."""

    def loss(shared, index):
        moved = Prompted(
            pretrained.backbone, MultitaskPrompt(shared, prompt.u[...], prompt.v[...], prompt.words[...])
        )
        return class_scores(moved, rows[index], [index] * len(rows[index])).loss()

    found = gradients(Prompted(pretrained.backbone, prompt), dict(enumerate(rows)))
    for index, gradient in enumerate(found):
        step = (0.02 / jnp.linalg.norm(gradient) * gradient).reshape(prompt.shared.shape)
        slope = (loss(prompt.shared[...] + step, index) - loss(prompt.shared[...] - step, index)) / 0.04
        np.testing.assert_allclose(slope, np.linalg.norm(gradient), rtol=0.02)


def test_a_task_without_held_out_rows_is_left_out(pretrained, rows, prompt):
    found = gains(
        pretrained.backbone,
        ["a", "b"],
        [rows[0], []],
        {"start": prompt, "teacher": prompt, "universal": prompt},
        prompt,
    )
    (one,) = found
    assert (one.task, one.rows, one.cosine) == ("a", 6, 0.0)
    assert one.start == one.teacher == one.universal


def test_tasks_without_held_out_rows_have_no_gains(pretrained, prompt):
    assert (
        gains(pretrained.backbone, ["a", "b"], [[], []], {"start": prompt, "universal": prompt}, prompt) == []
    )


def test_cosines_are_with_the_others():
    assert cosines(np.array([[3.0, 0.0], [0.0, 2.0]])) == [0.0, 0.0]
    found = cosines(np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(found, [0.5**0.5, 2 / 5**0.5, 2 / 5**0.5])


def test_those_that_lose_or_harm_are_named():
    fine = Gain("fine", 8, start=1.0, teacher=0.4, universal=0.5, cosine=0.3)
    lost, against = fine._replace(task="lost", universal=1.5), fine._replace(task="against", cosine=-0.2)
    assert remarks([fine]) == []
    first, second = remarks([fine, lost, against])
    assert first.endswith("before pretraining: lost.")
    assert second.startswith("Gradients opposed to the other tasks': against.")


def test_run_keeps_what_its_tasks_gained_and_goes_on_where_it_was_killed(
    tmp_path, plain_pretrain, pretrained, toy
):
    stages = {"teachers": stage(2), "universal": stage(2), "out": str(tmp_path / "run"), "gain_rows": 8}
    config = from_plain(PretrainConfig, plain_pretrain | stages, "test")
    run = pretrain(config, pretrained)
    found = kept_gains(run)
    assert found and [gain.task for gain in found] == ["tone", "colour"]
    universal, _ = load_prompt(run, "universal")
    assert isinstance(universal, MultitaskPrompt)
    held_out = encode(find_task(toy["colour"]).sample("validation", 8), pretrained.tokenizer, 24)
    scores = class_scores(Prompted(pretrained.backbone, universal), held_out, [1] * 8)
    np.testing.assert_allclose(found[1].universal, scores.loss(), rtol=1e-5)
    assert "Source tasks" in (run / "report.html").read_text()

    (run / "gains.json").unlink()
    (run / "report.html").unlink()
    pretrain(config, pretrained)
    assert kept_gains(run) == found
