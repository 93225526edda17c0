"""What the references and mpt are both given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from golden import SEEDS, normal, normals
from golden.tiny import WIDTH, shapes
from mpt.types import Row

PROMPT = 4

# By layout. Of several lengths, also longer than the families' windows, and of one target or more.
ROWS = {
    "decoder": [
        Row([5, 9, 11, 4, 7, 7, 30, 21, 22, 40, 3, 17], [8, 12, 6]),
        Row([33, 5], [9]),
        Row([6, 14, 25, 36, 47, 2, 19], [20, 41]),
    ],
    "encoder-decoder": [
        Row([5, 9, 11, 4, 7, 7, 30, 21, 22, 40, 3, 17, 2], [8, 12, 6, 2]),
        Row([33, 2], [9, 2]),
        Row([6, 14, 25, 36, 47, 19, 2], [20, 41, 2]),
    ],
}
INDEX = [1, 0, 1]  # of each row's prompt


def prompts(count: int, length: int = PROMPT) -> np.ndarray:
    return normal(SEEDS["prompts"], count, length, WIDTH)


# Attention: targets of one token and of two.
SEEN = [Row([5, 9, 11, 4, 7, 7, 30], [21, 22]), Row([33, 2], [9]), Row([6, 14, 25, 36], [20, 41])]

# Generation.
WRITTEN = ["llama", "mistral", "gemma2", "gemma3_text", "gpt2", "t5-1.1", "umt5"]
WRITTEN += [
    "smollm3",
    "granite",
    "olmo2",
    "olmo3",
    "phi3",
    "ministral3",
    "qwen3_moe",
    "gpt_oss",
    "qwen3_5_text",
    "gemma4_text",
    "t5gemma",
    "t5gemma-narrow",
    "t5gemma2",
]
TEXTS = [[5, 9, 11, 4, 7, 7, 30, 21, 22, 40, 3, 17], [33, 5], [6, 14, 25, 36, 47, 19]]
STOP, MOST = [2, 11, 23], 12

# Gradients of weights, and of LoRA's factors.
RANK = 3


def directions(family: str) -> dict[str, np.ndarray]:
    """One for each tensor."""
    return normals(SEEDS["directions"], shapes(family))


def factors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return normals(SEEDS["factors"], shapes, scale=0.3)


# Exported prompts, read by peft.
EXPORTED = [
    Row([5, 9, 11, 4, 7, 7, 30, 21], [8, 12, 6]),
    Row([33, 5], [9]),
    Row([6, 14, 25, 36, 47], [20, 41]),
]
EXPORT_STOP = [11, 23]

# Losses, on the toy Llama: rows of mixed tasks and lengths; the last two have targets of several tokens.
LOSS_ROWS = [Row([5, 6, 7, 8], [9]), Row([10, 11], [12]), Row([3] * 9, [4, 5, 6]), Row([20, 21], [22, 23])]
TASKS = [2, 0, 0, 1]
WEIGHTS = {"task": 1.0, "kl": 0.9, "hidden": 0.7}
J, R = 3, 2


def parts() -> dict[str, np.ndarray]:
    """The factors of a multitask prompt, and its teachers."""
    shapes = {
        "shared": (1, PROMPT, WIDTH),
        "u": (J, PROMPT, R),
        "v": (J, R, WIDTH),
        "teachers": (J, PROMPT, WIDTH),
    }
    scales = {"shared": 0.1, "u": 1.0, "v": 1.0, "teachers": 0.1}
    return {
        name: normal(seed, *shapes[name], scale=scales[name]) for name, seed in zip(shapes, SEEDS["parts"])
    }
