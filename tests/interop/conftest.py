"""Adapters as peft itself saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def peft_saves(tmp_path) -> Callable:
    """Saves a fresh adapter, the same each time; returns its folder and its prompts' vectors, [T, V·S, D]."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    def save(model: Path, config: peft.PromptLearningConfig, tasks: int = 1):
        kind = AutoModelForCausalLM if config.task_type == "CAUSAL_LM" else AutoModelForSeq2SeqLM
        torch.manual_seed(0)
        tuned = peft.get_peft_model(kind.from_pretrained(model), config)
        folder = tmp_path / "adapter"
        tuned.save_pretrained(folder)
        with torch.no_grad():
            return folder, tuned.get_prompt(tasks, task_ids=torch.arange(tasks)).numpy()

    return save
