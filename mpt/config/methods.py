"""The options of `mpt adapt` and of each method, which are read without the methods' code: that needs JAX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from mpt.config.adapt import AdaptOptions

AUTO = "auto"  # the method, or the prompt to start from, that suits the tasks

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
    "lora",
    "full",
    "examples",
]
Matrices = Literal["attention", "all"]


@dataclass(frozen=True)
class ClassifierConfig:
    """Prompt tuning with a class head, a linear map from the backbone's final states to the classes."""

    rate: float = 0.002
    """Adam's peak learning rate for the head."""


@dataclass(frozen=True)
class SpotConfig:
    """SPoT: the start is the source task's prompt that is most like the target's."""

    source: str = ""
    """The source task; chosen by similarity where left out."""
    steps: int = 8
    """Steps of prompt tuning that make the target's prompt to compare with."""


@dataclass(frozen=True)
class AttemptConfig:
    """ATTEMPT: each input attends over the source prompts and the target's own."""

    width: int = 100
    """Hidden units of the network that makes the query of an input."""
    rate: float = 0.001
    """Adam's peak learning rate for that network."""


@dataclass(frozen=True)
class UlptConfig:
    """ULPT: a prompt of few dimensions, projected up by a frozen random matrix."""

    rank: int = 64
    """The dimensions that are trained of each vector."""
    seed: int = 0
    """Seed of the random matrix."""
    shared_only: bool = False
    """With a universal prompt: only its shared part gets few dimensions; its factors train as they are."""


@dataclass(frozen=True)
class DeptConfig:
    """DePT: a shorter prompt, and input embeddings that are shifted by a low-rank matrix."""

    length: int = 0
    """Number of prompt vectors, 40 of 100 in the paper; 0 takes that of `vectors`."""
    rank: int = 8
    """Rank of the matrix of shifts; the paper's is 45."""
    rate: float = 0.001
    """Adam's peak learning rate for that matrix's factors."""


@dataclass(frozen=True)
class AdeptConfig:
    """ADePT: a soft prompt, and a small network that shifts the embedding of each input token."""

    length: int = 0
    """Number of prompt vectors; 0 takes that of `vectors`."""
    width: int = 16
    """Hidden units of the network."""
    rate: float = 0.001
    """Adam's peak learning rate for the network."""


@dataclass(frozen=True)
class PrefixConfig:
    """Prefix tuning: trained keys and values in front of the text, in every layer."""

    start: Literal["vectors", "examples", "random"] = "vectors"
    """The initial keys and values: those that the layers make of a prompt's initial vectors (see `vectors`;
    of a universal prompt, where one is given), those of training examples, or random numbers."""
    length: int = 0
    """Positions of the prefix; 0 takes the length of `vectors`. With `start: examples`, it has theirs."""
    tokens: int = 128
    """With `start: examples`: the most tokens that the instruction and the examples take."""
    rate: float = 0.03
    """Adam's peak learning rate for keys and values, whose numbers are far larger than an embedding's."""


@dataclass(frozen=True)
class LoraConfig:
    """LoRA: low-rank updates of the backbone's matrices."""

    rank: int = 8
    """Rank of each update."""
    matrices: Matrices = "attention"
    """Which matrices have an update: those of attention, or those of the feed-forward layers as well."""
    rate: float = 0.0005
    """Adam's peak learning rate."""


@dataclass(frozen=True)
class FullConfig:
    """Full fine-tuning: every weight of the backbone, in float32. The trained model is scored, and not kept.

    While it runs, its checkpoints are three times the model's size.
    """

    rate: float = 2e-5
    """Adam's peak learning rate."""


@dataclass(frozen=True)
class ExamplesConfig:
    """In-context examples: training examples in front of each input; nothing is trained."""

    tokens: int = 512
    """The most tokens that the instruction and the examples take: as many examples as fit are shown."""


@dataclass(frozen=True)
class AdaptConfig(AdaptOptions):
    """`mpt adapt`: new tasks from few examples; each seed draws its own examples."""

    method: MethodName = AUTO
    classifier: ClassifierConfig = ClassifierConfig()
    spot: SpotConfig = SpotConfig()
    attempt: AttemptConfig = AttemptConfig()
    ulpt: UlptConfig = UlptConfig()
    dept: DeptConfig = DeptConfig()
    adept: AdeptConfig = AdeptConfig()
    prefix: PrefixConfig = PrefixConfig()
    lora: LoraConfig = LoraConfig()
    full: FullConfig = FullConfig()
    examples: ExamplesConfig = ExamplesConfig()


def suited(method: MethodName, have_classes: bool) -> MethodName:
    """The method itself, or the one that suits the tasks: a class head, if all of them have class words."""
    if method != AUTO:
        return method
    return "classifier" if have_classes else "prompt"


def idle_options(method: MethodName) -> Sequence[str]:
    """The options of ``AdaptConfig`` that make no difference to a run of a method.

    They are what other methods would be told, and what is measured beside it.

    >>> idle_options("prompt")[:3], "lora" in idle_options("lora")
    (['baselines', 'classifier', 'spot'], False)
    """
    options = {field.name for field in fields(AdaptConfig)}
    return ["baselines", *(name for name in get_args(MethodName) if name in options - {method})]
