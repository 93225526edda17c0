"""Ultra-low-dimensional prompt tuning (ULPT, 2025): a low-dimensional prompt, projected up."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mpt.config.methods import UlptConfig
from mpt.errors import UserError
from mpt.methods.record import Method, Start
from mpt.methods.setting import Setting, no_shared_part
from mpt.models.layers import Weight
from mpt.prompts.multitask import ModulatedPrompt, MultitaskPrompt
from mpt.prompts.prefix import PlainPrompt
from mpt.prompts.prompted import Prompted
from mpt.prompts.soft import PromptParam


class UltraLowPrompt(PlainPrompt):
    """P_j = (Z_j M) ∘ s_j + b_j, with a frozen random M [R, D] that all prompts share.

    M is generated from its seed, so it is not saved; a trained prompt is a plain one.

    Args:
        low: Z, [J, P, R].
        scale: s, one factor per dimension, [J, D].
        shift: b, [J, D].
        seed: of M.
    """

    def __init__(
        self, low: Float[Array, "J P R"], scale: Float[Array, "J D"], shift: Float[Array, "J D"], seed: int
    ):
        self.low, self.scale, self.shift = PromptParam(low), PromptParam(scale), PromptParam(shift)
        self.projection = Weight(random_projection(low.shape[-1], shift.shape[-1], seed))

    @classmethod
    def start(cls, vectors: Float[Array, "J P D"], rank: int, seed: int) -> UltraLowPrompt:
        """The prompt of ``rank`` dimensions nearest to ``vectors``: their mean, and least squares."""
        count, _, width = vectors.shape
        shift = vectors.mean(axis=1)
        projection = random_projection(rank, width, seed)
        low = (vectors - shift[:, None]) @ jnp.linalg.pinv(projection)
        return cls(low, jnp.ones((count, width)), shift, seed)

    def compose(self) -> Float[Array, "J P D"]:
        up = self.low[...] @ self.projection[...]
        return up * self.scale[...][:, None] + self.shift[...][:, None]


def random_projection(rank: int, width: int, seed: int) -> Float[Array, "R D"]:
    """Normal with variance 1/R, so that output dimensions have the scale of input dimensions."""
    return jax.random.normal(jax.random.key(seed), (rank, width)) / jnp.sqrt(rank)


def start(setting: Setting) -> Start:
    """The low-dimensional prompt nearest to the starting vectors."""
    options: UlptConfig = setting.options
    if options.shared_only:
        prompt = _shared_only(setting, options)
    else:
        prompt = UltraLowPrompt.start(setting.starting_vectors(), options.rank, options.seed)
    return Start(Prompted(setting.pretrained.backbone, prompt), setting.origin)


def _shared_only(setting: Setting, options: UlptConfig) -> ModulatedPrompt:
    """A universal prompt of which only the shared part is low-dimensional."""
    universal = setting.start_of_source() if setting.source else None
    if not isinstance(universal, MultitaskPrompt):
        raise no_shared_part("ulpt.shared_only")
    if universal.words is not None:
        raise UserError("ulpt.shared_only: this universal prompt has instructions after it; leave it out")
    base = UltraLowPrompt.start(universal.shared[...], options.rank, options.seed)
    return ModulatedPrompt(base, universal.u[...], universal.v[...])


METHOD = Method("ulpt", "ULPT", start, UlptConfig)
