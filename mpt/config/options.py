"""The options of a run as frozen dataclasses; `mpt.config.yaml_file` reads and writes them as YAML.

The sentence below a field is what `mpt COMMAND --help` says of that option.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mpt.config.ranges import check_ranges
from mpt.errors import UserError

Decay = Literal["cosine", "linear", "constant"]
TrackerName = Literal["wandb", "mlflow"]
BosRule = Literal["auto", "true", "false"]
UNTIL_BEST = -1  # steps: until nothing improves
WHOLE = -1  # the length of an instruction: as many vectors as it has tokens
ContinualMethod = Literal["factors", "shared", "progressive", "naive"]
BaselineName = Literal["largest class", "counting words", "linear probe", "copy the input"]


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
class DistillConfig(TrainConfig):
    """The second stage of pretraining, which distils the teacher prompts into a universal prompt."""

    sampling: Literal["equal", "proportional", "stochastic"] = "stochastic"
    kl_weight: float = 0.9
    """Coefficient of KL(teacher || student); the task loss has coefficient 1. If this and `hidden_weight` are
    both 0, no teacher is used."""
    hidden_weight: float = 0.9
    """Coefficient of the mean squared error between the hidden states of teacher and student."""
    instruction: int = 0
    """Length of the instruction embedding: vectors of the task's instruction between the universal prompt and
    the input, which tell the model what the task is and are trained for a new task. A shorter instruction is
    repeated; of a longer one the end is kept. 0 leaves it out, as in MPT; -1 takes the longest instruction's
    own length."""
    wordings: int = 0
    """Number of wordings in which each example is read: behind its instruction and its classes in any order,
    behind a part of these, or with arbitrary words for the classes that the text explains. The prompt then
    learns to read what is asked, and new tasks have their whole instruction behind it. Teachers read other
    texts, so `kl_weight` and `hidden_weight` must be 0. 0 reads each example as it stands."""
    cache_teachers: bool = False
    """Whether to compute the teachers' outputs once per example and keep them on disk, at about (vocabulary +
    length x width) x 4 bytes each. Faster if examples are read more than once."""

    @property
    def distils(self) -> bool:
        """Whether teachers are read."""
        return self.kl_weight > 0 or self.hidden_weight > 0

    def __post_init__(self):
        super().__post_init__()
        if not self.wordings:
            return
        if self.distils:
            raise UserError("wordings: teachers read other texts; set kl_weight and hidden_weight to 0")
        if self.instruction > 0 or self.balanced:
            name = "balanced" if self.balanced else "instruction"
            raise UserError(f"wordings: they have instructions and classes of their own; leave out {name}")


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


@dataclass(frozen=True)
class PretrainConfig:
    """Options of `mpt pretrain`.

    It trains a teacher prompt for each source task and distils all of them into a universal prompt.
    """

    out: str = "runs/pretrain"
    """Directory of the run, for its config, checkpoints, prompts and metrics."""
    model: ModelConfig = ModelConfig()
    tasks: tuple[str, ...] = ()
    """Source tasks: names from `mpt tasks`, task files, or folders, which stand for all task files in
    them."""
    max_length: int = 128
    """Maximum number of tokens of an input; a longer one loses the end of its longest field."""
    vectors: PromptConfig = PromptConfig()
    """The shape of the teachers and the universal prompt, and their initial value."""
    teachers: TrainConfig = TrainConfig()
    """How the teachers are trained, all at the same time."""
    universal: DistillConfig = DistillConfig()
    """How the universal prompt is distilled from the teachers."""
    gain_rows: int = 32
    """Number of validation examples of each source task on which the report tells what the task gained, and
    whether it pulls with the others; 0 leaves this out."""
    mesh: MeshConfig = MeshConfig()
    seed: int = 0
    """Seed of the initial values and of the order of the examples."""
    track: tuple[TrackerName, ...] = ()
    """Trackers to send metrics to, in addition to metrics.jsonl and TensorBoard's event files."""

    def __post_init__(self):
        check_ranges(self)
        refuse_open(teachers=self.teachers, universal=self.universal)
        if self.vectors.every_layer and (self.vectors.rank or not self.universal.wordings):
            raise UserError(
                "vectors.every_layer: what is in every layer is shared whole; set vectors.rank to 0, and "
                "universal.wordings, so that each text says what its task is"
            )


