"""The real model on real text: a quick look that it reads and that its tasks make sense to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mpt.catalog.library import find_task
from mpt.config.options import PromptConfig
from mpt.data.batches import collate
from mpt.data.tokenise import encode
from mpt.inference.evaluate import grade, predictions
from mpt.loading.hf import load_pretrained
from mpt.prompts import SoftPrompt
from mpt.prompts.initial import starting_vectors
from mpt.prompts.prompted import Prompted
from mpt.types import Row

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def smollm2(users_cache):
    return load_pretrained("smollm2-135m")


def test_plain_english_is_not_surprising(smollm2):
    ids = smollm2.tokenizer("The capital of France is Paris, and the capital of Italy is Rome.")["input_ids"]
    # A prompt of the first token stands in front of the others.
    prompt = smollm2.backbone.embedding[...][jnp.array(ids[:1])][None]
    batch = jax.tree.map(jnp.asarray, collate([Row(ids[1:2], ids[2:])], [0]))
    logits = np.asarray(smollm2.backbone(batch, prompt).logits[0], np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    assert np.exp(-log_p[range(len(ids) - 2), ids[2:]].mean()) < 10


def test_hard_prompt_tells_feelings_better_than_chance(smollm2):
    task = find_task("products")
    vectors = starting_vectors(PromptConfig(length=0), [task], [0], smollm2)
    examples = list(task.examples("test"))
    few = [[e for e in examples if e.target == word][:16] for word in task.choices]
    balanced = [*few[0], *few[1]]
    model = Prompted(smollm2.backbone, SoftPrompt(vectors))
    found = predictions(model, task, encode(balanced, smollm2.tokenizer, 48), smollm2.tokenizer)
    assert grade(task, balanced, found)["accuracy"] > 0.6
