"""Options that several commands share, as frozen dataclasses.

`mpt.config.yaml_file` reads and writes them as YAML. The sentence below a field is what `mpt COMMAND --help`
says of that option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpt.errors import UserError

Decay = Literal["cosine", "linear", "constant"]
TrackerName = Literal["wandb", "mlflow"]
BosRule = Literal["auto", "true", "false"]
UNTIL_BEST = -1  # steps: until nothing improves
WHOLE = -1  # the length of an instruction: as many vectors as it has tokens


def refuse_open(**stages: TrainConfig) -> None:
    """Checks that the length of every stage, given by the name of its option, is given.

    Raises:
        UserError: one is left open.
    """
    for name, stage in stages.items():
        if stage.is_open:
            raise UserError(f"{name}.steps: only `mpt adapt` finds out how many it needs; give a number")


@dataclass(frozen=True)
class ModelConfig:
    """The backbone, whose weights stay frozen."""

    name: str = "smollm2-135m"
    """The model: a packaged name, a folder in Hugging Face's format, a GGUF file, or owner/name on the
    hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of weights and activations. Prompts, normalisation and losses are always float32."""
    weights: Literal["full", "int8"] = "full"
    """How the frozen matrices are stored: as they are, or rounded to 8 bits, which takes a quarter of
    float32's memory."""
    remat: Literal["elementwise", "layers", "nothing"] = "elementwise"
    """What the backward pass recomputes instead of storing: "elementwise" is fastest, "layers" takes the
    least memory, "nothing" stores all activations."""
    decoder_prompt: int = 0
    """For encoder-decoder models: how many of the prompt's vectors, its last ones, are put before the
    decoder's input. The others are put before the encoder's."""
    bos: BosRule = "auto"
    """Whether every text begins with the tokenizer's beginning-of-text token, behind the prompt. "auto" has
    it where the prompt to start from was trained with it; without one, where the tokenizer adds it by
    itself, as it did when the model was trained."""


@dataclass(frozen=True)
class PromptConfig:
    """The shape of a prompt and its initial value."""

    length: int = 16
    """Number of prompt vectors. The papers use 100 with T5; a shorter prompt makes every example cheaper. 0
    takes as many as the task's instruction has tokens."""
    rank: int = 1
    """Rank of each task's own component in a universal prompt; the MPT paper uses 1. With 0, all tasks use
    exactly the same prompt."""
    start: Literal["instruction", "vocabulary", "classes", "text", "uniform"] = "instruction"
    """Initial value of the prompt: embeddings of the task's instruction; of tokens sampled from the
    vocabulary; of the task's class words, followed by sampled tokens; of the option `text`; or uniform random
    numbers between -0.5 and 0.5. A text is repeated or cut to the prompt's length."""
    text: str = ""
    """The initial text for `start: text`. Teachers that start from the same text stay close enough for their
    mean to be a usable prompt."""
    layer: int = 0
    """The layer before which the prompt enters (late prompt tuning): its vectors are put in front of the
    text's hidden states there, and the layers below run over the text alone. 0 puts them in front of the
    embeddings."""
    every_layer: bool = False
    """Whether the prompt stands in every layer, as keys and values that start as what the layers make of its
    vectors (prefix tuning). It has more room, and learns many source tasks in fewer steps; other libraries
    take vectors alone."""

    def __post_init__(self):
        if self.every_layer and self.layer:
            raise UserError("vectors.layer: a prompt in every layer has none; leave out one of both")
        if not self.length and self.start not in ("instruction", "text"):
            raise UserError(
                f"vectors.length: 0 is the length of a text to start from; {self.start} needs a number"
            )


@dataclass(frozen=True)
class TrainConfig:
    """How one stage is trained: its length, batches, optimizer and data mixture."""

    steps: int = 60
    """Number of optimizer steps. `mpt adapt` takes -1, its default: until nothing improves on examples that
    are held out."""
    epochs: float = 0.0
    """Passes over the training examples of all tasks; replaces `steps` unless it is 0."""
    batch_size: int = 24
    """Examples per step, summed over all tasks (or seeds) that are trained at the same time."""
    objective: Literal["classes", "vocabulary"] = "vocabulary"
    """What a row's class word is to stand out from: the other class words of its task, scored as the task
    says, or token by token all words of the vocabulary. Free text always has the latter."""
    parts: int = 1
    """Number of microbatches that each step's batch is split into. They are computed one after another, which
    gives the same gradient in less memory."""
    learning_rate: float = 0.005
    """Adam's peak learning rate for prompt vectors, whose values have the scale of embeddings, about 0.1."""
    factor_rate: float = 0.02
    """Adam's peak learning rate for what has a scale of 1: the low-rank factors u and v, and the keys and
    values of a prompt in every layer."""
    word_rate: float = 0.015
    """Adam's peak learning rate for the instruction embedding that follows the prompt of a target task, if
    there is one; with 0 it stays as it is. Pretraining never trains it."""
    warmup: float = 0.1
    """Fraction of the steps over which the learning rate rises from zero; it falls to zero over the
    others."""
    decay: Decay = "cosine"
    """How the learning rate falls after the warmup, or that it does not."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW): each step subtracts this times the learning rate times the value."""
    clip: float = 0.0
    """Maximum norm of each prompt's gradient, taken for every task or seed by itself; a larger gradient is
    scaled down to it. 0 disables clipping."""
    sampling: Literal["equal", "proportional", "stochastic"] = "equal"
    """How a batch mixes tasks: the same number of examples of each, in proportion to `shares`, or from a few
    tasks chosen at random for each batch (as in MPT)."""
    shares: tuple[float, ...] = ()
    """Sampling weight of each task, in the order of the tasks; by default its number of examples."""
    share_cap: int = 2**18
    """Largest number of examples that counts towards a task's sampling weight, so that huge tasks do not
    crowd out small ones."""
    temperature: float = 1.0
    """Flattens the sampling weights: each is raised to the power 1/temperature."""
    balanced: bool = False
    """Whether to read the classes of a task in turn, so that a batch has equally many examples of each.
    Otherwise a small batch pulls the prompt towards the class that it happens to have most of."""
    save_every: int = 10
    """Steps between checkpoints; a run that is killed loses at most this many."""
    bad_steps: int = 10
    """A step whose loss or gradient is not finite is skipped; after this many in a row the run stops. A few
    can happen by chance, but a run that has diverged has nothing else."""

    @property
    def is_open(self) -> bool:
        """Whether its length is left open: until nothing improves."""
        return self.steps == UNTIL_BEST and not self.epochs

    def __post_init__(self):
        if self.parts < 1 or self.batch_size % self.parts:
            raise UserError(f"parts: {self.parts} equal parts cannot be made of {self.batch_size} rows")


@dataclass(frozen=True)
class MeshConfig:
    """The mesh of all devices, over all processes: the product of its three axes is the number of devices."""

    data: int = -1
    """Number of shards that a batch is split into (data parallelism); -1 takes all devices that the other two
    axes leave."""
    fsdp: int = 1
    """Number of further shards of the batch, each of which also stores only its share of the frozen weights:
    for models that barely fit one device."""
    tensor: int = 1
    """Number of devices that compute each layer jointly (tensor parallelism). It must divide the number of
    attention heads and of feed-forward units."""

    def __post_init__(self):
        sizes = self.data, self.fsdp, self.tensor
        if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise UserError("mesh: data, fsdp and tensor are numbers of devices; one of them may be -1")