@dataclass(frozen=True)
class SearchConfig:
    """How an adaptation whose steps are not given finds its learning rate and its number of steps.

    Every rate has prompts that learn from a part of the examples and are scored on the others.
    """

    rates: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Factors on the learning rates of `train` and of the method. All are tried side by side up to the first
    look, and the best one goes on."""
    rows: int = 8
    """Examples per step of each prompt."""
    every: int = 8
    """Steps between looks at the least; with many examples, a look comes every quarter of an epoch, or every
    four times as many steps."""
    patience: int = 2
    """After so many looks in a row without a better one, training ends."""
    gain: float = 0.02
    """A look is better if its loss is lower by more than this fraction."""
    steps: int = 64
    """The most steps; with many examples, `epochs` passes over them."""
    epochs: float = 4.0
    """The most passes over many examples."""
    probe: bool = True
    """Whether linear probes on the frozen model's states of a text without the prompt are added to the scores
    of a class head, weighed by the held-out examples. Each text to answer is then read twice."""
    scratch: bool = True
    """Whether a prompt that starts from another one (`--prompt`) is compared at the first look with one that
    starts as `vectors` says, and gives way to it where the held-out examples say so."""

    def __post_init__(self):
        if self.steps <= self.every:
            raise UserError(
                f"search.steps: it must be more than search.every, {self.every}, not {self.steps}"
            )


@dataclass(frozen=True)
class AdaptOptions:
    """Options of `mpt adapt` that all methods share; ``mpt.config.methods.AdaptConfig`` adds their own."""

    out: str = "runs/adapt"
    """Directory of the run, for its config, checkpoints, prompts and metrics."""
    model: ModelConfig = ModelConfig()
    task: str = ""
    """The target task: a name from `mpt tasks`, or a task file."""
    also: tuple[str, ...] = ()
    """Further target tasks, trained at the same time; from a universal prompt, all use the same shared
    part."""
    prompt: str = ""
    """Run directory of the universal prompt to start from; if left out, the prompt starts as `vectors` says.
    SPoT and ATTEMPT use the teachers of that run."""
    method: str = "auto"
    """The adaptation method. "prompt" is prompt tuning, which trains the prompt itself (of a universal
    prompt, also the task's factors), "classifier" the same with a class head; "auto" takes the classifier for
    tasks with class words. Each other method has a section of options with its name."""
    baseline: Literal["", BaselineName] = ""
    """A baseline to score in place of a method: nothing of the model is trained, and no prompt is saved."""
    baselines: bool = True
    """Whether to tell what each baseline reaches on the same rows, where a task has class words; see
    `baseline` for a run of one."""
    freeze_shared: bool = False
    """For a universal prompt: whether to keep its shared part fixed and train only the task's factors u and
    v, and the instruction embedding if there is one."""
    vectors: PromptConfig = PromptConfig(length=32)
    """The prompt's shape and initial value, if it does not start from a universal prompt."""
    instruction: int = 0
    """Length of an instruction embedding that follows a prompt made from `vectors`; it has its own learning
    rate, as it does after a universal prompt. 0 leaves it out, -1 takes the instruction's own length."""
    train: TrainConfig = TrainConfig(
        steps=-1, batch_size=16, learning_rate=0.01, balanced=True, objective="classes"
    )
    """How the target task is trained; with steps of -1, until nothing improves."""
    search: SearchConfig = SearchConfig()
    """How the steps are found where they are not given."""
    minutes: float = 0.0
    """The most minutes until the prompt is saved, where the steps are not given: the search has fewer steps,
    judged by the speed of its first ones, but no less than one look. 0 does not bound it. The same machine
    may then train differently another time."""
    shots: int = 16
    """Number of training examples per class (for free text, per task); 0 takes all."""
    shots_per: Literal["class", "task"] = "class"
    """Whether `shots` counts the examples of each class, or those of the whole task whatever their
    classes."""
    seeds: tuple[int, ...] = (0,)
    """Random seeds; each draws its own training examples and trains its own prompt."""
    max_length: int = 128
    """Maximum number of tokens of an input; a longer one loses the end of its longest field."""
    probe_every: int = 0
    """Steps between validation passes; 0 turns validation off."""
    probe_rows: int = 64
    """Number of examples in a validation pass."""
    keep: Literal["last", "best"] = "last"
    """Which prompt is scored and saved: that of the last step, or that of the best validation pass (early
    stopping). With several seeds or tasks, the pass that is best on average."""
    test_rows: int = 500
    """Number of examples that the final score is computed on; 0 takes all."""
    scored: Literal["test", "validation"] = "test"
    """The split of the final score. Use "validation" while hyperparameters are still being chosen, so that no
    test example is read."""
    calibrate: bool = False
    """Whether to apply batch calibration (Zhou et al. 2024), which removes the model's bias towards some
    classes. It uses the scored examples without their labels."""
    mesh: MeshConfig = MeshConfig()
    track: tuple[TrackerName, ...] = ()
    """Trackers to send metrics to, in addition to metrics.jsonl and TensorBoard's event files."""

    def __post_init__(self):
        check_ranges(self)
        if self.keep == "best" and not self.probe_every:
            raise UserError("keep: the best is told by looks at validation rows; set probe_every too")


@dataclass(frozen=True)
class ContinualConfig:
    """Options of `mpt continual`.

    It learns tasks one after another by several methods, without reading the examples of earlier tasks again.
    """

    out: str = "runs/continual"
    """Directory of the run; each method has a directory of its own inside it."""
    model: ModelConfig = ModelConfig()
    tasks: tuple[str, ...] = ()
    """The tasks in the order in which they are learned: names from `mpt tasks`, task files, or a sequence
    from the literature by its name, such as four_1."""
    prompt: str = ""
    """Run directory of the universal prompt that all methods start from; if left out, prompts start as
    `vectors` says."""
    methods: tuple[ContinualMethod, ...] = ()
    """The methods to run; by default all that apply. "factors" and "shared" need a universal prompt."""
    vectors: PromptConfig = PromptConfig()
    """The prompts' shape and initial value, if they do not start from a universal prompt."""
    train: TrainConfig = TrainConfig(steps=24, batch_size=24)
    """How each task is trained."""
    kl_weight: float = 1.0
    """For the method "shared": coefficient of KL(teacher || student), with the prompts of earlier tasks as
    teachers; the task loss has coefficient 1."""
    hidden_weight: float = 1.0
    """For the method "shared": coefficient of the mean squared error between the hidden states of teacher and
    student. If this and `kl_weight` are both 0, nothing protects the earlier tasks."""
    shots: int = 16
    """Number of training examples per class (for free text, per task); 0 takes all."""
    seed: int = 0
    """Random seed of the training examples and their order."""
    max_length: int = 128
    """Maximum number of tokens of an input; a longer one loses the end of its longest field."""
    test_rows: int = 200
    """Number of test examples per task, on which every prompt is scored; 0 takes all."""
    mesh: MeshConfig = MeshConfig()
    track: tuple[TrackerName, ...] = ()
    """Trackers to send each method's metrics to, in addition to metrics.jsonl and TensorBoard's event
    files."""

    def __post_init__(self):
        check_ranges(self)
        refuse_open(train=self.train)
