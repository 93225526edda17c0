"""A generated text has at most as many tokens as its task allows."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import pytest

from mpt.data.sources import Files
from mpt.data.task import Task
from mpt.data.tokenise import warn_of_long_targets
from mpt.errors import UserError
from mpt.inference import evaluate
from mpt.prompts import SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.types import Row

TASK = Task("story", Files({}), "{text}", metrics=("rougeL",))


@pytest.mark.parametrize("most", [1, 5, 70])
def test_no_text_is_longer_than_its_task_allows(pretrained, monkeypatch, most):
    lengths = []

    def counted(tokenizer, ids):
        lengths.append(len(ids))
        return "".join(map(str, ids))

    monkeypatch.setattr(evaluate, "decoded", counted)
    model = Prompted(pretrained.backbone, SoftPrompt(jnp.ones((1, 2, 32))))
    rows = [Row([3, 4, 5], [1]), Row([6], [1])]
    evaluate.written(model, replace(TASK, max_new_tokens=most), rows, pretrained.tokenizer)
    assert max(lengths) <= most and (most > 5 or lengths == [most] * 2)


def test_longer_targets_are_told_of(capsys):
    rows = [Row([3], [4] * length) for length in (3, 4, 5)]
    warn_of_long_targets(replace(TASK, max_new_tokens=4), "test", rows)
    told = capsys.readouterr().err
    assert "1 of 3 test rows of task story have a target of more than 4 tokens" in " ".join(told.split())
    warn_of_long_targets(replace(TASK, max_new_tokens=5), "test", rows)
    assert not capsys.readouterr().err


def test_a_task_allows_one_token_at_least():
    with pytest.raises(UserError, match="max_new_tokens is 0; give 1 or more"):
        replace(TASK, max_new_tokens=0)
