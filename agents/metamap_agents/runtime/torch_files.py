"""Files of ``torch.save`` from elsewhere, of which tensors are read and nothing is run."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
import zlib
from typing import Any

import torch

from metamap_envs.errors import MetaMapError

__all__ = ["BROKEN", "LARGEST_FILE", "load_state_dict", "load_state_dicts"]

BROKEN = (
    *(pickle.UnpicklingError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error),
    *(ValueError, TypeError, AttributeError, AssertionError, LookupError, ArithmeticError, MemoryError),
)
"""What zipfile and a restricted unpickler raise on bytes that are broken in one way or another."""

LARGEST_FILE = 256 * 1024**2
"""Bytes of a policy; an entry of a zip says its own size, and a hostile one says it wants all memory."""


def load_state_dict(content: bytes, what: str) -> dict[Any, torch.Tensor]:
    """The dictionary of tensors of floats that ``torch.save`` wrote.

    Args:
        content: of the file.
        what: its name, put in front of the errors.

    Raises:
        MetaMapError: broken, another content, or numbers that are not finite.
    """
    state = _load(content, what)
    if not isinstance(state, dict) or not all(map(_is_plain, state.values())):
        raise MetaMapError(f"{what}: expected a dictionary of tensors of floats")
    return _checked(state, what)


def load_state_dicts(content: bytes, what: str) -> tuple[dict[Any, torch.Tensor], ...]:
    """The dictionaries of tensors of floats, one or a tuple of several, that ``torch.save`` wrote.

    Raises:
        MetaMapError: see `load_state_dict`.
    """
    found = _load(content, what)
    states = tuple(found) if isinstance(found, tuple | list) else (found,)
    if not states or not all(isinstance(one, dict) and one and all(map(_is_plain, one.values())) for one in states):
        raise MetaMapError(f"{what}: expected the state_dict of a policy, a dictionary of tensors of floats")
    return tuple(_checked(one, what) for one in states)


def _load(content: bytes, what: str) -> Any:
    _refuse_bombs(content, what)
    try:
        with warnings.catch_warnings(action="ignore"):  # of old files, and of files that are refused below anyway
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except BROKEN as error:
        # PyTorch's own message tells how to switch the protection off; that is not repeated here.
        raise MetaMapError(f"{what}: expected tensors, it is broken or holds something else") from error


def _refuse_bombs(content: bytes, what: str) -> None:
    """Refuse a file that unpacks to more than `LARGEST_FILE`: PyTorch's own files are zips, which it does not pack."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except BROKEN:
        return  # an older format of PyTorch, or broken: told by PyTorch itself
    if size > LARGEST_FILE:
        raise MetaMapError(f"{what} unpacks to more than {LARGEST_FILE} bytes: not a policy of this kind")


def _checked(state: dict[Any, torch.Tensor], what: str) -> dict[Any, torch.Tensor]:
    for name, tensor in state.items():
        if tensor.nbytes > tensor.untyped_storage().nbytes():  # strides of 0 make any size of a few numbers
            raise MetaMapError(f"{what}: {name}: expected {tensor.numel()} numbers, file has fewer")
        if not tensor.isfinite().all():
            raise MetaMapError(f"{what}: {name}: expected finite numbers")
    return state


def _is_plain(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.layout == torch.strided
