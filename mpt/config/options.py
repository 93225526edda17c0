"""What a run is: frozen dataclasses. `mpt.config.yaml_file` reads them from YAML and writes them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpt.errors import UserError

TrackerName = Literal["wandb", "mlflow"]
ContinualMethod = Literal["factors", "shared", "progressive", "naive"]


def at_least_1(**numbers: int) -> None:
    """Refuses the first that is not.

    Raises:
        UserError: names it.
    """
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{name}: it must be at least 1, not {number}")


@dataclass(frozen=True)
class ModelConfig:
    """The frozen backbone."""

    name: str = "smollm2-135m"
    """A packaged model, a Hugging Face folder, a GGUF file, or owner/name on the hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and activations. Prompts, norms and losses are float32 whatever it is."""
    weights: Literal["full", "int8"] = "full"
    """The frozen matrices as they are, or rounded to 8 bits: a quarter of float32's memory."""
    remat: Literal["elementwise", "layers", "nothing"] = "elementwise"
    """What the backward pass recomputes: "elementwise" is fastest, "layers" takes least memory."""
    decoder_prompt: int = 0
    """Of an encoder-decoder: how many of a prompt's last vectors go to the decoder."""


@dataclass(frozen=True)
class PromptConfig:
    """The prompt's shape and where it starts."""

    length: int = 16
    """Prompt vectors. The papers have 100 on T5; a short prompt costs less per row. 0 stands for the
    instruction's own length."""
    rank: int = 1
    """Rank of a task's component of a universal prompt; the paper's is 1. 0: tasks share it whole."""
    start: Literal["instruction", "vocabulary", "classes", "text", "uniform"] = "instruction"
    """The task's instruction, sampled vocabulary, the task's class words and then sampled vocabulary, `text`,
    or numbers from -0.5 to 0.5. Texts are repeated or cut to length."""
    text: str = ""
    """What `start: text` starts from. Teachers that start alike have a mean that is a prompt too."""


