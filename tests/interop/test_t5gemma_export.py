"""What other libraries cannot find out about a T5Gemma by themselves is written into its exports."""

from __future__ import annotations

import json

import pytest
import runs
from golden import tiny
from tokenizers import processors

from mpt.interop.exporting import export_run


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The two prompts of an adaptation, for a model whose tokenizer begins texts and does not end them."""
    folder = tmp_path_factory.mktemp("run")
    tokenizer = tiny.tokenizer()
    tokenizer.bos_token = "w1"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="w1 $A", pair="w1 $A w1 $B", special_tokens=[("w1", 1)]
    )
    model = folder / "model"
    model.mkdir()
    tiny.write(model, "t5gemma", tokenizer, tiny.weights("t5gemma"))
    return export_run(runs.adapted_run(folder / "run", model), "peft", folder / "exported")


def test_peft_is_told_the_sizes_that_the_config_keeps_inside(exported):
    for config in exported.glob("*/adapter_config.json"):
        written = json.loads(config.read_text())
        assert (written["num_layers"], written["num_attention_heads"], written["token_dim"]) == (2, 4, 32)


def test_a_text_is_to_be_read_as_in_training(exported):
    readme = (exported / "README.md").read_text()
    assert "tokenizer(tokenizer.bos_token + text, add_special_tokens=False" in readme


@pytest.mark.full
def test_peft_loads_them(exported, peft):
    import torch
    from golden.references import model_of

    tuned = peft.PeftModel.from_pretrained(model_of("t5gemma"), next(exported.glob("0-*")))
    ids = torch.tensor([[5, 9, 11]])
    assert (
        tuned(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=ids)
        .logits.isfinite()
        .all()
    )
