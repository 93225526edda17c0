"""Options that several commands share, as frozen dataclasses.

`mpt.config.yaml_file` reads and writes them as YAML. The docstring below a field is the help text of that
option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpt.errors import UserError

Decay = Literal["cosine", "linear", "constant"]
TrackerName = Literal["wandb", "mlflow"]
BosRule = Literal["auto", "true", "false"]
UNTIL_BEST = -1  # steps: until the held-out loss no longer improves
WHOLE = -1  # the length of an instruction: as many vectors as it has tokens


def refuse_open(**stages: TrainConfig) -> None:
    """Checks that the number of steps of every stage is fixed.

    Args:
        stages: the stages, by the names of their options.

    Raises:
        UserError: a stage has no fixed number of steps.
    """
    for name, stage in stages.items():
        if stage.is_open:
            raise UserError(
                f"{name}.steps: only `mpt adapt` can find the number of steps by itself; give a number"
            )


@dataclass(frozen=True)
class ModelConfig:
    """The backbone, whose weights stay frozen."""

    name: str = "smollm2-135m"
    """The model: a packaged name, a folder in Hugging Face's format, a GGUF file, or owner/name on the
    hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of weights and activations. Prompts, normalisation and losses are always float32."""
    weights: Literal["full", "int8"] = "full"
    """Storage of the frozen matrices: in the data type of `dtype`, or rounded to 8 bits, which takes a
    quarter of float32's memory."""
    remat: Literal["elementwise", "layers", "nothing"] = "elementwise"
    """What the backward pass recomputes instead of storing: "elementwise" is fastest, "layers" takes the
    least memory, "nothing" stores all activations."""
    decoder_prompt: int = 0
    """For encoder-decoder models: number of prompt vectors that are prepended to the decoder's input. These
    are the last ones of the prompt; the others are prepended to the encoder's input."""
    bos: BosRule = "auto"
    """Whether every text begins with the tokenizer's beginning-of-text (BOS) token, which then comes after
    the prompt. "auto" follows the prompt to start from; without one, it follows the tokenizer: the token is
    added if the tokenizer adds it by default."""


@dataclass(frozen=True)
class PromptConfig:
    """The shape of a prompt and its initial value."""

    length: int = 16
    """Number of prompt vectors. The papers use 100 with T5; a shorter prompt makes every example cheaper. 0:
    as many as the text that the prompt starts from has tokens."""
    rank: int = 1
    """Rank of the task-specific factors of a universal prompt; the MPT paper uses 1. With 0, all tasks use
    exactly the same prompt."""
    start: Literal["instruction", "vocabulary", "classes", "text", "uniform"] = "instruction"
    """Initial value of the prompt: embeddings of the task's instruction; of tokens sampled from the
    vocabulary; of the task's class words, followed by sampled tokens; of the option `text`; or uniform random
    numbers between -0.5 and 0.5. A text is repeated or cut to the prompt's length."""
    text: str = ""
    """The initial text for `start: text`. If all teachers start from the same text, they stay so close to one
    another that their mean is a usable prompt."""
    layer: int = 0
    """The layer, counted from 0, before which the prompt is inserted (late prompt tuning): its vectors are
    prepended to the text's hidden states there, and the earlier layers process the text alone. 0 prepends
    them to the input embeddings."""
    every_layer: bool = False
    """Train keys and values in every layer (prefix tuning) instead of input vectors. They start as the keys
    and values that the layers compute from the initial vectors. This has more parameters, and needs fewer
    steps on many source tasks. `mpt export` cannot write such a prompt in any format; it writes those of
    `method: prefix` as PEFT's PREFIX_TUNING."""

    def __post_init__(self):
        if self.every_layer and self.layer:
            raise UserError("vectors: set only one of vectors.layer and vectors.every_layer")
        if not self.length and self.start not in ("instruction", "text"):
            raise UserError(
                f"vectors.length: 0 takes the length of the initial text, and vectors.start {self.start} has "
                "none; give a number"
            )


