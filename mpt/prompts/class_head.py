"""A prompt with a class head: linear maps from the backbone's final states to the scores of the classes.

The head starts as the output embeddings of the class words, so that an untrained head gives the words'
scores; the trained parameters are added to them. Its inputs are two hidden states of a text: the last one,
from which the model would predict the next token, and the mean over the input. It takes one forward pass per
text, however many classes there are and however long their words.

Linear probes may be added to it; they need a second forward pass, without the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from mpt.data.stored import StoredRows
from mpt.models.backbone import Backbone
from mpt.models.layers import Weight
from mpt.prompts.pooled import bare_states, mean_state
from mpt.prompts.prefix import PlainPrompt, Prefix
from mpt.prompts.saved import saved_as
from mpt.prompts.soft import PromptParam, SoftPrompt
from mpt.prompts.universal_prefix import UniversalPrefix
from mpt.types import Batch, Output, Row

Front = PlainPrompt | UniversalPrefix  # the prompts that can have a class head


@saved_as("class head")
class HeadedPrompt(nnx.Module):
    """Score of class c: x·(w_c + a_c) + m·b_c + s_c + Σ_i q_i·p_ic.

    x is the last hidden state of a text and m the mean one; q_i are hidden states without the prompt, see
    ``mpt.prompts.pooled.bare_states``.

    Args:
        classes: w, the frozen output embedding of each class, [J, C, D].
        last: a, trained, [J, C, D].
        mean: b, trained, [J, C, D].
        bias: s, trained, [J, C].
        layer: the layer before which the prompts enter.
        probe: p, fitted after training, [J, C, 3, D]; None: texts are not processed without the prompt.
        prompt: the prompts: ``vectors`` [J, P, D], or the ``keys``, ``values`` and ``words`` of a universal
            prefix.
    """

    def __init__(
        self,
        classes: Float[Array, "J C D"],
        last: Float[Array, "J C D"],
        mean: Float[Array, "J C D"],
        bias: Float[Array, "J C"],
        layer: int = 0,
        probe: Float[Array, "J C 3 D"] | None = None,
        **prompt: Float[Array, "#J ..."],
    ):
        plain = "vectors" in prompt
        self.prompt: Front = SoftPrompt(**prompt, layer=layer) if plain else UniversalPrefix(**prompt)
        self.layer = layer
        self.classes = Weight(classes)
        self.last, self.mean, self.bias = (PromptParam(x, group="weights") for x in (last, mean, bias))
        self.probe = None if probe is None else Weight(probe)

    @classmethod
    def start(cls, prompt: Front, classes: Float[Array, "J C D"]) -> HeadedPrompt:
        """A prompt whose head gives the scores of the class words."""
        zeros = jnp.zeros_like(classes)
        headed = cls(classes, zeros, zeros, zeros[..., 0], prompt.layer, **tensors(prompt))
        headed.prompt = prompt
        return headed

    def composed(self) -> HeadedPrompt:
        """The same with plain vectors in place of their components."""
        return self.rescored(1.0, 0.0)

    def rescored(
        self, scale: float, shift: Float[ArrayLike, "*C"], probe: Float[ArrayLike, "C 3 D"] | None = None
    ) -> HeadedPrompt:
        """The same with plain vectors, scores multiplied by ``scale`` plus ``shift``, and probes.

        Args:
            probe: added to every prompt's scores, not scaled; with None, existing probes are scaled.
        """
        classes, last, mean, bias = (
            scale * part[...] for part in (self.classes, self.last, self.mean, self.bias)
        )
        bias = bias + jnp.broadcast_to(jnp.asarray(shift, jnp.float32), bias.shape)
        if probe is None:
            probes = None if self.probe is None else scale * self.probe[...]
        else:
            probes = jnp.broadcast_to(jnp.asarray(probe, jnp.float32), (len(bias), *np.shape(probe)))
        return HeadedPrompt(classes, last, mean, bias, self.layer, probes, **tensors(self.prompt))

    @classmethod
    def side_by_side(cls, prompts: Sequence[HeadedPrompt], indices: Sequence[int]) -> HeadedPrompt:
        """Combines one prompt of each of several plain ones, which must have the same length and layer, and
        either all or none of them probes.

        Args:
            indices: the index of the prompt of each. Prompts with fewer classes are padded with zeros.
        """
        width = max(prompt.bias.shape[1] for prompt in prompts)

        def stacked(part: str) -> Array:
            taken = [getattr(prompt, part)[...][index] for prompt, index in zip(prompts, indices)]
            return jnp.stack([jnp.pad(x, [(0, width - len(x)), *[(0, 0)] * (x.ndim - 1)]) for x in taken])

        vectors = jnp.stack(
            [tensors(prompt.prompt)["vectors"][index] for prompt, index in zip(prompts, indices)]
        )
        head = {part: stacked(part) for part in ("classes", "last", "mean", "bias")}
        probe = None if prompts[0].probe is None else stacked("probe")
        return cls(**head, layer=prompts[0].layer, probe=probe, vectors=vectors)

    def prefix(self, batch: Batch, backbone: Backbone) -> Prefix:
        return self.prompt.prefix(batch, backbone)

    def extent(self, rows: int) -> tuple[int, int]:
        return self.prompt.extent(rows)

    def class_scores(self, batch: Batch, output: Output, backbone: Backbone) -> Float[Array, "B C"]:
        """The score of each class of each row; -inf beyond a row's last."""
        assert batch.classes is not None and output.roots is not None
        last, mean = output.roots.astype(jnp.float32), mean_state(batch, output.hidden[0], backbone)
        index, real = batch.prompt_index, batch.classes.real
        scores = (
            jnp.einsum("bd,bcd->bc", last, (self.classes[...] + self.last[...])[index])
            + jnp.einsum("bd,bcd->bc", mean, self.mean[...][index])
            + self.bias[...][index]
        )
        if self.probe is not None:
            bare = bare_states(batch, backbone)
            scores = scores + jnp.einsum("bsd,bcsd->bc", bare, self.probe[...][index])
        padding = ((0, 0), (0, real.shape[1] - scores.shape[1]))
        return jnp.where(real, jnp.pad(scores, padding), -jnp.inf)


def tensors(prompt: Front) -> dict[str, Array]:
    """The arrays of a prompt by their names: plain vectors, composed, or a prefix."""
    if isinstance(prompt, PlainPrompt):
        return {"vectors": prompt.compose()}
    return {"keys": prompt.keys[...], "values": prompt.values[...], "words": prompt.words[...]}


def in_front(prompt: object) -> object:
    """The prompt before texts: for a prompt with a class head, its vectors without the head."""
    return prompt.prompt if isinstance(prompt, HeadedPrompt) else prompt


def headed(prompt: object, rows: Sequence[Row]) -> Sequence[Row]:
    """Rows as a prompt needs them: without the class words, if it has a class head."""
    if not isinstance(prompt, HeadedPrompt):
        return rows
    return rows.without_words() if isinstance(rows, StoredRows) else [row.without_words() for row in rows]
