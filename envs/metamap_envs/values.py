"""Reading of numbers, flags and arrays, as environments return them or a robot's control loop hands them over."""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError

__all__ = ["NUMBERS", "one_flag", "one_number", "read_flags", "read_numbers", "read_whole", "shown"]

NUMBERS = "biuf"
"""Kinds of NumPy types that are numbers."""


def one_number(what: str, value: object) -> float:
    """A number, also as an array of one, as Python's own; beyond float it is infinite.

    Raises:
        MetaMapError: it is none.
    """
    if isinstance(value, float | int):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        array = np.empty(0)
    if array.size != 1 or array.dtype.kind not in NUMBERS:
        raise MetaMapError(f"{what}: expected one number, got {shown(value)}")
    return float(array.reshape(())[()])


def one_flag(what: str, value: object) -> bool:
    """A flag, also as 0 or 1 or an array of one, as Python's own.

    Raises:
        MetaMapError: it is none.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    try:
        number = one_number(what, value)
    except MetaMapError:
        number = math.nan
    if number not in (0.0, 1.0):
        raise MetaMapError(f"{what}: expected True or False, got {shown(value)}")
    return bool(number)


def read_whole(what: str, value: object, least: int = 0) -> int:
    """An integer of any library, not a bool, as Python's own.

    Raises:
        MetaMapError: it is none, or less than ``least``.
    """
    try:
        number = None if "bool" in type(value).__name__ else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        raise MetaMapError(f"{what}: expected a whole number, got {shown(value)}")
    if number < least:
        raise MetaMapError(f"{what}: expected at least {least}, got {number}")
    return number


def read_numbers(what: str, values: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An own copy of an array of numbers as float32. NaN stays; masked values are NaN, those beyond float32 infinite.

    Args:
        what: its name in the error.
        values: of NumPy, torch, or nested lists.
        shape: expected.

    Raises:
        MetaMapError: another shape, or no numbers.
    """
    array = _array(values)
    if array is None or array.dtype.kind not in NUMBERS:
        hint = " (of reset()?)" if isinstance(values, tuple) and array is None else ""
        raise MetaMapError(f"{what}: expected numbers of shape {shape}, got {shown(values)}{hint}")
    if array.shape != shape:
        raise MetaMapError(f"{what}: expected shape {shape}, got {array.shape}")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def read_flags(what: str, values: object, count: int) -> NDArray[np.bool_]:
    """Flags, bool [N], also given as 0 and 1.

    Raises:
        MetaMapError: another shape, or something else than flags.
    """
    array = _array(values)
    if array is None or array.dtype.kind not in NUMBERS or not np.isin(array, (0, 1)).all():
        raise MetaMapError(f"{what}: expected bool of shape ({count},), got {shown(values)}")
    if array.shape != (count,):
        raise MetaMapError(f"{what}: expected shape ({count},), got {array.shape}")
    return array.astype(np.bool_)


def _array(values: object) -> NDArray[np.generic] | None:
    """Values as an array; None if they have no common shape."""
    if hasattr(values, "detach"):  # a tensor of torch, perhaps with a gradient or on another device
        values = values.detach().cpu()
    try:
        if isinstance(values, np.ma.MaskedArray):
            values = np.ma.filled(values.astype(np.float64), np.nan)
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        return None


def shown(value: object) -> str:
    """A value of any kind, short, on one line."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} of {value.dtype}"
    text = " ".join(repr(value).split())
    return f"{text[:57]}..." if len(text) > 60 else text
