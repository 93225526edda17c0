"""LoRA (Hu et al., ICLR 2022): W becomes W + A B, with trained low-rank A and B for each frozen matrix."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mpt.config.methods import LoraConfig, Matrices
from mpt.errors import UserError
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting
from mpt.models.backbone import Backbone
from mpt.models.matrices import ALL, ATTENTION, CROSS, matrices, stacks
from mpt.prompts import PlainPrompt, SoftPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.saved import saved_as


class LoraParam(nnx.Variable):
    """A trained low-rank factor for a frozen matrix."""


@saved_as("lora")
class Lora(nnx.Module):
    """The factors of one task, and the frozen prompt in front of its rows.

    A matrix W becomes W + A B. LoRA's scale alpha/rank is left out: with Adam it only rescales B's
    learning rate.

    Args:
        vectors: a frozen prompt in front of the texts; its length may be 0.
        factors: by the matrix's stack and name, such as "layers.q_lora_a" and "layers.q_lora_b".
    """

    def __init__(self, vectors: Float[Array, "1 P D"], **factors: Array):
        self.vectors = nnx.Variable(vectors)
        self.factors = nnx.Dict({name: LoraParam(factor) for name, factor in factors.items()})

    @classmethod
    def of(cls, backbone: Backbone, vectors: Float[Array, "1 P D"]) -> Lora:
        """The factors of a backbone, as a separate module."""
        factors = {
            f"{name}.{matrix}": weight[...]
            for name, stack in stacks(backbone).items()
            for matrix, weight in stack.items()
            if isinstance(weight, LoraParam)
        }
        return cls(vectors, **factors)

    def beside(self, backbone: Backbone) -> Prompted:
        """The backbone with these factors added to its matrices, and the frozen prompt before the text."""
        changed = shallow(backbone)
        for path, factor in self.factors.items():
            stack, name = path.split(".")
            stacks(changed)[stack][name] = factor
        return Prompted(changed, SoftPrompt(self.vectors[...]))


def with_lora(backbone: Backbone, rank: int, among: Matrices, key: Array) -> Backbone:
    """A copy of the backbone with factors of ``rank`` for its matrices: A random, B zero.

    Raises:
        UserError: its feed-forwards are experts, which have no such factors.
    """
    changed = shallow(backbone)
    if among == "all" and any("router" in stack for stack in stacks(changed).values()):
        raise UserError("method lora: experts cannot be updated; set lora.matrices to attention")
    for stack in stacks(changed).values():
        for name, inputs in matrices(stack, ALL if among == "all" else ATTENTION | CROSS).items():
            key, key_of_a = jax.random.split(key)
            layers, *axes = stack[name].shape
            input_axes, output_axes = axes[:inputs], axes[inputs:]
            a = jax.random.normal(key_of_a, (layers, *input_axes, rank)) / math.sqrt(math.prod(input_axes))
            stack[f"{name}_lora_a"] = LoraParam(a)
            stack[f"{name}_lora_b"] = LoraParam(jnp.zeros((layers, rank, *output_axes)))
    return changed


def shallow(backbone: Backbone) -> Backbone:
    """A copy whose weights can be replaced without changing the original; until then they share arrays."""
    return nnx.merge(*nnx.split(backbone))


def start(setting: Setting) -> Start:
    """A random, B zero: the backbone starts unchanged, with the task's instruction before the text."""
    options: LoraConfig = setting.options
    backbone = with_lora(setting.pretrained.backbone, options.rank, options.matrices, setting.key)
    return Start(Prompted(backbone, setting.frozen_prompt()), "the backbone", LoraParam, options.rate)


def keep(model: Prompted) -> nnx.Module:
    """The updates, and the frozen vectors in front of the text."""
    assert isinstance(model.prompt, PlainPrompt)
    return Lora.of(model.backbone, model.prompt.compose())


METHOD = Method("lora", "LoRA", start, LoraConfig, ("rate",), side_by_side=False, keep=keep)
