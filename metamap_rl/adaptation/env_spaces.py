"""Conversion of observations and actions between an environment and its declared family."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from annotated_types import MinLen
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.spaces import Dict as DictSpace
from numpy.typing import NDArray
from pydantic import ConfigDict

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_envs.family_spaces import actions_for, observations_for
from metamap_envs.flat_observations import FlatObservations
from metamap_envs.from_gymnasium.actions import CHOICES, ActionMap
from metamap_envs.registry import get_family
from metamap_envs.settings import STRICT, parse

__all__ = ["EnvSpaces"]


@dataclass(frozen=True)
class EnvSpaces:
    """Spaces of an environment that differ from the family's in shape, range or type.

    Attributes:
        observations: observation space, a Box or a Dict of Boxes; of a Dict with the keys in the family's order.
        actions: action space, a Box or one of choices.
    """

    observations: Box | DictSpace
    actions: Box | Discrete | MultiDiscrete | MultiBinary

    @classmethod
    def of(cls, env: gym.Env[Any, Any], family: str) -> EnvSpaces | None:
        """Spaces of an environment that matches the family; None if they equal the family's.

        Raises:
            MetaMapError: it does not match.
        """
        found = get_family(family)
        flat, take, given = observations_for(env, found), actions_for(env, found), env.action_space
        seen = flat.space if flat.is_dict else env.observation_space
        if take is None and seen.shape == (found.observation_size,):
            return None
        assert isinstance(seen, Box | DictSpace), "it fits"
        assert isinstance(given, (Box, *CHOICES)), "it fits"
        return cls(seen, given)

    def flat(self, observation: Any) -> tuple[NDArray[Any], bool]:
        """Flatten one observation or a batch to [N, O]; also returns whether it was one.

        Raises:
            MetaMapError: another shape, or other keys.
        """
        return self._flat.batch(observation)

    @cached_property
    def _flat(self) -> FlatObservations:
        return FlatObservations(self.observations)

    def taken(self, actions: NDArray[np.float32]) -> NDArray[Any]:
        """Convert actions [N, A] of the family to actions [N, ...] of the environment."""
        take = ActionMap(self.actions)
        return np.stack([np.asarray(take(action)) for action in actions])

    @property
    def are_plain(self) -> bool:
        """Whether both spaces are flat and of floats, as SB3's MlpPolicy requires."""
        both = (self.observations, self.actions)
        return all(isinstance(each, Box) and each.dtype.kind == "f" and len(each.shape) == 1 for each in both)

    def rescaled(
        self, spec: PolicySpec, phi: NDArray[Any], log_std: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], Box, Box]:
        """Weights [P] and noise [A] of a policy with the environment's actions, and its spaces."""
        assert isinstance(self.actions, Box), "of plain spaces"
        assert isinstance(self.observations, Box), "of plain spaces"
        low, high = self.actions.low.astype(np.float64), self.actions.high.astype(np.float64)
        middle, half = (low + high) / 2.0, (high - low) / 2.0
        parts, last = dict(spec.split(phi.astype(np.float64))), len(spec.layers) // 2 - 1
        weight, bias = f"layers.{last}.weight", f"layers.{last}.bias"
        parts[weight], parts[bias] = half[:, None] * parts[weight], middle + half * parts[bias]
        actions = Box(self.actions.low, self.actions.high, dtype=np.float32)
        noise = np.asarray(log_std + np.log(half), dtype=np.float32)
        return spec.join(parts).astype(np.float32), noise, self.observations, actions

    def to_json(self) -> dict[str, Any]:
        """JSON representation, without bounds of observations."""
        return {**self._observations_to_json(), **_actions_to_json(self.actions)}

    def _observations_to_json(self) -> dict[str, Any]:
        parts = [
            {"keys": list(part.keys), "shape": list(part.space.shape), "dtype": str(part.space.dtype)}
            for part in self._flat.parts
        ]
        if self._flat.is_dict:
            return {"observation_parts": parts}
        return {f"observation_{name}": parts[0][name] for name in ("shape", "dtype")}

    @classmethod
    def from_json(cls, document: Any) -> EnvSpaces:
        """Inverse of `to_json`.

        Raises:
            MetaMapError: the document is damaged.
        """
        read = parse(_Document, document, "spaces")
        try:
            seen, actions = _observations(read), _actions(read)
        except (TypeError, ValueError, AssertionError, OverflowError) as error:
            raise MetaMapError(f"spaces: {error}") from None
        ActionMap(actions, "spaces")
        return cls(seen, actions)


def _actions_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    if isinstance(space, Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
    about = {"shape": list(space.shape or ()), "dtype": str(space.dtype)}
    if isinstance(space, MultiBinary):
        return {"kind": "multi-binary", **about}
    names = {"kind": "multi-discrete", "counts": "nvec", "starts": "start"}
    if isinstance(space, Box):
        names = {"kind": "box", "low": "low", "high": "high"}
    kind = names.pop("kind")
    return {"kind": kind, **{name: np.ravel(getattr(space, of)).tolist() for name, of in names.items()}, **about}


def _actions(read: _Document) -> Box | Discrete | MultiDiscrete | MultiBinary:
    if read.kind == "discrete":
        return Discrete(read.n, start=read.start)
    if read.kind == "multi-binary":
        return MultiBinary(read.shape)
    names = ("counts", "starts") if read.kind == "multi-discrete" else ("low", "high")
    first, second = (np.array(getattr(read, name), dtype=read.dtype).reshape(read.shape) for name in names)
    if read.kind == "multi-discrete":
        return MultiDiscrete(first, dtype=first.dtype.type, start=second)
    return Box(first, second, dtype=first.dtype.type)


def _observations(read: _Document) -> Box | DictSpace:
    if not read.observation_parts:
        return _unbounded(read.observation_shape, np.dtype(read.observation_dtype))
    nested: dict[str, Any] = {}
    for part in read.observation_parts:
        place = nested
        for key in part.keys[:-1]:
            place = place.setdefault(key, {})
        place[part.keys[-1]] = _unbounded(part.shape, np.dtype(part.dtype))
    return _dict_of(nested)


def _dict_of(nested: dict[str, Any]) -> DictSpace:
    """A Dict space in the order of the keys."""
    spaces = {key: _dict_of(value) if isinstance(value, dict) else value for key, value in nested.items()}
    return DictSpace(spaces, sort_keys=False)


def _unbounded(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Box:
    """Observation space of a type, with its widest bounds."""
    if dtype.kind == "f":
        return Box(-np.inf, np.inf, shape, dtype.type)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return Box(low, high, shape, dtype.type)


@dataclass(frozen=True)
class _Part:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    keys: Annotated[tuple[str, ...], MinLen(1)]
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class _Document:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["box", "discrete", "multi-discrete", "multi-binary"]
    observation_shape: tuple[int, ...] = ()
    observation_dtype: str = "float64"
    observation_parts: tuple[_Part, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    n: int = 2
    start: int = 0
