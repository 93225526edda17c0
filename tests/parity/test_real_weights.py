"""The real weights of packaged models equal transformers' reading of the same files."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
import transformers
from golden import tiny

from mpt.errors import UserError
from mpt.loading.converted import converted
from mpt.loading.gguf.file import open_gguf
from mpt.loading.hf import SafetensorsFolder, files_hash, load_pretrained
from mpt.loading.located import locate
from mpt.loading.packaged import PACKAGED
from mpt.loading.shapes import abstract_backbone
from mpt.training.losses import cross_entropy
from mpt.types import Row

TEXTS = (
    "The capital of France is Paris, and that of Italy",
    " Prices rose 12.5% in 2023\n\n\tdef f(x): return x**2  # naïve café 日本語 🙂",
    "<|im_start|>user\nWhat's up?<|im_end|>\n<|im_start|>assistant\n",
    "I'll say they've DON'T   know   this 1234567 Ünïcödé\r\n",
    "",
)

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", params=PACKAGED)
def name(request, users_cache) -> str:
    """A model that is here, or whose terms, if it has some, are accepted."""
    try:
        locate(request.param)
    except UserError as error:
        if PACKAGED[request.param].terms:
            pytest.skip(str(error))
        raise
    return request.param


@pytest.fixture(scope="module")
def pretrained(name):
    return load_pretrained(name)


@pytest.fixture(scope="module")
def file(name):
    return locate(name)


def test_token_ids(pretrained, file):
    """Of numbers after several blanks and of signs like ½ there are none here: transformers overlooks
    that the file asks for digits to be cut off first."""
    theirs = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    for text in TEXTS:
        ours = pretrained.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ours == theirs(text, add_special_tokens=False)["input_ids"]


def test_what_is_kept_in_the_cache_is_the_file(pretrained, file):
    """The same weights and tokenizer, whether read from the file or from its converted form."""
    _, tokenizer, tensors = open_gguf(file)
    kept = SafetensorsFolder(converted(file))
    assert set(kept) == set(tensors)
    for name in ("model.embed_tokens.weight", "model.layers.7.self_attn.k_proj.weight", "model.norm.weight"):
        assert np.array_equal(kept[name], tensors[name])
    assert pretrained.hash == files_hash([file])
    for text in TEXTS:
        assert pretrained.tokenizer(text) == tokenizer(text)
    assert pretrained.tokenizer.chat_template == tokenizer.chat_template


@pytest.fixture(scope="module")
def reference(file, torch):
    options = {"gguf_file": file.name, "dtype": torch.float32}
    return transformers.AutoModelForCausalLM.from_pretrained(file.parent, **options).eval()


def test_logits_and_hidden_states(name, pretrained, reference, compare, torch):
    ids = [pretrained.tokenizer(text)["input_ids"] for text in TEXTS[:2]]
    batch = tiny.collate([Row(row[:1], row[1:]) for row in ids], [0, 0])
    width = pretrained.backbone.embedding.shape[1]
    output = jax.jit(lambda b, p: b(batch, p))(pretrained.backbone, np.zeros((1, 0, width), np.float32))
    for i, row in enumerate(ids):
        with torch.no_grad():
            theirs = reference(torch.tensor([row]), output_hidden_states=True)
        logits = np.asarray(output.logits[i, : len(row) - 1])
        assert np.abs(logits - theirs.logits[0, :-1].numpy()).max() < 1e-3
        compare(name, "logits", logits, theirs.logits[0, :-1])
        hidden = output.hidden[0][batch.grid[i, : len(row) - 1]]
        compare(name, "hidden", hidden, theirs.hidden_states[-1][0, :-1])


def test_the_shape_for_plans_is_that_of_the_weights(name, pretrained, monkeypatch, tmp_path):
    monkeypatch.setenv("MPT_CACHE", str(tmp_path))
    planned = abstract_backbone(name).spec
    assert replace(planned, norm_eps=0.0) == replace(
        pretrained.backbone.spec, norm_eps=0.0
    )  # in 32 bits there


def test_prompt_gradient(name, pretrained, reference, compare, torch, peft):
    """Of one row after a real text as the prompt, against peft."""
    prompt, (first, *rest) = (pretrained.tokenizer(text)["input_ids"] for text in (TEXTS[1], TEXTS[0]))
    vectors = pretrained.backbone.embed(np.array([prompt]))
    batch = tiny.collate([Row([first], rest)], [0])

    @jax.jit
    def gradient(backbone, vectors):
        def loss(vectors):
            return cross_entropy(backbone(batch, vectors).logits, batch.targets, batch.labelled).mean

        return jax.grad(loss)(vectors)[0]

    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(prompt))
    tuned = peft.get_peft_model(reference, config)
    weight = tuned.prompt_encoder["default"].embedding.weight
    weight.data = torch.tensor(np.asarray(vectors[0]))
    ids, labels = torch.tensor([[first, *rest]]), torch.tensor([[-100, *rest]])
    tuned(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.backward()
    compare(name, "prompt gradient", gradient(pretrained.backbone, vectors), weight.grad)
