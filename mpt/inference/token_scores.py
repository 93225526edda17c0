"""Log probabilities of generated tokens, and of the likeliest tokens at their places."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

LIKELIEST = 20  # tokens at each place, or the whole of a smaller vocabulary
LEAST = -9999.0  # in place of minus infinity, which is no number in JSON


class TokenScores(NamedTuple):
    """The model's own log probabilities, before any temperature; zeros where none were wanted.

    Attributes:
        chosen: of each generated token.
        likeliest: the likeliest tokens in each one's place, the likeliest first.
        of_likeliest: the log probabilities of these.
    """

    chosen: Float[Array, "B max_new_tokens"]
    likeliest: Int[Array, "B max_new_tokens likeliest"]
    of_likeliest: Float[Array, "B max_new_tokens likeliest"]

    @classmethod
    def empty(cls, rows: int, max_new_tokens: int, vocab: int) -> TokenScores:
        """Scores without any token."""
        places = (rows, max_new_tokens)
        several = (*places, min(LIKELIEST, vocab))
        return cls(jnp.zeros(places), jnp.zeros(several, jnp.int32), jnp.zeros(several))

    def with_token(
        self,
        index: Int[Array, ""],
        logits: Float[Array, "B V"],
        token: Int[Array, " B"],
        wanted: Bool[Array, ""],
    ) -> TokenScores:
        """These scores, and those of one more token of each row."""

        def scored() -> TokenScores:
            of_all = jnp.maximum(jax.nn.log_softmax(logits.astype(jnp.float32)), LEAST)
            of_likeliest, likeliest = jax.lax.top_k(of_all, self.likeliest.shape[-1])
            chosen = jnp.take_along_axis(of_all, token[:, None], axis=1)[:, 0]
            new = TokenScores(chosen, likeliest, of_likeliest)
            return TokenScores(*(old.at[:, index].set(each) for old, each in zip(self, new)))

        # Ranking the vocabulary takes long, and is left out where nobody asks for it.
        return jax.lax.cond(wanted, scored, lambda: self)
