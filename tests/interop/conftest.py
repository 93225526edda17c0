"""A tiny T5, and adapters as peft itself saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toys import tiny_tokenizer


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory) -> Path:
    """A Hugging Face folder: a random T5 of two layers."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder, tokenizer = tmp_path_factory.mktemp("t5") / "tiny", tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=8,
        d_ff=40,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture
def peft_saves(tmp_path) -> Callable:
    """Saves a fresh adapter; returns its folder and the vectors of its prompts, [T, V·S, D]."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    def save(model: Path, config: peft.PromptLearningConfig, tasks: int = 1):
        kind = AutoModelForCausalLM if config.task_type == "CAUSAL_LM" else AutoModelForSeq2SeqLM
        tuned = peft.get_peft_model(kind.from_pretrained(model), config)
        folder = tmp_path / "adapter"
        tuned.save_pretrained(folder)
        with torch.no_grad():
            return folder, tuned.get_prompt(tasks, task_ids=torch.arange(tasks)).numpy()

    return save
