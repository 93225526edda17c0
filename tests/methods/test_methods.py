"""Every method adapts, is saved, and predicts again what it was scored on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file
from toys import refused, stage, write_task

from mpt import cli
from mpt.config.yaml_file import from_plain
from mpt.errors import UserError
from mpt.inference.predict import evaluate
from mpt.loading.hf import load_pretrained
from mpt.methods import AdaptConfig
from mpt.methods.examples import in_context
from mpt.methods.full import in_float32
from mpt.prompts.saved import load_prompt
from mpt.recipes.adapt import adapt, adapt_all
from mpt.types import Row

OPTIONS = {
    "prompt": {},
    "classifier": {},
    "spot": {"spot": {"steps": 2}},
    "attempt": {"attempt": {"width": 5}},
    "ulpt": {"ulpt": {"rank": 3}},
    "dept": {"dept": {"length": 2, "rank": 3}},
    "adept": {"adept": {"length": 2, "width": 5}},
    "prefix": {},
    "context": {"context": {"tokens": 60}},
    "lora": {"lora": {"rank": 2, "rate": 0.01}},
    "full": {"full": {"rate": 0.001}},
    "examples": {"examples": {"tokens": 100}},
}
P, D, S = 4, 32, 24
# Per seed; LoRA: two layers' q, k, v and out, of 4 heads and 2 key and value heads.
PARAMETERS = {
    "prompt": P * D,
    "classifier": P * D + 2 * (2 * D + 1),  # two classes
    "spot": P * D,
    "attempt": P * D + 2 * 5 * D + 2 * D,
    "ulpt": P * 3 + 2 * D,
    "dept": 2 * D + 3 * (S + D),
    "adept": 2 * D + 2 * 5 * D + 5 + D,
    "lora": 2 * 2 * (64 + 48 + 48 + 64),
}
# The tiny model is compiled for each method anew: none needs more steps than show that it learns.
KIND = {
    "classifier": "class head",
    "attempt": "attempt",
    "dept": "dept",
    "adept": "adept",
    "prefix": "prefix",
    "context": "prefix",
    "lora": "lora",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, plain_adapt, universal, pretrained):
    """Adapts by a method; the run directory and its result."""
    done = {}

    def run(method: str, **keys):
        if method not in done or keys:
            sources = {"prompt": str(universal)} if method in ("spot", "attempt") else {}
            out = tmp_path_factory.mktemp(method) / "run"
            own = {"out": str(out), "method": method, "seeds": [0, 1], **sources, **OPTIONS[method], **keys}
            config = from_plain(AdaptConfig, plain_adapt | own, "test")
            found = out, adapt(config, pretrained)
            if keys:
                return found
            done[method] = found
        return done[method]

    return run


@pytest.mark.parametrize("method", OPTIONS)
def test_method_trains_every_seed(run, method):
    out, result = run(method)
    assert len(result.scores) == 2
    assert result.seconds > 0 or method == "examples"
    assert result.parameters == PARAMETERS.get(method, result.parameters)
    assert [step for step, _ in result.curve] == ([] if method == "examples" else [0, 3, 6])
    if method != "examples":
        folders = [out / name for name in ("adapt", "adapt-0", "adapt-1") if (out / name).exists()]
        assert len(folders) == (2 if method in ("lora", "full") else 1)
        for folder in folders:
            losses = [json.loads(line).get("loss") for line in (folder / "metrics.jsonl").open()]
            assert len([loss for loss in losses if loss]) == 6


@pytest.mark.parametrize("method", [method for method in OPTIONS if method != "full"])
def test_saved_method_predicts_the_same(run, method):
    out, result = run(method)
    for index, score in enumerate(result.scores):
        assert evaluate(out, "", "test", 16, index)["accuracy"] == score
    name = "adapted-0" if method in ("lora", "examples") else "adapted"
    assert load_prompt(out, name)[1].kind == KIND.get(method, "soft")
    with pytest.raises(UserError, match="no prompt 2; it has 2, one per seed, from 0"):
        evaluate(out, "", "test", 16, 2)


def test_full_fine_tuning_keeps_no_model_and_leaves_the_backbone_alone(run, pretrained):
    before = np.array(pretrained.backbone.layers["q"][...])
    out, result = run("full", seeds=[0])
    np.testing.assert_array_equal(pretrained.backbone.layers["q"][...], before)
    assert result.parameters == sum(
        w.size for w in (*pretrained.backbone.layers.values(), *pretrained.backbone.ends.values())
    )
    assert not list(out.glob("prompts/*"))
    assert not list(out.rglob("checkpoints"))
    with pytest.raises(UserError, match="full fine-tuning saves no model"):
        evaluate(out, "", "test", 16, 0)


def test_full_fine_tuning_trains_bfloat16_weights_in_float32(tiny_model):
    half = load_pretrained(str(tiny_model), dtype=jnp.bfloat16).backbone
    for backbone, dtype in ((in_float32(half), jnp.float32), (half, jnp.bfloat16)):
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(backbone))} == {jnp.dtype(dtype)}


def test_lora_keeps_no_frozen_weight(run):
    out, _ = run("lora")
    tensors = load_file(out / "prompts" / "adapted-0.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"layers", "vectors"}
    assert sum(t.size for name, t in tensors.items() if name != "vectors") == PARAMETERS["lora"]
    assert any(t.any() for name, t in tensors.items() if name.endswith("_b"))


def test_draws_are_kept(run, plain_adapt):
    out, _ = run("lora")
    (draws,) = json.loads((out / "draws.json").read_text()).values()
    assert list(draws) == ["0", "1"]
    assert all(len(set(places)) == 2 * plain_adapt["shots"] for places in draws.values())
    assert draws["0"] != draws["1"]


def test_frozen_shared_part_stays(run, universal):
    shared = load_file(universal / "prompts" / "universal.safetensors")["shared"]
    checkpoints = {}
    for frozen in (False, True):
        _, result = run("prompt", prompt=str(universal), freeze_shared=frozen)
        checkpoints[frozen] = result.parameters
    assert checkpoints[False] - checkpoints[True] == shared.size
    assert checkpoints[True] == P + D


def test_shared_part_can_have_few_dimensions(run, universal):
    out, result = run("ulpt", prompt=str(universal), ulpt={"rank": 3, "shared_only": True})
    assert result.parameters == PARAMETERS["ulpt"] + P + D
    assert load_prompt(out, "adapted")[1].kind == "soft"


def test_source_is_chosen_by_name(run, universal):
    untrained = {"steps": 0, "batch_size": 8}
    teachers = load_file(universal / "prompts" / "teachers.safetensors")["vectors"]
    out, _ = run("spot", spot={"source": "colour"}, train=untrained)
    start = load_file(out / "prompts" / "adapted.safetensors")["vectors"]
    np.testing.assert_array_equal(start, np.stack([teachers[1]] * 2))


def test_examples_in_context_are_whole_and_within_the_budget(pretrained, toy):
    from mpt.catalog.library import find_task

    task, tokenizer = find_task(toy["mood"]), pretrained.tokenizer
    rows = [Row([3 + i] * (1 + i % 4), [20 + i % 2]) for i in range(30)]
    ids, spans = in_context(task, rows, tokenizer, 60, seed=0)
    text = tokenizer.decode(ids)
    assert text.startswith(task.instruction)
    shown = [part for part in text.removeprefix(task.instruction).split("\n\n") if part]
    known = [tokenizer.decode([*row.inputs, *row.targets]) for row in rows]
    assert len(shown) > 3
    assert set(shown) <= set(known)
    assert 60 - 7 < len(ids) <= 60, "no other would have fitted"
    for row, (first, last) in spans.items():
        assert ids[first:last] == [*rows[row].inputs, *rows[row].targets]
    assert len(spans) == len(shown)
    again, another = (in_context(task, rows, tokenizer, 60, seed=seed).ids for seed in (0, 1))
    assert ids == again != another
    with pytest.raises(UserError, match=r"examples\.tokens: not one example of mood fits into 10 tokens"):
        in_context(task, rows, tokenizer, 10, seed=0)


@pytest.fixture
def adapt_with(tmp_path, config_file, plain_adapt, capsys):
    """Runs an adaptation with other keys, which must be refused."""

    def run(**keys) -> str:
        return refused(capsys, "adapt", config_file(plain_adapt | {"out": str(tmp_path / "run")} | keys))

    return run


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"method": "delpt"}, "run.yaml: method is 'delpt'; did you mean 'dept'?"),
        ({"method": "spot"}, "method spot needs source prompts; give --prompt with a run of `mpt pretrain`"),
        ({"method": "dept", "dept": {"rank": 0}}, "run.yaml: dept.rank: it must be 1 or more, not 0"),
        ({"method": "ulpt", "ulpt": {"shared_only": True}}, "ulpt.shared_only: only a universal prompt has"),
        ({"freeze_shared": True}, "freeze_shared: only a universal prompt has a shared part"),
        ({"freeze_shared": True, "instruction": 2}, "freeze_shared: only a universal prompt has a shared"),
    ],
)
def test_options_that_do_not_go_together(adapt_with, keys, message):
    assert message in adapt_with(**keys)


def test_source_that_is_not_there(adapt_with, universal):
    error = adapt_with(method="spot", prompt=str(universal), spot={"source": "color"})
    assert "spot.source: no source task 'color'; did you mean 'colour'?" in error


def test_source_prompts_of_another_length(adapt_with, universal):
    error = adapt_with(method="attempt", prompt=str(universal), vectors={"length": 5})
    assert "the source prompts have 4 vectors, the target's 5; set --vectors.length 4" in error


def test_rounded_weights_are_not_trained(adapt_with, tiny_model):
    error = adapt_with(method="full", model={"name": str(tiny_model), "weights": "int8"})
    assert "method full: 8-bit weights cannot be trained" in error


def test_what_may_not_be_meant_is_told(capsys, config_file, plain_adapt, toy, universal, tmp_path):
    rows = [{"text": f"{i} red", "label": "yes"} for i in range(12)]
    few = write_task(tmp_path, "few", [*rows, *({"text": f"{i} x", "label": "no"} for i in range(3))])
    keys = {"train": stage(1), "validate_every": 0, "test_rows": 2}
    config = config_file(plain_adapt | keys | {"out": str(tmp_path / "a"), "task": str(few)})
    assert cli.main(["adapt", config]) == 0
    assert "mpt: warning: task few has" in capsys.readouterr().err
    source = {"out": str(tmp_path / "b"), "task": toy["tone"], "prompt": str(universal)}
    assert cli.main(["adapt", config_file(plain_adapt | keys | source)]) == 0
    assert "mpt: warning: 'tone' is one of the source tasks" in capsys.readouterr().err


def test_targets_can_learn_together(plain_adapt, universal, pretrained, toy, tmp_path):
    """Each seed's targets have one shared part; each target has a prompt and a figure of its own."""
    keys = {"prompt": str(universal), "also": [toy["colour"]], "seeds": [0, 1], "out": str(tmp_path / "run")}
    config = from_plain(AdaptConfig, plain_adapt | keys, "test")
    results = adapt_all(config, pretrained)
    assert [result.task for result in results] == ["mood", "colour"]
    assert adapt_all(config, pretrained) == results
    for result, task in zip(results, ("mood", "colour")):
        assert result.parameters == (P * D + 2 * (P + D)) // 2
        assert [step for step, _ in result.curve] == [0, 3, 6]
        for index, score in enumerate(result.scores):
            assert evaluate(tmp_path / "run", toy[task], "test", 16, index)["accuracy"] == score
    tensors = load_file(tmp_path / "run" / "prompts" / "adapted-1.safetensors")
    assert tensors["vectors"].shape == (2, P, D)


def test_target_named_twice(adapt_with, universal, toy):
    assert "adapt: also: it names a target twice" in adapt_with(prompt=str(universal), also=[toy["mood"]])
