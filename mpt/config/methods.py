"""The options of `mpt adapt` and of each method. They are read without the methods' code, which needs JAX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from mpt.config.adapt import AdaptOptions

AUTO = "auto"  # the method, or the initial prompt, is chosen by the tasks

# Each but the first is the name of a file in `mpt/methods`.
MethodName = Literal[
    "auto",
    "prompt",
    "classifier",
    "spot",
    "attempt",
    "ulpt",
    "dept",
    "adept",
    "prefix",
    "context",
    "lora",
    "full",
    "examples",
]
Matrices = Literal["attention", "all"]


@dataclass(frozen=True)
class ClassifierConfig:
    """Prompt tuning with a class head, a linear map from the backbone's final hidden states to the
    classes."""

    rate: float = 0.002
    """Adam's peak learning rate for the class head."""


@dataclass(frozen=True)
class SpotConfig:
    """SPoT: starts from the prompt of the source task that is most similar to the target."""

    source: str = ""
    """The source task to start from; if left out, the most similar one."""
    steps: int = 8
    """Number of prompt-tuning steps for the target's prompt that the source prompts are compared with."""


@dataclass(frozen=True)
class AttemptConfig:
    """ATTEMPT: each input attends over the source prompts and the target's own prompt."""

    width: int = 100
    """Number of hidden units of the network that computes an input's attention query."""
    rate: float = 0.001
    """Adam's peak learning rate for the attention network."""


@dataclass(frozen=True)
class UlptConfig:
    """ULPT: a low-dimensional prompt, projected to the model's width by a frozen random matrix."""

    rank: int = 64
    """Number of trained dimensions per prompt vector."""
    seed: int = 0
    """Seed of the random matrix."""
    shared_only: bool = False
    """With a universal prompt: only its shared part is low-dimensional; the task's factors are trained as
    usual."""


@dataclass(frozen=True)
class DeptConfig:
    """DePT: a shorter prompt, and a low-rank matrix that is added to the input embeddings."""

    length: int = 0
    """Number of prompt vectors (the paper: 40 in place of 100). 0: `vectors.length`."""
    rank: int = 8
    """Rank of the matrix that is added; 45 in the paper."""
    rate: float = 0.001
    """Adam's peak learning rate for that matrix's two factors."""


@dataclass(frozen=True)
class AdeptConfig:
    """ADePT: a soft prompt, and a small network that shifts the embedding of each input token."""

    length: int = 0
    """Number of prompt vectors. 0: `vectors.length`."""
    width: int = 16
    """Number of hidden units of the network."""
    rate: float = 0.001
    """Adam's peak learning rate for the network."""


@dataclass(frozen=True)
class PrefixConfig:
    """Prefix tuning: trained keys and values in front of the text, in every layer."""

    start: Literal["vectors", "random"] = "vectors"
    """Initial keys and values. "vectors": those that the layers compute from a prompt's initial vectors (see
    `vectors`), or from the universal prompt given with `prompt`. "random": random numbers."""
    length: int = 0
    """Number of positions of the prefix. 0: `vectors.length`."""
    rate: float = 0.03
    """Adam's peak learning rate for keys and values, which are far larger numbers than embeddings."""


@dataclass(frozen=True)
class ContextConfig:
    """Context tuning: keys and values that start as those of training examples in context, then trained."""

    tokens: int = 512
    """Maximum number of tokens of the instruction and the examples: as many examples as fit are used."""
    dropout: float = 0.1
    """Probability with which a position of the prefix is hidden from a row in a training step."""
    rate: float = 0.01
    """Adam's peak learning rate for the keys and values."""


@dataclass(frozen=True)
class LoraConfig:
    """LoRA: low-rank updates of the backbone's weight matrices."""

    rank: int = 8
    """Rank of each update."""
    matrices: Matrices = "attention"
    """Which weight matrices are updated: those of attention, or also those of the feed-forward layers."""
    rate: float = 0.0005
    """Adam's peak learning rate for the updates."""


@dataclass(frozen=True)
class FullConfig:
    """Full fine-tuning: trains every weight of the backbone, in float32. The model is scored, but not saved.

    While it runs, its checkpoints take three times the model's size on disk.
    """

    rate: float = 2e-5
    """Adam's peak learning rate for the weights."""


@dataclass(frozen=True)
class ExamplesConfig:
    """In-context examples: training examples before each input; nothing is trained."""

    tokens: int = 512
    """Maximum number of tokens of the instruction and the examples: as many examples as fit are used."""


@dataclass(frozen=True)
class AdaptConfig(AdaptOptions):
    """`mpt adapt`: learns new tasks from few examples; each seed draws its own examples."""

    method: MethodName = AUTO
    classifier: ClassifierConfig = ClassifierConfig()
    spot: SpotConfig = SpotConfig()
    attempt: AttemptConfig = AttemptConfig()
    ulpt: UlptConfig = UlptConfig()
    dept: DeptConfig = DeptConfig()
    adept: AdeptConfig = AdeptConfig()
    prefix: PrefixConfig = PrefixConfig()
    context: ContextConfig = ContextConfig()
    lora: LoraConfig = LoraConfig()
    full: FullConfig = FullConfig()
    examples: ExamplesConfig = ExamplesConfig()


def suited(method: MethodName, have_classes: bool) -> MethodName:
    """The method that "auto" stands for: with a class head, if all tasks have class words."""
    if method != AUTO:
        return method
    return "classifier" if have_classes else "prompt"


def idle_options(method: MethodName) -> Sequence[str]:
    """The options of ``AdaptConfig`` that make no difference to a run of a method.

    These are the options of other methods, and the choice of baselines to compare with.

    >>> idle_options("prompt")[:3], "lora" in idle_options("lora")
    (['baselines', 'classifier', 'spot'], False)
    """
    options = {field.name for field in fields(AdaptConfig)}
    return ["baselines", *(name for name in get_args(MethodName) if name in options - {method})]
