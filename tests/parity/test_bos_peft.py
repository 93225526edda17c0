"""An adapter that PEFT has trained with the beginning-of-text token, imported, is as sure of each class."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toys import beginning_tokenizer, write_task

from mpt import cli
from mpt.data.records import Record
from mpt.inference.predict import open_run, predicted

pytestmark = pytest.mark.full

TEXTS = ("so we go great 104", "it is awful to", "we")
WORDS = {"yes": " good", "no": " bad"}


SIZES = {
    "vocab_size": 283,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def model(request, tmp_path_factory, torch):
    """A folder with a random model, and a tokenizer that begins every text with a token."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("bos") / "model"
    torch.manual_seed(1)
    config = AutoConfig.for_model(request.param, **SIZES, initializer_range=0.2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    beginning_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory, torch, peft):
    """PEFT's adapter, and its probability of each class after what the tokenizer makes of each text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    torch.manual_seed(0)
    backbone = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    adapted = peft.get_peft_model(backbone, config).eval()
    optimizer = torch.optim.Adam(adapted.parameters(), lr=0.3)
    for step in range(8):
        text = f"{TEXTS[step % 2]}\nSo:{list(WORDS.values())[step % 2]}"
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids[0, 0] == tokenizer.bos_token_id
        loss = adapted(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = []
    for text in TEXTS:
        ids = tokenizer(f"{text}\nSo:", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        words = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in WORDS.values()]
        assert [len(word) for word in words] == [1, 1]
        found.append(logits[[word[0] for word in words]].softmax(-1).numpy())
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder)
    return folder, np.stack(found)


def probabilities(model, folder, tmp_path, rule: str) -> np.ndarray:
    """What mpt makes of the same texts after the imported adapter."""
    task, out = write_task(tmp_path, "tone"), tmp_path / rule
    arguments = ["--model", model, "--task", task, "--out", out, "--max-length", 40, "--bos", rule]
    assert cli.main(["import", *map(str, [folder, *arguments])]) == 0
    assert json.loads((out / "prompts" / "universal.json").read_text())["bos"] is (rule == "auto")
    records = [Record(text, {"text": text}) for text in TEXTS]
    answers = predicted(open_run(out), records)
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def test_probabilities_are_those_of_peft(model, theirs, tmp_path):
    folder, wanted = theirs
    np.testing.assert_allclose(probabilities(model, folder, tmp_path, "auto"), wanted, atol=2e-6)
    without = probabilities(model, folder, tmp_path, "false")
    assert np.abs(without - wanted).max() > 1e-3  # the token makes a difference
