"""What is measured, the most important first: models, and the prompts, rows and texts on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from mpt.loading.shapes import SHAPES

REAL = "smollm2-135m"  # comes with its weights; those of the others are random
ANSWERS, NEW_TOKENS, BATCH = 10_000, 64, 128

# Behind ReLU's kinks a random model's gradient is rough; GELU costs the same.
SMOOTH = {"feed_forward_proj": "gelu", "decoder_start_token_id": 0}
MODELS: dict[str, dict[str, Any]] = {
    REAL: SHAPES[REAL],
    "llama-3.2-1b": SHAPES["Llama-3.2-1B"],
    "llama-3.1-8b": SHAPES["Llama-3.1-8B"],
    "t5-base": SHAPES["t5-base"] | SMOOTH,
    "t5-large": SHAPES["t5-large"] | SMOOTH,
}


class Step(NamedTuple):
    """A training step: the prompt's length, and how many rows of how many tokens."""

    prompt: int
    rows: int
    tokens: int


@dataclass(frozen=True)
class Setup:
    """A model, which each program loads once, and what is measured on it.

    Attributes:
        steps: the training steps.
        kernels: the kernels of attention that mpt is measured with.
        answers: classification and generation are measured, too.
        profile: the slowest of all steps so far is profiled here instead; mpt's alone.
    """

    model: str
    dtype: str = "bfloat16"
    steps: tuple[Step, ...] = ()
    kernels: tuple[str, ...] = ("plain",)
    answers: bool = False
    profile: bool = False

    @property
    def name(self) -> str:
        return f"{self.model} {self.dtype}"


EXACT = (Step(20, 8, 64),)  # where rounding explains no difference
SHORT, LONG, BOTH = Step(100, 32, 64), Step(100, 32, 512), ("plain", "cudnn")
OTHERS = (Step(20, 32, 64), Step(100, 128, 64), Step(100, 8, 512), Step(20, 8, 64), Step(20, 128, 512))
SETUPS = (
    Setup(REAL, steps=(SHORT, LONG), kernels=BOTH, answers=True),
    Setup("llama-3.1-8b", steps=(SHORT, LONG), kernels=BOTH),
    Setup("t5-base", steps=(SHORT, LONG), kernels=BOTH),
    Setup("llama-3.2-1b", steps=(SHORT, LONG)),
    Setup("", profile=True),
    *(Setup(model, "float32", EXACT) for model in (REAL, "t5-base", "llama-3.2-1b")),
    Setup("t5-large", steps=(SHORT, LONG)),
    *(Setup(model, steps=OTHERS) for model in MODELS),
)


class Scale(NamedTuple):
    """All that is measured; ``tiny`` is the same for a CPU."""

    models: dict[str, dict[str, Any]] = MODELS
    setups: tuple[Setup, ...] = SETUPS
    answers: int = ANSWERS
    new_tokens: int = NEW_TOKENS
    product: int = 8192
    enough: float = 3.0  # seconds that a step is repeated for
    limit: float = 75.0  # seconds that a case may take, with its compilation


def tiny() -> Scale:
    """A decoder and an encoder-decoder of a few thousand weights, in float32, on a few short rows."""
    small = {"vocab_size": 256, "tie_word_embeddings": True}
    decoder = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    both_ways = {"d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64}
    models = {
        REAL: MODELS[REAL] | small | decoder | {"num_key_value_heads": 2},
        "t5-base": MODELS["t5-base"] | small | both_ways,
    }
    steps = (Step(10, 4, 8), Step(3, 2, 24))
    setups = (
        Setup(REAL, "float32", steps, ("plain", "xla"), answers=True),
        Setup("t5-base", "float32", steps[:1], ("plain", "xla")),
        Setup("", profile=True),
    )
    return Scale(models, setups, answers=40, new_tokens=4, product=256, enough=0.1, limit=600.0)