@dataclass(frozen=True)
class TrainConfig:
    """One training stage."""

    steps: int = 60
    epochs: float = 0.0
    """Passes over the rows of all tasks together, in place of `steps`; 0 takes `steps`."""
    batch_size: int = 24
    """Rows per step, over all tasks (or seeds) trained side by side."""
    parts: int = 1
    """Parts that a step's rows are computed in, one after another: the same gradient in less memory."""
    learning_rate: float = 0.005
    """Adam's peak rate for prompt vectors, whose scale is that of embeddings, about 0.1."""
    factor_rate: float = 0.02
    """Adam's peak rate for the factors u and v, whose scale is 1."""
    word_rate: float = 0.015
    """Adam's peak rate for the instruction behind a target's prompt, if there is one; with 0 it stays word
    for word. Pretraining never trains it."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises; it falls to zero over the rest."""
    decay: Literal["cosine", "linear"] = "cosine"
    """How it falls."""
    weight_decay: float = 0.0
    """Share of each number that a step of rate 1 takes away (AdamW)."""
    clip: float = 0.0
    """Largest norm of a prompt's gradient, as of a run of its own; a longer one is cut. 0 cuts none."""
    sampling: Literal["equal", "proportional", "stochastic"] = "equal"
    """Rows of a batch: as many of each task, drawn by the tasks' shares, or of a random few tasks (MPT)."""
    shares: tuple[float, ...] = ()
    """Each task's share, one for each; by its number of rows where left out."""
    share_cap: int = 2**18
    """Most rows that count for a task's share."""
    temperature: float = 1.0
    """Flattens the shares: each is raised to 1/temperature."""
    balanced: bool = False
    """Reads the classes of a task in turn, so that a step has as many rows of each: small steps then do not
    pull a prompt towards the class that they happen to have most of."""
    save_every: int = 10
    """Steps between checkpoints: a killed run loses at most these."""
    bad_steps: int = 10
    """A step whose loss or gradient is not finite is left out. At so many in a row the run stops: chance
    makes few, a run that has diverged makes nothing else."""

    def __post_init__(self):
        if self.parts < 1 or self.batch_size % self.parts:
            raise UserError(f"parts: {self.parts} equal parts cannot be made of {self.batch_size} rows")
        for name in ("save_every", "bad_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: it must be 1 or more, not {getattr(self, name)}")
        if self.temperature <= 0:
            raise UserError(f"temperature: it must be above 0, not {self.temperature}")
        for name in ("epochs", "weight_decay", "clip"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: it must be 0 or more, not {getattr(self, name)}")
        if any(share <= 0 for share in self.shares):
            raise UserError(f"shares: each must be above 0, not {min(self.shares)}")


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """The second stage of pretraining: teachers into a universal prompt."""

    sampling: Literal["equal", "proportional", "stochastic"] = "stochastic"
    kl_weight: float = 0.9
    """Coefficient of KL(teacher || student); the task loss has 1. With both at 0, no teacher is read."""
    hidden_weight: float = 0.9
    """Coefficient of the hidden states' mean squared error."""
    instruction: int = 0
    """Vectors of the task's instruction that stand between the universal prompt and a text: a new task is
    told what it is, and trains them. A short one is repeated, of a long one the end is kept. 0: none, as in
    MPT."""
    cache_teachers: bool = False
    """Computes the teachers' outputs once per row and keeps them on disk, about (vocabulary + length
    x width) x 4 bytes each: faster where rows come back."""


@dataclass(frozen=True)
class MeshConfig:
    """How the devices share the work, of all processes together: their number is the three's product."""

    data: int = -1
    """Parts that a batch's rows are dealt out in; -1 takes all devices that the other two leave."""
    fsdp: int = 1
    """The same, and each part keeps its share of the frozen weights only: for models that fill a device."""
    tensor: int = 1
    """Devices that compute each layer together: heads and feed-forward are dealt out. It must divide them."""

    def __post_init__(self):
        sizes = self.data, self.fsdp, self.tensor
        if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise UserError("mesh: data, fsdp and tensor are numbers of devices; one of them may be -1")


@dataclass(frozen=True)
class PretrainConfig:
    """`mpt pretrain`: source tasks -> teachers -> universal prompt."""

    out: str = "runs/pretrain"
    """The run directory."""
    model: ModelConfig = ModelConfig()
    tasks: tuple[str, ...] = ()
    """Source tasks: names of `mpt tasks`, or task files."""
    max_length: int = 128
    """Most tokens of an input; a longer one loses the end of its longest field."""
    vectors: PromptConfig = PromptConfig()
    teachers: TrainConfig = TrainConfig()
    universal: DistillConfig = DistillConfig()
    mesh: MeshConfig = MeshConfig()
    seed: int = 0
    track: tuple[TrackerName, ...] = ()
    """Where metrics go besides metrics.jsonl and TensorBoard's events."""


@dataclass(frozen=True)
class AdaptOptions:
    """The options of `mpt adapt`, but those that belong to one method: see ``mpt.methods.AdaptConfig``."""

    out: str = "runs/adapt"
    """The run directory."""
    model: ModelConfig = ModelConfig()
    task: str = ""
    """The target task: a name of `mpt tasks`, or a task file."""
    also: tuple[str, ...] = ()
    """More target tasks: all learn together, with one universal prompt's shared part between them."""
    prompt: str = ""
    """Run directory of the universal prompt to start from; without one, see `vectors`. SPoT and ATTEMPT
    take its teachers."""
    method: str = "prompt"
    """What is trained: the prompt as it is (a universal one's factors), or see the options of that name."""
    freeze_shared: bool = False
    """Of a universal prompt: trains the factors u and v, and the instruction if there is one, alone."""
    vectors: PromptConfig = PromptConfig()
    """The prompt's shape and start, when it does not start from a universal one."""
    instruction: int = 0
    """Vectors of the task's instruction behind that start, to be trained at a rate of their own, as they
    are behind a universal prompt."""
    train: TrainConfig = TrainConfig(steps=24, batch_size=24)
    shots: int = 16
    """Training examples per class (in all, for free text); 0 takes all there are."""
    shots_per: Literal["class", "task"] = "class"
    """What `shots` counts: the examples of each class, or those of a task in all, whatever their classes."""
    seeds: tuple[int, ...] = (0,)
    """Each draws its own examples and trains a prompt of its own."""
    max_length: int = 128
    """Most tokens of an input."""
    probe_every: int = 0
    """Steps between looks at the validation rows; 0 looks never."""
    probe_rows: int = 64
    """Validation rows of a look."""
    keep: Literal["last", "best"] = "last"
    """Which prompt is scored and saved: the last step's, or that of the best look (early stopping); with
    several seeds or tasks, the best on their mean."""
    test_rows: int = 500
    """Rows of the final figure; 0 takes all."""
    scored: Literal["test", "validation"] = "test"
    """The split of the final figure; "validation" where rates are still chosen: no test row is read."""
    calibrate: bool = False
    """Takes the model's liking for some classes off its answers, as their scored rows tell it, unlabelled."""
    mesh: MeshConfig = MeshConfig()
    track: tuple[TrackerName, ...] = ()
    """Where metrics go besides metrics.jsonl and TensorBoard's events."""

    def __post_init__(self):
        if self.keep == "best" and not self.probe_every:
            raise UserError("keep: the best is told by looks at validation rows; set probe_every too")


@dataclass(frozen=True)
class ContinualConfig:
    """`mpt continual`: tasks one after another, by several methods, without going back to old rows."""

    out: str = "runs/continual"
    """The run directory; each method has its own inside."""
    model: ModelConfig = ModelConfig()
    tasks: tuple[str, ...] = ()
    """The sequence: names of `mpt tasks`, task files, or a sequence of the papers, such as four_1."""
    prompt: str = ""
    """Run directory of the universal prompt that all methods start from; without one, see `vectors`."""
    methods: tuple[ContinualMethod, ...] = ()
    """What to run; all that can start where they are to: factors and shared need a universal prompt."""
    vectors: PromptConfig = PromptConfig()
    """The prompts' shape and start, when they do not start from a universal one."""
    train: TrainConfig = TrainConfig(steps=24, batch_size=24)
    """How each task is learned."""
    kl_weight: float = 1.0
    """Method shared: coefficient of KL(teacher || student) over the earlier prompts; the task loss has 1."""
    hidden_weight: float = 1.0
    """Method shared: that of the hidden states' mean squared error. With both at 0, nothing is kept."""
    shots: int = 16
    """Training examples per class (in all, for free text); 0 takes all there are."""
    seed: int = 0
    """Draws the examples and their order."""
    max_length: int = 128
    """Most tokens of an input."""
    test_rows: int = 200
    """Test rows per task: every prompt is scored on all tasks. 0 takes all."""
    mesh: MeshConfig = MeshConfig()
    track: tuple[TrackerName, ...] = ()
    """Where each method's metrics go besides metrics.jsonl and TensorBoard's events."""
