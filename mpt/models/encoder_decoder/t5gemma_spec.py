"""The dimensions and choices in which T5Gemma models differ: an encoder and a decoder of Gemma's layers."""

from __future__ import annotations

from dataclasses import dataclass

from mpt.errors import UserError
from mpt.models.decoder_spec import DecoderSpec


@dataclass(frozen=True)
class T5GemmaSpec:
    """The dimensions and choices in which T5Gemma models differ.

    Attributes:
        encoder: the spec of the encoder's layers.
        decoder: that of the decoder's, whose ``tied`` and ``logit_cap`` are the model's.
        own_table: the decoder has a table of embeddings of its own.
        merged: the decoder attends to its own positions and to the encoder's output in one softmax, with the
            same matrices (T5Gemma 2); else in two attentions.
        image_end: the token that has an embedding of its own in place of the table's row; None: none has.
        start_token: the token in front of the decoder's first target.
        decoder_prompt: how many of a prompt's last vectors stand in front of the decoder's text instead.
    """

    encoder: DecoderSpec
    decoder: DecoderSpec
    own_table: bool
    merged: bool
    image_end: int | None
    start_token: int
    decoder_prompt: int = 0

    def __post_init__(self):
        if self.decoder_prompt and self.encoder.d_model != self.decoder.d_model:
            raise UserError(
                f"model.decoder_prompt: the decoder's vectors have {self.decoder.d_model} numbers and the "
                f"encoder's {self.encoder.d_model}, so that a prompt cannot go to both; leave it out"
            )

    @property
    def stacks(self) -> dict[str, DecoderSpec]:
        """The stacks of layers, by the names of the backbone's attributes."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    @property
    def vocab(self) -> int:
        """Tokens."""
        return self.decoder.vocab

    @property
    def d_model(self) -> int:
        """The width of the encoder, whose text a prompt stands in front of."""
        return self.encoder.d_model

    @property
    def layers(self) -> int:
        """Layers of the encoder."""
        return self.encoder.layers

    @property
    def decoder_layers(self) -> int:
        """Layers of the decoder."""
        return self.decoder.layers

    @property
    def longest(self) -> int:
        """The number of positions beyond which no text may go; 0 where there is no such bound."""
        return self.encoder.longest

    @property
    def logit_scale(self) -> float:
        """Factor on the logits."""
        return self.decoder.logit_scale

    @property
    def tied(self) -> bool:
        """The decoder's table is the output head."""
        return self.decoder.tied

    @property
    def target_table(self) -> str:
        """The decoder's table of embeddings."""
        return "decoder_embedding" if self.own_table else "embedding"

    def encoder_ends(self) -> dict[str, str]:
        """The weights outside the layers, with their logical axes: those of the encoder's width."""
        parts = {"embedding": "vocab embed", "encoder_norm": "embed"}
        return parts | ({} if self.image_end is None else {"image_end": "embed"})

    def decoder_ends(self) -> dict[str, str]:
        """Those of the decoder's width."""
        parts = {"decoder_norm": "embed"}
        if self.own_table:
            parts["decoder_embedding"] = "vocab embed"
        return parts if self.tied else parts | {"head": "vocab embed"}
