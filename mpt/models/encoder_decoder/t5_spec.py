"""The dimensions and choices in which T5 models differ, and the weights that follow from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class T5Spec:
    """The dimensions and choices in which T5 models differ.

    Attributes:
        vocab: tokens; with the next six, the sizes of the package's legend.
        activation: that of the feed-forward.
        gated: the activation multiplies a second projection (T5 1.1).
        buckets: number of buckets of relative positions.
        max_distance: distances beyond it share one bucket.
        bias_everywhere: each layer has its own table of relative positions (UMT5).
        logit_scale: factor on the final hidden states before the head.
        tied: the embedding table is the output head.
        start_token: the token in front of the decoder's first target.
        decoder_prompt: how many of a prompt's last vectors stand in front of the decoder's text instead.
    """

    vocab: int
    d_model: int
    layers: int
    decoder_layers: int
    heads: int
    head_dim: int
    d_ff: int
    activation: str
    gated: bool
    buckets: int
    max_distance: int
    bias_everywhere: bool
    norm_eps: float
    logit_scale: float
    tied: bool
    start_token: int = 0
    decoder_prompt: int = 0

    @property
    def longest(self) -> int:
        """Positions are relative, and there is no bound to them."""
        return 0

    @property
    def target_table(self) -> str:
        """The decoder's table of embeddings."""
        return "embedding"

    @property
    def stacks(self) -> dict[str, T5Spec]:
        """The stacks of layers, by the names of the backbone's attributes."""
        return {"encoder": self, "decoder": self}

    def sizes(self) -> dict[str, int]:
        """The length of each logical axis; the number of layers is the encoder's."""
        return {
            "vocab": self.vocab,
            "embed": self.d_model,
            "layer": self.layers,
            "heads": self.heads,
            "head_dim": self.head_dim,
            "mlp": self.d_ff,
            "bucket": self.buckets,
        }

    def end_parts(self) -> dict[str, str]:
        """The weights outside the layers, with their logical axes."""
        parts = {"embedding": "vocab embed", "encoder_norm": "embed", "decoder_norm": "embed"}
        if not self.bias_everywhere:
            parts |= {"encoder_bias": "bucket heads", "decoder_bias": "bucket heads"}
        if not self.tied:
            parts["head"] = "vocab embed"
        return parts

    def layer_parts(self) -> dict[str, str]:
        """The weights of the encoder's layers, stacked along their first axis, with their logical axes."""
        parts = attention_parts("") | {"mlp_norm": "embed", "up": "embed mlp", "down": "mlp embed"}
        if self.gated:
            parts["gate"] = "embed mlp"
        if self.bias_everywhere:
            parts["bias"] = "bucket heads"
        return {name: f"layer {axes}" for name, axes in parts.items()}

    def decoder_layer_parts(self) -> dict[str, str]:
        """The weights of the decoder's layers: those of an encoder's, and of the cross-attention."""
        cross = {name: f"layer {axes}" for name, axes in attention_parts("cross_").items()}
        return self.layer_parts() | cross


def attention_parts(prefix: str) -> dict[str, str]:
    """The weights of one attention with their logical axes; ``prefix`` begins their names."""
    projection = "embed heads head_dim"
    parts = {
        "norm": "embed",
        "q": projection,
        "k": projection,
        "v": projection,
        "out": "heads head_dim embed",
    }
    return {prefix + name: axes for name, axes in parts.items()}
