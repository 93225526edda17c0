"""Configs are strict, and what is written is read back equal."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpt.comparison.config import CompareConfig
from mpt.config.continual import ContinualConfig
from mpt.config.options import ModelConfig, TrainConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.yaml_file import differences, dump_config, find_config, from_plain, load_config, to_plain
from mpt.errors import UserError
from mpt.methods import AdaptConfig

KINDS = {
    "pretrain": PretrainConfig,
    "adapt": AdaptConfig,
    "compare": CompareConfig,
    "continual": ContinualConfig,
    "quickstart": CompareConfig,
}


@pytest.fixture
def load(tmp_path):
    def load(kind, text: str):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return load_config(kind, path)

    return load


@given(
    out=st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    tasks=st.lists(st.text("abc/.: #'\"", max_size=8)).map(tuple),
    rate=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    steps=st.integers(0),
)
def test_dumped_config_is_read_back_equal(tmp_path_factory, out, tasks, rate, steps):
    written = PretrainConfig(out=out, tasks=tasks, teachers=TrainConfig(learning_rate=rate, steps=steps))
    path = tmp_path_factory.mktemp("config") / "run.yaml"
    path.write_text(dump_config(written), encoding="utf-8")
    assert load_config(PretrainConfig, path) == written


def test_small_rates_are_numbers_however_they_are_written(load):
    """YAML 1.1 reads 1e-3 as a text."""
    for text in ("1e-3", "1.0e-3", "0.001"):
        assert load(TrainConfig, f"learning_rate: {text}").learning_rate == 0.001


def test_keys_left_out_keep_their_defaults(load):
    assert load(PretrainConfig, "teachers: {steps: 3}").teachers == TrainConfig(steps=3)
    assert load(AdaptConfig, "train: {save_every: 3}").train == dataclasses.replace(
        AdaptConfig().train, save_every=3
    )
    compared = load(CompareConfig, "adapt: {train: {save_every: 3}, vectors: {rank: 2}}").adapt
    assert compared.train == dataclasses.replace(AdaptConfig().train, save_every=3)
    assert compared.vectors == dataclasses.replace(AdaptConfig().vectors, rank=2)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (TrainConfig, "steps: many", r"steps must be a whole number, not 'many'"),
        (TrainConfig, "steps: 1.5", r"steps must be a whole number, not 1.5"),
        (TrainConfig, "steps: true", r"steps must be a whole number, not True"),
        (TrainConfig, "learning_rate: fast", r"learning_rate must be a number, not 'fast'"),
        (TrainConfig, "sampling: eqal", r"sampling is 'eqal'; did you mean 'equal'\?"),
        (TrainConfig, "sampling: [equal]", r"sampling"),
        (AdaptConfig, "train: {steps: -2}", r"train.steps: it must be -1 or more, not -2"),
        (PretrainConfig, "teachers: {steps: -1}", r"teachers.steps: only `mpt adapt` can find the number"),
        (ContinualConfig, "train: {steps: -1}", r"train.steps: only `mpt adapt` can find the number"),
        (TrainConfig, "microbatches: 5", r"microbatches: 24 rows cannot be split into 5 equal parts"),
        (AdaptConfig, "train: {microbatches: 0}", r"train.microbatches: 16 rows cannot be split into 0"),
        (AdaptConfig, "train: {epochs: -1}", r"train.epochs: it must be 0 or more, not -1"),
        (PretrainConfig, "universal: {clip_norm: -0.5}", r"universal.clip_norm: it must be 0 or more"),
        (TrainConfig, "bach_size: 3", r"unknown key 'bach_size'; did you mean 'batch_size'\?"),
        (PretrainConfig, "teachers: {bach_size: 3}", r"unknown key 'teachers.bach_size'; did you mean"),
        (PretrainConfig, "teachers: 3", r"teachers must be a mapping of options, not 3"),
        (PretrainConfig, "tasks: movies", r"tasks must be a list, not 'movies'"),
        (PretrainConfig, "tasks: [1]", r"tasks\[0\] must be a text, not 1"),
        (PretrainConfig, "out: 3", r"out must be a text, not 3"),
        (PretrainConfig, "- a", r"must hold 'key: value' lines"),
        (PretrainConfig, "", r"must hold 'key: value' lines"),
        (PretrainConfig, "out: a\nseed: [", r":2: not YAML"),
        (PretrainConfig, "seed: 1\nseed: 2", r":2: not YAML"),
    ],
)
def test_faulty_config_is_named_with_its_key(load, kind, text, message):
    with pytest.raises(UserError, match=rf"run.yaml.*{message}"):
        load(kind, text)


def test_config_by_name_and_by_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1")
    assert find_config(str(path)) == path
    assert find_config("quickstart").name == "quickstart.yaml"
    with pytest.raises(UserError, match=r"no such file or packaged config; did you mean 'quickstart'\?"):
        find_config("quikstart")


@pytest.fixture
def write(tmp_path):
    def write(**texts: str):
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


def test_base_gives_what_is_not_written(write):
    folder = write(
        old="seed: 3\nmax_length: 64\nteachers: {steps: 7, batch_size: 8}\ntasks: [a, b]",
        new="base: old.yaml\nmax_length: 32\nteachers: {steps: 9}\ntasks: [c, d]",
        newest="base: new.yaml\nseed: 4",
    )
    found = load_config(PretrainConfig, folder / "newest.yaml")
    assert (found.seed, found.max_length, found.tasks) == (4, 32, ("c", "d"))
    assert (found.teachers.steps, found.teachers.batch_size) == (9, 8)
    assert load_config(PretrainConfig, folder / "old.yaml").seed == 3


def test_section_has_a_base_of_its_own(write):
    folder = write(
        source="seed: 3\nmax_length: 64",
        other="pretrain: {seed: 1, max_length: 8, out: x}\ngoal: 0.5",
        new="base: other.yaml\npretrain: {base: source.yaml, max_length: 32}",
    )
    found = load_config(CompareConfig, folder / "new.yaml")
    assert found.pretrain == PretrainConfig(seed=3, max_length=32)
    assert found.goal == 0.5


def test_base_by_name_is_packaged(write):
    found = load_config(CompareConfig, write(mine="base: quickstart\ngoal: 0.7") / "mine.yaml")
    assert found == dataclasses.replace(load_config(CompareConfig, find_config("quickstart")), goal=0.7)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"run": "base: quikstart"}, r"run.yaml: base: config 'quikstart': .* did you mean 'quickstart'\?"),
        ({"run": "pretrain: {base: 3}"}, r"run.yaml: pretrain.base must be a config's name or path, not 3"),
        ({"run": "base: run.yaml"}, r"run.yaml: base: the configs form a circle: .*run.yaml -> .*run.yaml"),
        (
            {"run": "base: b.yaml", "b": "base: c.yaml", "c": "base: b.yaml"},
            r"c.yaml: base: the configs form a circle: .*run.yaml -> .*b.yaml -> .*c.yaml -> .*b.yaml",
        ),
        ({"run": "base: b.yaml", "b": "gaol: 3"}, r"b.yaml: unknown key 'gaol'; did you mean 'goal'\?"),
        ({"run": "base: b.yaml\ngaol: 3", "b": "goal: 0.5"}, r"run.yaml: unknown key 'gaol'"),
        (
            {
                "run": "base: b.yaml\nadapt: {train: {microbatches: 5}}",
                "b": "adapt: {train: {batch_size: 8}}",
            },
            r"run.yaml: adapt.train.microbatches: 8 rows cannot be split into 5 equal parts",
        ),
        ({"run": "adapt: {base: b.yaml}", "b": "targets: [a]"}, r"b.yaml: unknown key 'targets'"),
    ],
)
def test_faulty_base_is_named_with_its_file(write, texts, message):
    with pytest.raises(UserError, match=message):
        load_config(CompareConfig, write(**texts) / "run.yaml")


PACKAGED = sorted(find_config("quickstart").parent.glob("*.yaml"))


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
def test_packaged_config_loads_for_the_command_in_its_first_line(path):
    command = path.read_text().split()[2]
    assert load_config(KINDS[command], path) != KINDS[command]()


def test_differences_are_dotted_keys():
    old, new = PretrainConfig(), PretrainConfig(seed=2, teachers=TrainConfig(steps=3))
    assert differences(to_plain(old), to_plain(new)) == [
        "teachers.steps is 60 there, 3 here",
        "seed is 0 there, 2 here",
    ]
    assert differences(to_plain(old), to_plain(old)) == []


@pytest.mark.parametrize("kind", [ModelConfig, PretrainConfig, AdaptConfig, CompareConfig, ContinualConfig])
def test_configs_are_frozen(kind):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), dataclasses.fields(kind)[0].name, "x")


def test_every_field_has_a_default_of_its_own_type():
    for kind in (ModelConfig, PretrainConfig, AdaptConfig, CompareConfig, ContinualConfig):
        assert from_plain(kind, to_plain(kind()), "defaults") == kind()


def test_options_of_older_runs_keep_their_values():
    found = from_plain(AdaptConfig, {"probe_every": 3, "probe_rows": 5}, "config.yaml")
    assert (found.validate_every, found.validation_rows) == (3, 5)
