"""Hidden states of texts in the frozen backbone, without a prompt, pooled to a vector or a few per row.

For an encoder-decoder, they are the encoder's.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mpt.models.backbone import Backbone
from mpt.prompts.prefix import of_inputs, places
from mpt.types import Batch


def mean_state(batch: Batch, states: Float[Array, "N D"], backbone: Backbone) -> Float[Array, "B D"]:
    """The mean of the states of each row's input, in float32."""
    inside = of_inputs(batch, backbone)[:, None]
    row, rows = places(batch)[0], len(batch.grid)
    total = (
        jnp.zeros((rows, states.shape[-1])).at[row].add(jnp.where(inside, states.astype(jnp.float32), 0.0))
    )
    count = jnp.zeros((rows, 1)).at[row].add(inside.astype(jnp.float32))
    return total / jnp.maximum(count, 1.0)


def last_state(batch: Batch, states: Float[Array, "N D"], backbone: Backbone) -> Float[Array, "B D"]:
    """The state of the last token of each row's input, in float32."""
    inside = of_inputs(batch, backbone).astype(jnp.int32)
    count = jnp.zeros(len(batch.grid), jnp.int32).at[places(batch)[0]].add(inside)
    cell = jnp.take_along_axis(jnp.asarray(batch.grid), jnp.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    return states[cell].astype(jnp.float32)


def bare_states(batch: Batch, backbone: Backbone) -> Float[Array, "B 3 D"]:
    """Three states of each row's input: the mean after two thirds of the layers, the final mean, and the last
    token's final state.

    Which of them separates classes best depends on the task.
    """
    middle, alone = 2 * backbone.depth // 3, _alone(batch)
    inner = backbone.lower(alone, middle, prompt_length=0)
    nothing, kept = jnp.zeros((1, 0, backbone.embedding.shape[1])), inner if middle else None
    final = backbone(alone._replace(states=kept), nothing, layer=middle).hidden[0]
    return jnp.stack(
        [
            mean_state(batch, inner, backbone),
            mean_state(batch, final, backbone),
            last_state(batch, final, backbone),
        ],
        axis=1,
    )


def _alone(batch: Batch) -> Batch:
    """A batch whose rows have no prompt, and no class words after them."""
    return batch._replace(prompt_index=jnp.zeros_like(batch.prompt_index), classes=None, states=None)
