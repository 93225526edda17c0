"""Training moves what is to be trained and nothing else."""

import math
import signal

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from safetensors.numpy import load_file

from mpt.config.options import TrainConfig
from mpt.config.pretrain import PretrainConfig
from mpt.data.mixture import training_batches
from mpt.loading.hf import load_pretrained
from mpt.methods.lora import LoraParam, with_lora
from mpt.prompts import MultitaskPrompt, PromptParam, SoftPrompt
from mpt.prompts.prompted import Distilled, Prompted
from mpt.rundir.directory import RunDir
from mpt.system.signals import Stopped
from mpt.training import session
from mpt.training.loop import Evaluation, optimizer_of, train_stage
from mpt.training.losses import distillation_loss, task_loss
from mpt.training.optim import Adam, LearningRates
from mpt.training.stage import Stage
from mpt.training.step import StepSpec, train_step
from mpt.types import Row

J, P, D = 2, 4, 32
WEIGHTS = {"task": 1.0, "kl": 0.9, "hidden": 0.9}
# The label of a row is which of two tokens comes first.
ROWS = [[Row([3 + i % 2, 7, 8], [20 + i % 2]) for i in range(100)] for _ in range(J)]


def teachers(seed: int = 0):
    return 0.1 * jax.random.normal(jax.random.key(seed), (J, P, D))


def soft(pretrained) -> Prompted:
    return Prompted(pretrained.backbone, SoftPrompt(teachers()))


def distilled(pretrained) -> Distilled:
    start = MultitaskPrompt.start(teachers(1).mean(axis=0), J, 2, jax.random.key(0))
    return Distilled(pretrained.backbone, start, teachers())


def low_rank(pretrained) -> Prompted:
    backbone = with_lora(pretrained.backbone, 1, "all", jax.random.key(0))
    return Prompted(backbone, SoftPrompt(teachers()))


NO_LEARNING_RATES = LearningRates.of({}, steps=1, warmup=0.0)


def descent(learning_rates: LearningRates) -> optax.GradientTransformation:
    """Moves by the gradient itself."""
    return optax.sgd(1.0)


KINDS = {
    "soft": (soft, task_loss, {"task": 1.0}, PromptParam),
    "distilled": (distilled, distillation_loss, WEIGHTS, PromptParam),
    "lora": (low_rank, task_loss, {"task": 1.0}, LoraParam),
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request, pretrained, tmp_path_factory):
    """A model before ten steps, the trained one, the first one again, and the run."""
    make, objective, weights, trainable = KINDS[request.param]
    model = make(pretrained)
    before = arrays(model)
    config = TrainConfig(steps=10, batch_size=8, save_every=5)
    run = RunDir.open(tmp_path_factory.mktemp("trained") / "run", PretrainConfig())
    options = {"weights": weights, "trainable": trainable, "weight_rate": 0.01}
    after = train_stage(Stage("x", model, ROWS, config, objective, **options), run)
    return before, arrays(after.model), arrays(model), run, trainable


def arrays(model) -> dict[tuple, tuple[type, np.ndarray]]:
    leaves = nnx.to_flat_state(nnx.state(model))
    return {path: (type(leaf), np.array(leaf[...])) for path, leaf in leaves}


def test_only_what_is_trained_moves(trained):
    before, after, _, _, trainable = trained
    assert before.keys() == after.keys()
    for path, (kind, value) in before.items():
        same = np.array_equal(value, after[path][1])
        assert same is not issubclass(kind, trainable), path


def test_model_that_is_given_stays_as_it_is(trained):
    """Steps use their arrays up: they are copies."""
    before, _, given, _, _ = trained
    for path, (_, value) in before.items():
        np.testing.assert_array_equal(value, given[path][1])


def test_checkpoints_hold_no_frozen_weight(trained):
    before, _, _, run, trainable = trained
    moved = sum(value.size for kind, value in before.values() if issubclass(kind, trainable))
    folders = [folder for folder in (run.path / "x" / "checkpoints").iterdir() if folder.is_dir()]
    assert sorted(folder.name for folder in folders) == ["10", "5"]
    for folder in folders:
        held = ocp.PyTreeCheckpointHandler().metadata(folder / "arrays").tree
        sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(held) if leaf.shape]
        assert sum(sizes) == 3 * moved  # what is trained, and Adam's two moments


@pytest.mark.parametrize("kind", KINDS)
def test_optimizer_state_is_of_what_is_trained_alone(pretrained, kind):
    make, _, _, what = KINDS[kind]
    _, trainable, _ = nnx.split(make(pretrained), what, ...)
    rates = LearningRates.of({"vectors": 0.1, "factors": 0.1, "weights": 0.1}, steps=10, warmup=0.1)
    state = Adam()(rates).init(trainable)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    assert numbers == 2 * sum(leaf.size for leaf in jax.tree.leaves(trainable))