@dataclass(frozen=True)
class TrainConfig:
    """How a stage is trained: number of steps, batches, optimizer and mixture of tasks."""

    steps: int = 60
    """Number of optimizer steps. -1, which only `mpt adapt` accepts and has as its default: until the loss on
    held-out examples stops improving."""
    epochs: float = 0.0
    """Number of passes over the training examples of all tasks. Unless it is 0, it replaces `steps`."""
    batch_size: int = 24
    """Number of examples per step, in total over all tasks (or seeds) that are trained at the same time."""
    objective: Literal["classes", "vocabulary"] = "vocabulary"
    """Loss for tasks with class words. "classes": cross-entropy over the task's classes. "vocabulary": token
    cross-entropy over the whole vocabulary, which is always used for free text."""
    microbatches: int = 1
    """Number of microbatches per step (gradient accumulation). They are computed one after another, which
    gives the same gradient in less memory."""
    learning_rate: float = 0.005
    """Adam's peak learning rate for prompt vectors, whose values are about as large as embeddings', 0.1."""
    factor_rate: float = 0.02
    """Adam's peak learning rate for parameters with values of about 1: the low-rank factors u and v of a
    universal prompt, and the keys and values of `vectors.every_layer`."""
    word_rate: float = 0.015
    """Adam's peak learning rate for the instruction embedding after the prompt of a target task, if there is
    one; 0 freezes it. Pretraining never trains it."""
    warmup: float = 0.1
    """Fraction of the steps over which the learning rate rises linearly from zero to its peak."""
    decay: Decay = "cosine"
    """Learning-rate schedule after the warm-up: "cosine" or "linear" to zero; "constant" keeps the peak."""
    weight_decay: float = 0.0
    """Coefficient of decoupled weight decay (AdamW): each step subtracts this times the learning rate times
    the parameter."""
    clip_norm: float = 0.0
    """Gradient clipping: maximum norm of the gradient, for the prompt of each task or seed separately; a
    larger gradient is scaled down to it. 0 disables clipping."""
    sampling: Literal["equal", "proportional", "stochastic"] = "equal"
    """How a batch mixes tasks. "equal": the same number of examples of each task. "proportional": in
    proportion to `shares`. "stochastic": from a few tasks drawn at random for each batch (as in MPT)."""
    shares: tuple[float, ...] = ()
    """Sampling weight of each task, in the order of the tasks; by default its number of examples."""
    share_cap: int = 2**18
    """Maximum sampling weight of a task, in examples, so that huge tasks do not crowd out small ones."""
    temperature: float = 1.0
    """Sampling temperature: each sampling weight is raised to the power 1/temperature, so that more than 1
    brings the tasks closer together."""
    balanced: bool = False
    """Whether to balance the classes: each batch has equally many examples of each class of a task.
    Otherwise a small batch is biased towards the class that is most frequent in it by chance."""
    save_every: int = 10
    """Number of steps between checkpoints; a run that is killed loses at most this many."""
    bad_steps: int = 10
    """A step whose loss or gradient is not finite is skipped; after this many in a row the run stops. A few
    can happen by chance; this many mean that training has diverged."""

    @property
    def is_open(self) -> bool:
        """Whether the number of steps is to be found by a search on held-out examples."""
        return self.steps == UNTIL_BEST and not self.epochs

    def __post_init__(self):
        if self.microbatches < 1 or self.batch_size % self.microbatches:
            raise UserError(
                f"microbatches: {self.batch_size} rows cannot be split into {self.microbatches} equal parts"
            )


@dataclass(frozen=True)
class MeshConfig:
    """The device mesh over all processes: the product of its three axes is the number of devices."""

    data: int = -1
    """Number of shards that a batch is split into (data parallelism). -1: all devices that the other two axes
    leave."""
    fsdp: int = 1
    """Number of devices that share the frozen weights (fully sharded data parallelism): each stores a part of
    the weights and computes a part of the batch. For models that barely fit on one device."""
    tensor: int = 1
    """Number of devices that compute each layer together (tensor parallelism). It must divide the number of
    attention heads and of feed-forward units."""

    def __post_init__(self):
        sizes = self.data, self.fsdp, self.tensor
        if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise UserError("mesh: data, fsdp and tensor are numbers of devices; one of them may be -1")
