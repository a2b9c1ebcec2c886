"""Vectors of environments, of Gymnasium or Stable-Baselines3, as the one environment that D is collected in."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import iterate

from metamap_envs.errors import MetaMapError
from metamap_rl.adaptation.wrappers import Alteration, alterations, normalises

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

__all__ = ["VectorView", "alterations_of", "as_env"]

_HARMLESS = ("RecordEpisodeStatistics", "VecCheckNan", "VecMonitor", "VecVideoRecorder")


class VectorView(gym.Env[Any, Any]):
    """The first of several environments, which all have one task and take the same actions.

    Attributes:
        inner: the first environment itself, for a look at its wrappers; None if it is in another process.
        layers: the vector and its wrappers, the outermost first.
    """

    inner: gym.Env[Any, Any] | None = None
    layers: Sequence[Any] = ()

    def alterations(self) -> tuple[Alteration, ...]:
        """Wrappers of the vector that alter rewards or observations, the innermost first."""
        found = (_alteration(layer) for layer in reversed(self.layers[:-1]))
        return tuple(one for one in found if one is not None)


class _OfGymnasium(VectorView):
    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        self.envs, self.layers = envs, [*_layers(envs, "env")]
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space
        self.spec = envs.spec
        self.inner = _first_inside(envs.unwrapped)
        _check_tasks(list(getattr(envs.unwrapped, "tasks", ())) or _tasks(envs.unwrapped))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        seeds: Any = None if seed is None else [seed] * self.envs.num_envs
        observations, _ = self.envs.reset(seed=seeds, options=options)
        return self._first(observations), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        actions = np.stack([np.asarray(action)] * self.envs.num_envs)
        observations, rewards, terminated, truncated, infos = self.envs.step(actions)
        last = infos.get("final_obs")
        ended = bool(terminated[0] or truncated[0])
        seen = last[0] if ended and last is not None and last[0] is not None else self._first(observations)
        return seen, rewards[0], terminated[0], truncated[0], {}

    def _first(self, observations: Any) -> Any:
        return next(iter(iterate(self.envs.observation_space, observations)))


class _OfSB3(VectorView):
    def __init__(self, envs: VecEnv) -> None:
        self.envs, self.layers = envs, [*_layers(envs, "venv")]
        self.observation_space, self.action_space = envs.observation_space, envs.action_space
        self.inner = _first_inside(self.layers[-1])
        self.spec = None if self.inner is None else self.inner.spec
        try:
            tasks = envs.get_attr("task")
        except AttributeError:  # not of this package
            tasks = []
        _check_tasks(tasks)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.envs.seed(seed)
        return _first_row(self.envs.reset()), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        actions = np.stack([np.asarray(action)] * self.envs.num_envs)
        observations, rewards, dones, infos = self.envs.step(actions)
        ended, info = bool(dones[0]), infos[0]
        truncated = ended and bool(info.get("TimeLimit.truncated", False))
        seen = info["terminal_observation"] if ended else _first_row(observations)
        return seen, float(rewards[0]), ended and not truncated, truncated, {}


def as_env(source: object) -> gym.Env[Any, Any] | None:
    """An environment as it is, a vector of Gymnasium or Stable-Baselines3 as a `VectorView`; None for anything else.

    Raises:
        MetaMapError: a vector whose environments have different tasks.
    """
    if isinstance(source, gym.Env):
        return source
    if isinstance(source, VectorEnv):
        return _OfGymnasium(source)
    if "stable_baselines3" in sys.modules:  # where it was not imported, nothing is a VecEnv
        from stable_baselines3.common.vec_env import VecEnv

        if isinstance(source, VecEnv):
            return _OfSB3(source)
    return None


def alterations_of(env: gym.Env[Any, Any], family: str) -> tuple[Alteration, ...]:
    """`alterations`, also of the wrappers of a vector."""
    if not isinstance(env, VectorView):
        return alterations(env, family)
    inside = () if env.inner is None else alterations(env.inner, family)
    return (*inside, *env.alterations())


def _layers(envs: Any, below: str) -> Iterator[Any]:
    yield envs
    while isinstance(envs, VectorWrapper) or hasattr(envs, "venv"):
        envs = getattr(envs, below)
        yield envs


def _first_inside(envs: Any) -> gym.Env[Any, Any] | None:
    """The first environment of a vector in this process."""
    inside = getattr(envs, "envs", None)
    first = inside[0] if isinstance(inside, list | tuple) and inside else None
    return first if isinstance(first, gym.Env) else None


def _tasks(envs: Any) -> list[Any]:
    inside = getattr(envs, "envs", ())
    found = [getattr(env.unwrapped, "task", None) for env in inside if isinstance(env, gym.Env)]
    return [task for task in found if task is not None]


def _check_tasks(tasks: Sequence[Any]) -> None:
    """Refuse environments that are known to have different tasks: one policy cannot be meant for all of them."""
    for index, task in enumerate(tasks):
        if task != tasks[0]:
            raise MetaMapError(
                f"adapt: expected environments of one task, the tasks of environments 0 and {index} differ: adapt to "
                "each of them on its own"
            )


def _first_row(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: value[0] for key, value in observations.items()}
    return observations[0]


def _alteration(layer: Any) -> Alteration | None:
    """What a wrapper of a vector alters, as far as its class tells."""
    name = type(layer).__name__
    if name in _HARMLESS:
        return None
    known = [
        what
        for what, one, sb3 in (("rewards", "Reward", "norm_reward"), ("observations", "Observation", "norm_obs"))
        if normalises(layer, one) or (name == "VecNormalize" and getattr(layer, sb3))
    ]
    if name == "VecNormalize" and not known:
        return None
    drifts = bool(getattr(layer, "training", True) and getattr(layer, "update_running_mean", True))
    if known:
        return Alteration(name, " and ".join(known), drifts=drifts)
    return Alteration(name, "rewards and observations", certain=False)