@pytest.mark.parametrize("kind", ["soft", "distilled", pytest.param("lora", marks=pytest.mark.full)])
def test_microbatches_give_the_step_of_the_whole_batch(pretrained, kind):
    """Loss and gradient; rows have different numbers of target tokens, so microbatches weigh differently."""
    make, objective, weights, what = KINDS[kind]
    rows = [[Row([3 + i % 7] * (1 + i % 5), [20, 21, 22][: 1 + i % 3]) for i in range(30)]] * J
    steps = []
    for microbatches in (1, 4):
        graph, trainable, frozen = nnx.split(make(pretrained), what, ...)
        spec = StepSpec(graph, objective, descent, prompts=J)
        batch = training_batches(rows, TrainConfig(steps=1, batch_size=8, microbatches=microbatches), 0)[0]
        start = jax.tree.map(np.array, trainable)
        state = descent(NO_LEARNING_RATES).init(trainable)
        done = train_step(spec, trainable, state, frozen, batch, weights, NO_LEARNING_RATES)
        steps.append((jax.tree.map(np.subtract, start, done.trainable), done))
    (gradient, whole), (summed, in_microbatches) = steps
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest), gradient, summed
    )
    for name, value in whole.losses.items():
        np.testing.assert_allclose(in_microbatches.losses[name], value, rtol=1e-5)
    np.testing.assert_allclose(in_microbatches.by_prompt, whole.by_prompt, rtol=1e-5)
    np.testing.assert_allclose(whole.by_prompt.mean, whole.losses["task"], rtol=1e-5)


def test_step_reads_the_batch_once(pretrained):
    """Forward and backward are the only loops over the layers: terms' weights cost no pass of their own."""
    graph, trainable, frozen = nnx.split(soft(pretrained), PromptParam, ...)
    batch = training_batches(ROWS, TrainConfig(steps=1, batch_size=8), 0)[0]
    spec, state = StepSpec(graph, task_loss, descent), descent(NO_LEARNING_RATES).init(trainable)
    lowered = train_step.lower(spec, trainable, state, frozen, batch, {"task": 1.0}, NO_LEARNING_RATES)
    assert lowered.compile().as_text().count(" while(") == 2


def test_runs_of_one_shape_share_a_compiled_step(pretrained, tiny_model, tmp_path):
    """Other learning rates, schedules, coefficients, rows, numbers of steps, and a backbone loaded again."""
    again = load_pretrained(str(tiny_model))
    runs = [
        (pretrained, TrainConfig(steps=2, batch_size=8, learning_rate=0.1), 0, {"task": 1.0}),
        (again, TrainConfig(steps=3, batch_size=8, warmup=0.5, save_every=1), 1, {"task": 0.5}),
    ]
    counts = []
    for number, (model, config, seed, weights) in enumerate(runs):
        run = RunDir.open(tmp_path / str(number), PretrainConfig())
        train_stage(Stage("x", soft(model), ROWS, config, weights=weights, seed=seed), run)
        counts.append(train_step._cache_size())
    assert counts[0] == counts[1]


def test_loss_falls_on_what_can_be_learnt(pretrained, tmp_path):
    config = TrainConfig(steps=30, batch_size=16, learning_rate=0.05)
    run = RunDir.open(tmp_path / "run", PretrainConfig())
    train_stage(Stage("x", soft(pretrained), ROWS, config, tasks=["tone", "colour"]), run)
    lines = run.metrics("x").read()
    losses = [line["loss"] for line in lines]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < losses[0] - 1  # a nat, of a random model's five
    for task in ("tone", "colour"):
        losses = [line[f"task {task}"] for line in lines if f"task {task}" in line]
        assert np.mean(losses[-3:]) < losses[0] - 1


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal, also where these tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def validated(pretrained, run, config, figure, **options):
    """A training whose validation figure after step s, from 0 on, is ``figure(s)``."""
    steps = iter(range(config.steps + 1))
    evaluation = Evaluation(lambda model: {"validation": figure(next(steps))}, **options)
    return train_stage(Stage("x", soft(pretrained), ROWS, config), run, evaluation)


@pytest.mark.parametrize(
    ("number", "raised", "text"),
    [
        (signal.SIGINT, KeyboardInterrupt, ""),
        (
            signal.SIGTERM,
            Stopped,
            r"run: x: stopped at step 3 of 5 as requested \(SIGTERM\); the same command",
        ),
    ],
)
def test_signal_takes_effect_at_the_end_of_the_step(
    pretrained, tmp_path, interruptible, number, raised, text
):
    config = TrainConfig(steps=5, batch_size=8, save_every=2)
    run, before = RunDir.open(tmp_path / "run", PretrainConfig()), signal.getsignal(number)

    def figure(step: int) -> float:
        if step == 3:
            signal.raise_signal(number)
        return 0.5

    with pytest.raises(raised, match=text):
        validated(pretrained, run, config, figure)
    assert [line["step"] for line in run.metrics("x").read()] == [0, 1, 1, 2, 2, 3, 3]
    assert (run.path / "x" / "checkpoints" / "3").is_dir()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("best", [True, False])
