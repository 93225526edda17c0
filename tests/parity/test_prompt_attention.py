"""What attention looks at equals the weights that transformers gives, in every family."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from golden import kept, tiny
from golden.inputs import INDEX, SEEN, prompts

from mpt.insight.attention import prompt_mass
from mpt.loading.hf import load_pretrained


@pytest.mark.parametrize("family", [*tiny.DECODERS, *tiny.ENCODER_DECODERS])
def test_attention_to_the_prompt(family, compare, tmp_path):
    """Of all rows at once: a window may hide the prompt from one of them."""
    backbone = load_pretrained(str(tiny.save(family, tmp_path))).backbone
    found = prompt_mass(backbone, tiny.collate(SEEN, INDEX, backbone.layout), jnp.asarray(prompts(2)))
    wanted = kept("attention", family)
    assert set(found) == set(wanted) == ({"labels"} if family in tiny.DECODERS else {"text", "labels"})
    for part in found:
        compare(family, "attention", found[part], wanted[part])


def test_a_decoders_own_part_of_a_prompt(compare, tmp_path):
    """Its first vectors are what the decoder reads before its own text."""
    backbone = load_pretrained(str(tiny.save("t5-1.0", tmp_path)), decoder_prompt=1).backbone
    found = prompt_mass(backbone, tiny.collate(SEEN[:1], [0], backbone.layout), jnp.asarray(prompts(2)))
    for part, wanted in kept("attention_of_both_sides", "t5-1.0").items():
        compare("t5-1.0", "attention", found[part][:, 0], wanted)
