"""What conftest.py sets holds: nothing is broadcast or cast untold, and the warnings of mpt are errors."""

import warnings

import jax.numpy as jnp
import pytest
from jax.dtypes import TypePromotionError


def test_ranks_are_not_promoted():
    with pytest.raises(ValueError, match="jax_numpy_rank_promotion"):
        _ = jnp.ones((2, 3)) + jnp.ones(3)


def test_types_are_not_promoted():
    with pytest.raises(TypePromotionError):
        _ = jnp.ones(3) + jnp.arange(3)


def test_a_warning_of_mpt_is_an_error():
    with pytest.raises(DeprecationWarning):
        warnings.warn_explicit("old", DeprecationWarning, "train.py", 1, module="mpt.training.loop")
