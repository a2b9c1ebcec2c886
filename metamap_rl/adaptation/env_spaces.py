"""Conversion of observations and actions between an environment and its declared family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from pydantic import ConfigDict

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError
from metamap_envs.family_spaces import actions_for
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.registry import get_family
from metamap_envs.settings import STRICT, parse

__all__ = ["EnvSpaces"]


@dataclass(frozen=True)
class EnvSpaces:
    """Spaces of an environment that differ from the family's in shape, range or type.

    Attributes:
        observations: observation space.
        actions: action space.
    """

    observations: Box
    actions: Box | Discrete

    @classmethod
    def of(cls, env: gym.Env[Any, Any], family: str) -> EnvSpaces | None:
        """Spaces of an environment that matches the family; None if they equal the family's.

        Raises:
            MetaMapError: it does not match.
        """
        found = get_family(family)
        take, seen, given = actions_for(env, found), env.observation_space, env.action_space
        if take is None and seen.shape == (found.observation_size,):
            return None
        assert isinstance(seen, Box), "it fits"
        assert isinstance(given, Box | Discrete), "it fits"
        return cls(seen, given)

    def flat(self, observation: Any) -> tuple[NDArray[Any], bool]:
        """Flatten one observation or a batch to [N, O]; also returns whether it was one.

        Raises:
            MetaMapError: another shape.
        """
        if isinstance(observation, tuple | dict):
            raise MetaMapError(f"observation: expected one array, got a {type(observation).__name__} (of reset()?)")
        raw, shape = np.asarray(observation), self.observations.shape
        size = int(np.prod(shape))
        if raw.shape in (shape, (size,)):
            return raw.reshape(1, size), True
        if raw.ndim and raw.shape[1:] in (shape, (size,)):
            return raw.reshape(len(raw), size), False
        raise MetaMapError(f"observation: expected shape {shape} or {('environments', *shape)}, got {raw.shape}")

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
        seen = {"observation_shape": list(self.observations.shape), "observation_dtype": str(self.observations.dtype)}
        if isinstance(self.actions, Discrete):
            return {**seen, "kind": "discrete", "n": int(self.actions.n), "start": int(self.actions.start)}
        ends = {name: np.ravel(getattr(self.actions, name)).tolist() for name in ("low", "high")}
        return {
            **seen,
            "kind": "box",
            **ends,
            "shape": list(self.actions.shape),
            "dtype": str(self.actions.dtype),
        }

    @classmethod
    def from_json(cls, document: Any) -> EnvSpaces:
        """Inverse of `to_json`.

        Raises:
            MetaMapError: the document is damaged.
        """
        read = parse(_Document, document, "spaces")
        try:
            seen = _unbounded(read.observation_shape, np.dtype(read.observation_dtype))
            if read.kind == "discrete":
                return cls(seen, Discrete(read.n, start=read.start))
            low, high = (np.array(end, dtype=read.dtype).reshape(read.shape) for end in (read.low, read.high))
            actions = Box(low, high, dtype=low.dtype.type)
        except (TypeError, ValueError, AssertionError, OverflowError) as error:
            raise MetaMapError(f"spaces: {error}") from None
        ActionMap(actions, "spaces")
        return cls(seen, actions)


def _unbounded(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Box:
    """Observation space of a type, with its widest bounds."""
    if dtype.kind == "f":
        return Box(-np.inf, np.inf, shape, dtype.type)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return Box(low, high, shape, dtype.type)


@dataclass(frozen=True)
class _Document:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    observation_shape: tuple[int, ...]
    observation_dtype: str
    kind: Literal["box", "discrete"]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    n: int = 2
    start: int = 0
