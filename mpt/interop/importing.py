"""Imports a prompt of PEFT as a run directory, which `evaluate`, `predict` and `adapt` take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpt.cards.card import Card
from mpt.catalog.library import find_task
from mpt.config.options import BosRule, ModelConfig
from mpt.config.yaml_file import dump_config
from mpt.data.task import Task
from mpt.data.taskfile import from_anywhere
from mpt.errors import UserError
from mpt.interop.peft_folder import Adapter, read_adapter
from mpt.loading.hf import Pretrained, load_pretrained
from mpt.loading.known import known_as
from mpt.methods.prefix import PrefixPrompt
from mpt.models.backbone import prefix_shape
from mpt.prompts import MultitaskPrompt
from mpt.prompts.saved import describe, save_prompt
from mpt.rundir.directory import atomic_folder, write_atomic
from mpt.system.paths import AnyPath


@dataclass(frozen=True)
class ImportConfig:
    """The origin of an imported run.

    Attributes:
        folder: the folder that PEFT wrote.
        model: the backbone.
        tasks: the tasks of the prompts, in the order of PEFT's task ids; ``task`` is the first.
        max_length: the largest number of tokens of an input.
    """

    folder: str
    model: ModelConfig
    tasks: tuple[str, ...]
    task: str
    max_length: int


def import_adapter(
    folder: Path, model: str, tasks: Sequence[str], out: AnyPath, max_length: int, bos: BosRule = "auto"
) -> list[str]:
    """Reads the prompts in ``folder`` and writes them into the run ``out``.

    Soft prompts become a universal prompt, which `adapt` can start from; a prefix one that was adapted.

    Args:
        bos: whether texts begin with the beginning-of-text token; "auto" does as mpt did where it has written
            the folder, else as the tokenizer does for PEFT's users.

    Returns:
        Remarks for the user, a line each.

    Raises:
        UserError: the folder holds no prompt, or one that does not fit the backbone or the tasks.
    """
    adapter = read_adapter(folder)
    names = tuple(map(from_anywhere, tasks))
    library = [find_task(name) for name in names]
    if not len({task.name for task in library}) == len(library) == adapter.tasks:
        raise UserError(
            f"{folder}: it holds the prompts of {adapter.tasks} tasks, and --task names {len(library)}; "
            "name each of its tasks once, in their order"
        )
    config = ImportConfig(str(folder), ModelConfig(model, bos=bos), names, names[0], max_length)
    with atomic_folder(out) as run:
        pretrained = load_pretrained(model, bos=adapter.bos if bos == "auto" else bos)
        _check_fit(folder, adapter, pretrained)
        name = "universal" if isinstance(adapter.prompt, MultitaskPrompt) else "adapted"
        save_prompt(run, name, adapter.prompt, _card(adapter, pretrained, library, max_length))
        write_atomic(run / "config.yaml", dump_config(config))
    return _remarks(adapter, pretrained)


def _check_fit(folder: Path, adapter: Adapter, pretrained: Pretrained) -> None:
    """Raises an error unless the prompts have the layout and the shape that a backbone takes."""
    layout, width = pretrained.backbone.layout, pretrained.backbone.embedding.shape[-1]
    if adapter.layout != layout:
        raise UserError(
            f"{folder}: a prompt for a model of type {adapter.layout}, and {pretrained.name} is of type "
            f"{layout}; name the backbone that it was trained on"
        )
    if isinstance(adapter.prompt, PrefixPrompt):
        _check_prefix(folder, adapter.prompt, pretrained)
        return
    own = adapter.prompt.shared.shape[-1]
    if own != width:
        raise UserError(
            f"{folder}: its vectors are {own} wide, and the embeddings of {pretrained.name} {width}; "
            "name the backbone that it was trained on"
        )


def _check_prefix(folder: Path, prompt: PrefixPrompt, pretrained: Pretrained) -> None:
    """Raises an error unless a prefix has the keys and values of the backbone's layers."""
    _, layers, _, heads, width = prompt.keys.shape
    if (layers, heads, width) != (shape := prefix_shape(pretrained.backbone)):
        ours = "{} layers of {} heads of width {}".format(*shape)
        raise UserError(
            f"{folder}: keys and values of {layers} layers of {heads} heads of width {width}, and "
            f"{pretrained.name} has {ours}; name the backbone that it was trained on"
        )


def _card(adapter: Adapter, pretrained: Pretrained, tasks: Sequence[Task], max_length: int) -> Card:
    origin = known_as(adapter.backbone) if adapter.backbone else "an unnamed backbone"
    return describe(
        adapter.prompt,
        pretrained,
        tasks,
        method=f"Imported from PEFT ({adapter.method}), trained on {origin}",
        prompts=[task.name for task in tasks],
        rows={},
        max_length=max_length,
        seeds=[],
        metrics={},
    )


def _remarks(adapter: Adapter, pretrained: Pretrained) -> list[str]:
    remarks, name, weights = [], adapter.backbone, adapter.weights
    if weights and weights != pretrained.hash:
        remarks.append(
            f"it was trained on '{name}' with weights {weights[:12]}, and '{pretrained.name}' has "
            f"{pretrained.hash[:12]}: with other weights a prompt does not work"
        )
    if not weights and name != pretrained.name:
        remarks.append(
            f"its config says that it was trained on '{name}', not on '{pretrained.name}': "
            "with other weights a prompt does not work, so be sure that they are the same"
        )
    if adapter.left_out:
        remarks.append(
            f"the last {adapter.left_out} of its vectors, the decoder's, are left out: "
            "PEFT does not read them when it generates"
        )
    return remarks
