"""An adaptation that names no prompt starts from the one that comes with mpt, where that can do no harm."""

import pytest

from mpt.catalog.library import find_task
from mpt.config.methods import AdaptConfig
from mpt.config.yaml_file import from_plain
from mpt.methods import for_tasks

USUAL = {"model": {"name": "smollm2-135m"}, "shots": 4}


def prompt_of(task: str, **options) -> str:
    return for_tasks(from_plain(AdaptConfig, USUAL | options, "test"), [find_task(task)]).prompt


def test_class_words_start_from_the_packaged_prompt(toy):
    assert prompt_of(toy["mood"]) == "packaged/smollm2-135m"
    assert prompt_of(toy["mood"], shots=8, minutes=3) == "packaged/smollm2-135m"


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": ""},
        {"shots": 16},
        {"shots": 0},
        {"shots_per": "task"},
        {"model": {"name": "another"}},
        {"method": "lora"},
        {"baseline": "linear probe"},
        {"train": {"steps": 10}},
        {"search": {"scratch": False}},
        {"vectors": {"length": 8}},
        {"instruction": 4},
        {"freeze_shared": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_whoever_asks_for_something_else_gets_that(toy, options):
    assert prompt_of(toy["mood"], **options) == ""


def test_a_prompt_that_is_named_is_taken(toy):
    assert prompt_of(toy["mood"], prompt="runs/mine") == "runs/mine"


def test_a_prompt_inside_the_users_turn_starts_from_scratch(toy):
    assert prompt_of(f"{toy['mood']}:chat") == "packaged/smollm2-135m"
    assert prompt_of(f"{toy['mood']}:chat:user") == ""


def test_free_text_starts_from_scratch():
    assert prompt_of("e2e") == ""