def test_state_of_the_best_validation_pass_can_be_kept(pretrained, tmp_path, best):
    """The result is the state at the best figure, also when the finished run is started again."""
    figures, config = [0.0, 0.2, 0.9, 0.4, 0.3], TrainConfig(steps=4, batch_size=8, save_every=3)
    run = RunDir.open(tmp_path / "run", PretrainConfig())
    kept = validated(pretrained, run, config, lambda step: figures[step], best=best).model
    found = run.checkpoints("x").restore(_state_of(pretrained, config), best=True)
    assert found.step == (2 if best else 4)
    np.testing.assert_array_equal(kept.prompt.compose(), found.arrays[0]["prompt"]["vectors"][...])
    again = validated(pretrained, run, config, pytest.fail, best=best).model
    np.testing.assert_array_equal(kept.prompt.compose(), again.prompt.compose())


@pytest.mark.parametrize("figures", [[0.9, 0.2, 0.8, 0.4, 0.3], [0.9, 0.2, 0.8, 0.9, 0.3]])
def test_the_start_is_kept_where_no_step_was_better(pretrained, tmp_path, figures):
    """Of equal figures the last one counts; also when the finished run is started again."""
    config = TrainConfig(steps=4, batch_size=8, save_every=3)
    run = RunDir.open(tmp_path / "run", PretrainConfig())
    kept = validated(pretrained, run, config, lambda step: figures[step], best=True).model
    again = validated(pretrained, run, config, pytest.fail, best=True).model
    start = soft(pretrained).prompt.compose()
    is_start = np.array_equal(kept.prompt.compose(), start)
    assert is_start == (figures.count(0.9) == 1)
    np.testing.assert_array_equal(kept.prompt.compose(), again.prompt.compose())


def _state_of(pretrained, config):
    _, params, _ = nnx.split(soft(pretrained), PromptParam, ...)
    optimizer, rates = optimizer_of(config)
    return params, optimizer(rates).init(params)


def test_every_weight_comes_from_the_file(tiny_model, pretrained):
    """As many numbers as the file has, and the same ones, whatever their layout."""
    ours = jax.tree.leaves(nnx.state(pretrained.backbone))
    theirs = load_file(tiny_model / "model.safetensors").values()
    ours, theirs = (np.sort(np.concatenate([np.ravel(t) for t in tensors])) for tensors in (ours, theirs))
    np.testing.assert_array_equal(ours, theirs)


def test_adam_warms_up_and_falls_to_nothing(pretrained):
    _, params, _ = nnx.split(soft(pretrained), PromptParam, ...)
    optimizer = Adam()(LearningRates.of({"vectors": 0.1, "factors": 1.0}, steps=20, warmup=0.25))
    gradient, state, sizes = jax.tree.map(np.ones_like, params), optimizer.init(params), []
    for _ in range(20):
        updates, state = optimizer.update(gradient, state, params)
        sizes.append(max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(updates)))
    assert max(sizes) == pytest.approx(0.1, rel=1e-3)
    assert np.argmax(sizes) == 5
    assert 0 < sizes[-1] < 0.01
    assert 0 < sizes[0] < 0.05


def test_parameter_without_a_learning_rate_is_named():
    class Stranger(nnx.Module):
        def __init__(self):
            self.stranger = PromptParam(np.ones(2))

    with pytest.raises(KeyError, match="stranger"):
        Adam()(LearningRates.of({"vectors": 0.1}, steps=2, warmup=0.0)).init(nnx.state(Stranger()))


def test_a_run_that_goes_on_on_another_mesh_says_so(pretrained, tmp_path, monkeypatch, capsys):
    run = RunDir.open(tmp_path / "run", PretrainConfig())

    def train(steps: int, data: int) -> str:
        monkeypatch.setattr(session, "sizes_in_use", lambda: {"data": data, "fsdp": 1, "tensor": 1})
        config = TrainConfig(steps=steps, batch_size=8, save_every=1)
        train_stage(Stage("x", soft(pretrained), ROWS, config), run)
        return capsys.readouterr().err

    assert "mesh" not in train(1, data=4)
    told = train(2, data=3)
    moved = "resumes from step 1 on a mesh of data 3 × fsdp 1 × tensor 1, where it was data 4 × fsdp 1 × "
    assert f"{run.path}/x: {moved}" in told and "not bit for bit" in told
    assert "mesh" not in train(3, data=3)
