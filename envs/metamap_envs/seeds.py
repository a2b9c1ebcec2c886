"""Seeds as users give them: whole numbers of any library."""

from __future__ import annotations

import operator
from typing import SupportsIndex

from metamap_envs.errors import MetaMapError

__all__ = ["LARGEST_SEED", "read_seed"]

LARGEST_SEED = 2**32 - 1
"""What NumPy's and Stable-Baselines3's global generators take."""


def read_seed(seed: object, what: str = "seed", *, largest: int | None = LARGEST_SEED) -> int:
    """A seed as Python's own integer.

    Args:
        seed: an integer of Python, NumPy, torch or any other library with ``__index__``, also as an array of one number
            without axes; no bool.
        what: what the error calls it.
        largest: the largest that is taken; None for any.

    Raises:
        MetaMapError: no integer, or not in [0, ``largest``].
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
