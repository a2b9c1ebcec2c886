"""Observations of an environment, a Box or a Dict of Boxes, as one flat array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.spaces import Dict as DictSpace
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.values import NUMBERS, shown

__all__ = ["FlatObservations", "Part"]


@dataclass(frozen=True)
class Part:
    """A Box of an observation space.

    Attributes:
        keys: of the Dict spaces that it is in, from the outside in; empty for a Box on its own.
        space: the Box.
    """

    keys: tuple[str, ...]
    space: Box

    @property
    def name(self) -> str:
        """What messages call it."""
        return ".".join(self.keys)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.space.shape))


class FlatObservations:
    """From observations of a space to float64 [O], the parts of a Dict one after another in its own order.

    The order is that of `gymnasium.spaces.flatten` (a Dict made from a plain dictionary sorts its keys). Observations
    are read by their keys, whatever order they come in.

    Args:
        space: a Box of numbers, or a Dict of these, which may be nested.
        label: what messages call the environment.

    Raises:
        MetaMapError: another space, or no number at all.
    """

    def __init__(self, space: gym.Space[Any], label: str = "the environment") -> None:
        self.space = space
        self.parts = tuple(_parts(space, (), label))
        self.size = sum(part.size for part in self.parts)
        if not self.size:
            raise MetaMapError(f"{label}: expected observations of one number or more, got {space}")

    def __call__(self, observation: object) -> NDArray[np.float64]:
        """One observation, flat: [O], an array of its own.

        Raises:
            MetaMapError: it is not of the space; the message says what is wrong with "the observation".
        """
        if len(self.parts) == 1:
            found = _numbers(self.parts[0], _found(self.parts[0], observation))
            return np.array(found, dtype=np.float64).reshape(self.size)
        flat = [_numbers(part, _found(part, observation)).reshape(-1) for part in self.parts]
        return np.concatenate(flat, dtype=np.float64, casting="unsafe")

    def batch(self, observation: object) -> tuple[NDArray[Any], bool]:
        """One observation or N of them, each flat: [N, O]; also returns whether it was one.

        An array [O] or [N, O] is taken as flat already. Types are kept where all parts have one.

        Raises:
            MetaMapError: another shape or other keys.
        """
        if isinstance(observation, tuple):
            raise MetaMapError("observation: expected one observation, got a tuple (of reset()?)")
        if not isinstance(observation, Mapping) and self.is_dict:
            rows, single = _rows(Part((), Box(-np.inf, np.inf, (self.size,))), observation)
            return rows, single
        found = [_rows(part, _found(part, observation)) for part in self.parts]
        if len({(len(rows), single) for rows, single in found}) > 1:
            sizes = ", ".join(f"{part.name} {len(rows)}" for part, (rows, _) in zip(self.parts, found, strict=True))
            raise MetaMapError(f"observation: expected as many rows in each part, got {sizes}")
        return np.concatenate([rows for rows, _ in found], axis=1), found[0][1]

    @property
    def is_dict(self) -> bool:
        """Whether observations have keys."""
        return bool(self.parts[0].keys)

    def differences(self, other: FlatObservations) -> str:
        """What is different about the keys and shapes of another space, as a clause; "" if nothing is."""
        ours, theirs = ({part.name: part.space.shape for part in each.parts} for each in (self, other))
        if self.is_dict != other.is_dict:
            return f"are {other.space}, expected {self.space}"
        if ours.keys() != theirs.keys():
            return f"have the keys {_listed(theirs)}, expected {_listed(ours)}"
        for name, shape in ours.items():
            if theirs[name] != shape:
                return f"have shape {theirs[name]}{f' at {name!r}' if name else ''}, expected {shape}"
        return ""


def _parts(space: gym.Space[Any], keys: tuple[str, ...], label: str) -> Iterator[Part]:
    if isinstance(space, DictSpace):
        for key, inner in space.spaces.items():
            if not isinstance(key, str):
                raise MetaMapError(f"{label}: expected text as keys of its observations, got {key!r}")
            yield from _parts(inner, (*keys, key), label)
        return
    where = f" at {'.'.join(keys)!r}" if keys else ""
    if not isinstance(space, Box):
        raise MetaMapError(
            f"{label}: expected an observation space of type Box, or Dict of Boxes, got {space}{where}; register the "
            "environment with gymnasium.wrappers.FlattenObservation around it"
        )
    if space.dtype.kind not in NUMBERS:
        raise MetaMapError(f"{label}: expected observations of numbers, got {space}{where}")
    yield Part(keys, space)


def _found(part: Part, observation: object) -> object:
    """The value of a part in an observation."""
    value = observation
    for depth, key in enumerate(part.keys):
        if not isinstance(value, Mapping):
            raise MetaMapError(f"the observation expected a dictionary with the key {key!r}, got {shown(value)}")
        if key not in value:
            place = f" at {'.'.join(part.keys[:depth])!r}" if depth else ""
            raise MetaMapError(f"the observation has no key {key!r}{place}, it has {_listed(value)}")
        value = value[key]
    if isinstance(value, Mapping):
        raise MetaMapError(f"the observation expected an array, got a dictionary with {_listed(value)}")
    return value


def _numbers(part: Part, value: object) -> NDArray[Any]:
    """The array of a part, in the shape of its space."""
    where, shape = f" {part.name!r}" if part.keys else "", part.space.shape
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        raise MetaMapError(f"the observation{where} expected an array, got {shown(value)}") from None
    if array.dtype.kind not in NUMBERS:
        raise MetaMapError(f"the observation{where} expected numbers, got {shown(value)} of type {array.dtype}")
    if array.shape != shape and _without_ones(array.shape) != _without_ones(shape):
        raise MetaMapError(f"the observation{where} has shape {array.shape}, its observation space says {shape}")
    return array


def _rows(part: Part, value: object) -> tuple[NDArray[Any], bool]:
    """One value or N values of a part: [N, size], and whether it was one."""
    raw, shape = np.asarray(value), part.space.shape
    if raw.shape in (shape, (part.size,)):
        return raw.reshape(1, part.size), True
    if raw.ndim and raw.shape[1:] in (shape, (part.size,)):
        return raw.reshape(len(raw), part.size), False
    where = f" at {part.name!r}" if part.keys else ""
    raise MetaMapError(f"observation: expected shape {shape} or {('environments', *shape)}{where}, got {raw.shape}")


def _listed(keys: Mapping[Any, Any]) -> str:
    return ", ".join(repr(str(key)) for key in keys) or "none"


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)
