import numpy as np
import pytest
from runs import random

from mpt.adaptation.calibrated_start import calibrated_start, leanings
from mpt.adaptation.held_out import class_scores
from mpt.catalog.library import find_task
from mpt.data.tokenise import encode
from mpt.methods.classifier import class_embeddings
from mpt.prompts import SoftPrompt
from mpt.prompts.class_head import HeadedPrompt
from mpt.prompts.prompted import Prompted

P, D = 4, 32


@pytest.fixture
def asked(pretrained, toy):
    """Three like prompts with a class head that lean towards one class, and rows of both classes."""
    task = find_task(toy["tone"])
    prompt = HeadedPrompt.start(
        SoftPrompt(random(0, 1, P, D).repeat(3, axis=0)), class_embeddings([task] * 3, pretrained)
    )
    prompt.bias[...] = prompt.bias[...].at[:, 0].set(4.0)
    rows = encode(task.sample("train", 12), pretrained.tokenizer, 24)
    assert {row.label for row in rows} == {0, 1}
    return Prompted(pretrained.backbone, prompt), rows


def test_no_class_is_likelier_over_the_rows_that_are_learnt(asked):
    model, rows = asked
    first, second = rows[:8], rows[4:]
    before = np.array(model.prompt.bias[...])
    calibrated = calibrated_start(model, [first, second, first])
    for index, learnt in enumerate((first, second, first)):
        assert leanings(class_scores(model, learnt, [index] * 8))[0] > 1
        np.testing.assert_allclose(leanings(class_scores(calibrated, learnt, [index] * 8)), 0, atol=1e-4)
    bias = np.asarray(calibrated.prompt.bias[...])
    np.testing.assert_array_equal(model.prompt.bias[...], before)
    np.testing.assert_allclose((bias - before).sum(axis=1), 0, atol=1e-5)
    assert abs(bias[0] - bias[1]).max() > 1e-3


def test_a_prompt_without_a_head_stays_as_it_is(asked, pretrained):
    plain = Prompted(pretrained.backbone, SoftPrompt(random(0, 1, P, D)))
    assert calibrated_start(plain, [asked[1]]) is plain
