"""Validation of seeds: integers of any library."""

from __future__ import annotations

import operator
from typing import SupportsIndex

from metamap_envs.errors import MetaMapError

__all__ = ["LARGEST_SEED", "read_seed"]

LARGEST_SEED = 2**32 - 1
"""The largest seed of NumPy's and Stable-Baselines3's global generators."""


def read_seed(seed: object, what: str = "seed", *, largest: int | None = LARGEST_SEED) -> int:
    """A seed as Python's own integer.

    Args:
        seed: an integer of Python, NumPy, torch or any other library with ``__index__``, also as a 0-d
            array; not a bool.
        what: its name in the error.
        largest: the largest valid seed; None for no limit.

    Raises:
        MetaMapError: not an integer in [0, ``largest``].
    """
    bound = "of at least 0" if largest is None else f"in [0, {largest}]"
    kind = str(getattr(seed, "dtype", type(seed).__name__)).removeprefix("torch.")
    if isinstance(seed, SupportsIndex) and kind != "bool":
        try:
            number = operator.index(seed)
        except TypeError:  # an array or tensor that is none
            number = -1
        if number >= 0 and (largest is None or number <= largest):
            return number
    raise MetaMapError(f"{what}: expected an integer {bound}, got {seed!r}")
