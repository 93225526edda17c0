"""The methods that a sequence of tasks is learned by, checked without JAX."""

from __future__ import annotations

from typing import get_args

from mpt.config.continual import ContinualConfig, ContinualMethod
from mpt.errors import UserError

NEED_UNIVERSAL: tuple[ContinualMethod, ...] = ("factors", "shared")


def checked_methods(config: ContinualConfig) -> tuple[ContinualMethod, ...]:
    """The config's methods; all that can start where it says to, where it names none.

    Raises:
        UserError: one is named twice, or lacks a universal prompt.
    """
    if config.model.decoder_prompt:
        raise UserError(
            "continual: model.decoder_prompt: prompts that become longer cannot have it; leave it out"
        )
    lacking = () if config.prompt else NEED_UNIVERSAL
    if not config.methods:
        return tuple(method for method in get_args(ContinualMethod) if method not in lacking)
    if len(set(config.methods)) < len(config.methods):
        raise UserError("continual: methods: one is named twice; name each once")
    if needy := [method for method in config.methods if method in lacking]:
        raise UserError(
            f"continual: method {needy[0]} starts from a universal prompt; "
            "give --prompt with a run of `mpt pretrain`"
        )
    return config.methods
