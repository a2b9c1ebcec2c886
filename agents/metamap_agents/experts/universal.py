"""The parent policy of a family: one policy from which experts are made, told what distinguishes their tasks.

Experts that are trained one by one end in different gaits, and then phi* is no function of the task that a mapper could
learn from a few dozen examples. A parent is trained once, over the whole family, with some of a task's coordinates
beside its observations. For one task those inputs are constant and go into the bias of its first layer: what is
left is an ordinary policy of the family's shape, and its weights are a function of the task by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.task import Task

__all__ = ["Parent", "ToldVecEnv", "coordinate_columns", "coordinate_scales", "untold"]

_CRITIC = "critic."


@dataclass(frozen=True, eq=False)
class Parent:
    """One policy for a whole family that is told K coordinates of the task beside the O observations.

    Raises:
        MetaMapError: arrays that do not fit together, a told parameter that is none of the family's, or a value that is
            not finite.
    """

    family: str
    """Name of the family."""
    told: tuple[str, ...]
    """The parameters whose coordinates it is told; with none it is an ordinary policy, and K = 0."""
    spec: PolicySpec
    """Shape of the actor, with O + K inputs: normalised observations, then standardised coordinates."""
    phi: NDArray[np.float32]
    """Weights of the actor."""
    mean: NDArray[np.float32]
    """Of the coordinates over training tasks [K]."""
    std: NDArray[np.float32]
    """Of the coordinates over training tasks [K]; what is 0 never varied there, and is not told of any task."""
    critic: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Weights of the value network, told likewise; may be empty."""
    record: dict[str, Any] = field(default_factory=dict)
    """How it was trained, as plain JSON values."""

    def __post_init__(self) -> None:
        columns = coordinate_columns(get_family(self.family), self.told)
        shapes: dict[str, tuple[int, ...]] = {"phi": (self.spec.size,), "mean": (len(columns),), "std": (len(columns),)}
        check_arrays({"phi": self.phi, "mean": self.mean, "std": self.std}, shapes, "parent policy")
        for name, array in self.to_arrays().items():
            if not np.isfinite(array).all():
                raise MetaMapError(f"parent policy: {name} holds values that are not finite")

    def coordinates(self, tasks: Sequence[Task]) -> NDArray[np.float32]:
        """What it is told about tasks, standardised, float32 [T, K]."""
        centred = _coordinates(get_family(self.family), self.told, tasks) - self.mean
        return np.where(self.std > 0, centred / np.where(self.std > 0, self.std, 1), 0).astype(np.float32)

    def phi_for(self, task: Task) -> NDArray[np.float32]:
        """Weights [P] of the policy for one task, on normalised observations alone: the coordinates are in the bias."""
        return self._phi_told(self.coordinates([task])[0])

    def critic_for(self, task: Task) -> dict[str, NDArray[np.float32]]:
        """Weights of the value network for one task, by name; empty if there is none."""
        return self._critic_told(self.coordinates([task])[0])

    def mean_phi(self) -> NDArray[np.float32]:
        """Weights [P] of the policy that is told the mean of the training tasks, whatever the task."""
        return self._phi_told(np.zeros_like(self.mean))

    def mean_critic(self) -> dict[str, NDArray[np.float32]]:
        """Weights of its value network, by name; empty if there is none."""
        return self._critic_told(np.zeros_like(self.mean))

    def _phi_told(self, coordinates: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = _folded(self.spec.split(self.phi), coordinates)
        return PolicySpec.infer(parts, self.spec.activation, "parent policy").join(parts)

    def _critic_told(self, coordinates: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return _folded(self.critic, coordinates) if self.critic else {}

    def own_task(self, task: Task) -> Task:
        """The task with what it was not told at its default: what the policy can be expected to be good at."""
        return get_family(self.family).task({name: task[name] for name in self.told})

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by a stable name."""
        critic = {_CRITIC + name: array for name, array in self.critic.items()}
        return {"phi": self.phi, "mean": self.mean, "std": self.std, **critic}

    def describe(self) -> dict[str, Any]:
        """What the arrays do not say, as plain JSON values."""
        return {"family": self.family, "told": list(self.told), "spec": self.spec.to_json(), "record": self.record}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], description: object, what: str) -> Parent:
        """Build it from what `to_arrays` and `describe` gave.

        Raises:
            MetaMapError: something is missing, left over or of another shape.
        """
        keys = ("family", "told", "spec", "record")
        if not isinstance(description, Mapping) or set(description) != set(keys):
            raise MetaMapError(f"{what}: expected a parent policy, with the keys {', '.join(keys)}")
        if not isinstance(description["record"], dict) or not isinstance(description["told"], list):
            raise MetaMapError(f"{what}: record: expected an object, and told: a list")
        spec = PolicySpec.from_json(description["spec"])
        critic = {name.removeprefix(_CRITIC): array for name, array in arrays.items() if name.startswith(_CRITIC)}
        if critic:
            PolicySpec.infer(critic, spec.activation, what)
        rest = {name: array for name, array in arrays.items() if not name.startswith(_CRITIC)}
        if set(rest) != {"phi", "mean", "std"}:
            raise MetaMapError(f"{what}: expected phi, mean and std, there are {', '.join(sorted(rest)) or 'none'}")
        told = tuple(str(name) for name in description["told"])
        return cls(description["family"], told, spec, critic=critic, record=description["record"], **rest)


def _folded(parts: Mapping[str, NDArray[np.float32]], coordinates: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """A network without its last K inputs: their constant values are in the first bias."""
    weight, bias = parts["layers.0.weight"], parts["layers.0.bias"]
    own = weight.shape[1] - len(coordinates)
    first = {"layers.0.weight": weight[:, :own], "layers.0.bias": bias + weight[:, own:] @ coordinates}
    return {**parts, **first}


def untold(parts: Mapping[str, NDArray[np.float32]], count: int) -> dict[str, NDArray[Any]]:
    """A network with ``count`` more inputs at its end, which change nothing yet."""
    weight = parts["layers.0.weight"]
    return {**parts, "layers.0.weight": np.pad(weight, ((0, 0), (0, count)))}


def coordinate_columns(family: Family, told: Sequence[str]) -> list[int]:
    """Columns of `ParameterSpace.coordinates` that belong to some parameters.

    Raises:
        MetaMapError: a name that is no parameter of the family.
    """
    for name in told:
        if name not in family.space.names:
            raise unknown_name(f"told parameter of {family.name!r}", name, family.space.names)
    return family.space.coordinate_columns(told)


def _coordinates(family: Family, told: Sequence[str], tasks: Sequence[Task]) -> NDArray[np.float32]:
    """Coordinates of what is told, as they are, float32 [T, K]."""
    values = np.array([[value for _, value in task.parameters] for task in tasks])
    return family.space.coordinates(values)[:, coordinate_columns(family, told)]


def coordinate_scales(
    family: Family, told: Sequence[str], tasks: Sequence[Task]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of what is told over tasks, each float32 [K]."""
    found = _coordinates(family, told, tasks)
    return found.mean(axis=0), found.std(axis=0)


class ToldVecEnv(VecEnvWrapper):
    """Environments whose observations are followed by constants of their own.

    Args:
        venv: N environments with flat observations [O].
        constants: float32 [N, K].
    """

    def __init__(self, venv: Any, constants: NDArray[np.float32]) -> None:
        size = venv.observation_space.shape[0] + constants.shape[1]
        super().__init__(venv, observation_space=Box(-np.inf, np.inf, (size,), np.float32))
        self._constants = constants

    def reset(self) -> NDArray[np.float32]:
        """Start new episodes everywhere."""
        return np.concatenate([self.venv.reset(), self._constants], axis=1)

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones):
            last = infos[index]["terminal_observation"]
            infos[index]["terminal_observation"] = np.concatenate([last, self._constants[index]])
        return np.concatenate([observations, self._constants], axis=1), rewards, dones, infos
