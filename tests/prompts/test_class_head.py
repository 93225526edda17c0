"""A class head beside a prompt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import random
from toys import write_task

from mpt.baselines import States
from mpt.catalog.library import find_task
from mpt.data.batches import Sizes, collate
from mpt.data.tokenise import encode
from mpt.errors import UserError
from mpt.inference.evaluate import choice_probabilities
from mpt.loading.hf import load_pretrained
from mpt.methods import AdaptConfig, for_tasks
from mpt.methods.classifier import class_embeddings
from mpt.prompts import SoftPrompt
from mpt.prompts.class_head import HeadedPrompt, headed
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import describe, load_prompt, save_prompt

P, D = 4, 32


@pytest.fixture(params=["decoder", "encoder-decoder"])
def asked(request, toy, tiny_model, tiny_t5):
    """A backbone of each layout, a task of two classes, and rows of different lengths."""
    model = load_pretrained(str(tiny_model if request.param == "decoder" else tiny_t5))
    task = find_task(toy["tone"])
    return model, task, encode(task.sample("test", 6), model.tokenizer, 24, model.backbone.layout)


def on_device(rows, layout, sizes=None):
    return jax.tree.map(jnp.asarray, collate(rows, [0] * len(rows), layout, sizes))


def with_head(pretrained, task) -> HeadedPrompt:
    width = pretrained.backbone.embedding.shape[-1]
    prompt = SoftPrompt(random(0, 1, P, width))
    return HeadedPrompt.start(prompt, class_embeddings([task], pretrained))


def test_scores_are_those_of_the_formula(asked):
    pretrained, task, rows = asked
    prompt = with_head(pretrained, task)
    for seed, part in enumerate((prompt.last, prompt.mean, prompt.bias), 1):
        part[...] = random(seed, *part.shape)
    model = Prompted(pretrained.backbone, prompt)
    layout = pretrained.backbone.layout
    for row in headed(prompt, rows):
        output = model(on_device([row], layout, Sizes.of([row], layout, classes=True)))
        text = output.hidden[0][: len(row.inputs)]
        last = text[-1] if layout == "decoder" else model(on_device([row], layout)).hidden[1][0, 0]
        wanted = (
            (prompt.classes[0] + prompt.last[0]) @ last + prompt.mean[0] @ text.mean(axis=0) + prompt.bias[0]
        )
        np.testing.assert_allclose(output.classes[0, :2], wanted, rtol=1e-4, atol=1e-5)
        assert (output.classes[0, 2:] == -np.inf).all()


def test_an_untrained_head_answers_as_words_of_one_token(pretrained, tmp_path):
    words = {"verbalizer": {"yes": "a", "no": "b"}}
    task = find_task(str(write_task(tmp_path, "tone", **words)))
    rows = encode(task.sample("test", 6), pretrained.tokenizer, 24)
    if any(len(word) > 1 for word in rows[0].choices):
        rows = [row._replace(choices=tuple(word[-1:] for word in row.choices)) for row in rows]
    prompt = with_head(pretrained, task)
    tokens = jnp.asarray([word[0] for word in rows[0].choices])
    prompt.classes[...] = pretrained.backbone.output_embeddings(tokens)[None]
    found = choice_probabilities(Prompted(pretrained.backbone, prompt), rows)
    plain = choice_probabilities(Prompted(pretrained.backbone, prompt.prompt), rows)
    np.testing.assert_allclose(found, plain, rtol=1e-4)


def test_calibration_scales_and_moves_scores(asked):
    pretrained, task, rows = asked
    prompt = with_head(pretrained, task)
    moved = prompt.rescored(0.5, np.array([0.3, -0.3], np.float32))
    before, after = (
        np.log(choice_probabilities(Prompted(pretrained.backbone, each), rows)) for each in (prompt, moved)
    )
    wanted = jax.nn.log_softmax(0.5 * before + jnp.array([[0.3, -0.3]]))
    np.testing.assert_allclose(after, wanted, rtol=1e-3, atol=1e-4)


def test_a_probe_reads_texts_without_the_prompt(asked, tmp_path):
    pretrained, task, rows = asked
    prompt = with_head(pretrained, task)
    classes, width = prompt.classes[0].shape
    probe = np.asarray(random(5, classes, 3, width))
    probed = prompt.rescored(0.5, 0.0, probe)
    facts = {"prompts": [task.name], "rows": {}, "method": "", "seeds": [0], "max_length": 24, "metrics": {}}
    save_prompt(tmp_path, "adapted", probed, describe(probed, pretrained, [task], **facts))
    read, _ = load_prompt(tmp_path, "adapted", pretrained)
    alone, both, again = (
        np.log(choice_probabilities(Prompted(pretrained.backbone, each), rows))
        for each in (prompt, probed, read)
    )
    wanted = 0.5 * alone + np.einsum("rsd,csd->rc", States(pretrained)(rows), probe)
    np.testing.assert_allclose(both, jax.nn.log_softmax(wanted), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(both, again)
    twice = np.log(choice_probabilities(Prompted(pretrained.backbone, probed.rescored(2.0, 0.0)), rows))
    np.testing.assert_allclose(twice, jax.nn.log_softmax(2 * wanted), rtol=1e-3, atol=1e-4)


def test_free_text_has_no_head(toy, tmp_path, pretrained):
    text = find_task(str(write_task(tmp_path, "tone", verbalizer={})))
    assert for_tasks(AdaptConfig(), [text]).method == "prompt"
    assert for_tasks(AdaptConfig(), [find_task(toy["tone"])]).method == "classifier"
    assert for_tasks(AdaptConfig(), [find_task(toy["tone"]), text]).method == "prompt"
    with pytest.raises(UserError, match="task tone has no class words, which method classifier needs"):
        class_embeddings([text], pretrained)
