"""Every option that is a number has a range, which is checked in one place, by the option's name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import get_type_hints

import pytest
from toys import refused

from mpt.comparison.config import CompareConfig
from mpt.config.continual import ContinualConfig
from mpt.config.pretrain import PretrainConfig
from mpt.config.ranges import check_ranges
from mpt.config.yaml_file import from_plain
from mpt.errors import UserError
from mpt.methods import AdaptConfig

KINDS = (PretrainConfig, AdaptConfig, ContinualConfig, CompareConfig)
NUMBERS = (int, float, tuple[int, ...], tuple[float, ...])


def numbers(kind: type, section: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """The path and type of each option that is a number, or a list of some."""
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from numbers(hint, (*section, name))  # type: ignore[arg-type]
        elif hint in NUMBERS:
            yield (*section, name), hint


CASES = [(kind, path, hint) for kind in KINDS for path, hint in numbers(kind)]
assert len(CASES) > 150


def built(kind: type, path: tuple[str, ...], value):
    plain = value
    for name in reversed(path):
        plain = {name: plain}
    return from_plain(kind, plain, "run.yaml")


@pytest.mark.parametrize(("kind", "path", "hint"), CASES, ids=lambda value: str(value)[:60])
def test_no_option_takes_a_number_that_is_far_out(kind, path, hint):
    """A negative one, and of fractions those that are not finite."""
    for wrong in (-7, *([math.nan, math.inf, -math.inf] if hint in NUMBERS[1::2] else [])):
        number = float(wrong) if hint in NUMBERS[1::2] else wrong
        with pytest.raises(UserError, match=rf"run.yaml: .*\b({path[-1]}|{path[0]})\b"):
            built(kind, path, [number] if hint in NUMBERS[2:] else number)


def test_the_defaults_of_all_configs_are_in_their_ranges():
    for kind in KINDS:
        check_ranges(kind())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "import no-folder --model any --task movies --max-length 0",
            "max_length: it must be 1 or more, not 0",
        ),
        ("import no-folder --model any --task movies --max-length -5", "max_length: it must be 1 or more"),
        ("bank search movies --max-length 0", "max_length: it must be 1 or more, not 0"),
        ("bank search movies --seed -1", "seed: it must be 0 or more"),
        ("evaluate no-run --rows -1", "rows: it must be 0 or more, not -1"),
        ("predict no-run --index -1", "index: it must be 0 or more, not -1"),
        ("inspect no-run --rows -1", "rows: it must be 0 or more, not -1"),
        ("tasks show movies --max-length -1", "max_length: it must be 1 or more, not -1"),
        ("plan quickstart --tries 0", "tries: it must be 1 or more, not 0"),
        ("plan quickstart --patience nan", "patience: it must be 0 or more, not nan"),
        ("launch --processes 2 --devices-per-process -1 -- pretrain", "devices_per_process: it must be 0 or"),
        ("serve no-run --timeout nan", "--timeout is nan; it must be 0.001 or more"),
        ("serve no-run --wait-ms inf", "--wait-ms is inf; it must be 0 or more"),
    ],
)
def test_commands_without_a_config_name_the_option_too(capsys, tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *command.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--vectors.length", "-3", "vectors.length: it must be 0 or more, not -3"),
        ("--train.batch-size", "0", "train.batch_size: it must be 1 or more, not 0"),
        ("--max-length", "0", "max_length: it must be 1 or more, not 0"),
        ("--shots", "-1", "shots: it must be 0 or more, not -1"),
        ("--train.learning-rate", "nan", "train.learning_rate: it must be 0 or more, not nan"),
        ("--train.factor-rate", "inf", "train.factor_rate: it must be 0 or more, not inf"),
        ("--lora.rate", "-1", "lora.rate: it must be 0 or more, not -1"),
        ("--train.warmup", "2", "train.warmup: it must be 0 or more, up to 1, not 2"),
        ("--seeds", None, "seeds: give one or more"),
        ("--seeds", "-4", "seeds: it must be 0 or more"),
        ("--seeds", "4294967296", "seeds: it must be 0 or more, up to 4294967295, not 4294967296"),
        ("--search.steps", "8", "search.steps: it must be more than search.every, 8, not 8"),
    ],
)
def test_the_command_line_names_the_option(capsys, tmp_path, option, value, message):
    given = [option, *([value] if value else [])]
    error = refused(capsys, "adapt", "--task", "movies", "--out", str(tmp_path / "run"), *given)
    assert message in error
    assert not list(tmp_path.iterdir())
