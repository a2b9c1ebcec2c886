"""The universal (parameter-conditioned) policy of a family, from which experts start.

Experts that are trained one by one end in different gaits, and then phi* is no function of the task that a mapper could
learn from a few dozen examples. A universal policy is trained once, over the whole family, with some coordinates of the
task beside its observations. For one task these inputs are constant and fold into the bias of the first layer, which
leaves an ordinary policy of the family's shape, whose weights are a function of the task by construction.

In files and recipes it is called ``parent``, and the parameters that it is conditioned on ``told``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.gains import with_gains
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.family import Family
from metamap_envs.identity import is_family
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task

__all__ = ["UniversalPolicy", "blank_universal", "coordinate_columns", "coordinate_scales", "with_zero_inputs"]

_CRITIC = "critic."
_SCALE_TASKS = 1024  # for the mean and standard deviation of the coordinates


@dataclass(frozen=True, eq=False)
class UniversalPolicy:
    """One policy for a whole family with K coordinates of the task beside the O observations as inputs.

    Raises:
        MetaMapError: arrays that do not fit together, an unknown parameter, or a value that is not finite.
    """

    family: str
    """Name of the family."""
    parameters: tuple[str, ...]
    """Parameters whose coordinates are inputs; without any it is an ordinary policy, and K = 0."""
    spec: PolicySpec
    """Shape of the actor, with O + K inputs: normalised observations, then standardised coordinates."""
    phi: NDArray[np.float32]
    """Weights of the actor."""
    mean: NDArray[np.float32]
    """Mean of the coordinates over training tasks [K]."""
    std: NDArray[np.float32]
    """Standard deviation of the coordinates over training tasks [K]; where it is 0 the input is 0 for every task."""
    critic: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Weights of the value network, with the same inputs; may be empty."""
    record: dict[str, Any] = field(default_factory=dict)
    """How it was trained, as plain JSON values."""

    def __post_init__(self) -> None:
        # A family that is declared in a file may not be loaded; the policy can be kept, not used.
        known = is_family(self.family)
        inputs = len(coordinate_columns(get_family(self.family), self.parameters)) if known else self.mean.size
        shapes: dict[str, tuple[int, ...]] = {"phi": (self.spec.size,), "mean": (inputs,), "std": (inputs,)}
        check_arrays({"phi": self.phi, "mean": self.mean, "std": self.std}, shapes, "universal policy")
        if inputs >= self.spec.observation_size:
            raise MetaMapError(
                f"universal policy: expected more than {inputs} inputs, got {self.spec.observation_size}"
            )
        for name, array in self.to_arrays().items():
            if not np.isfinite(array).all():
                raise MetaMapError(f"universal policy: {name} holds values that are not finite")

    def coordinates(self, tasks: Sequence[Task]) -> NDArray[np.float32]:
        """Return the standardised coordinates of tasks, float32 [T, K]."""
        centred = _coordinates(get_family(self.family), self.parameters, tasks) - self.mean
        return np.where(self.std > 0, centred / np.where(self.std > 0, self.std, 1), 0).astype(np.float32)

    def phi_for(self, task: Task) -> NDArray[np.float32]:
        """Return the weights [P] for one task, on normalised observations alone; the coordinates are in the bias."""
        return self._phi_at(self.coordinates([task])[0])

    def gains_for(self, task: Task) -> NDArray[np.float64]:
        """Return the gains [A] that undo a task's factors on the actions; 1 where there are none.

        Factors that are inputs are left to the policy. The others are undone up to their values in training: of a
        discrete parameter its default, of a continuous one the median of the training tasks. A factor of 0 (a dead
        actuator) cannot be undone and is left.
        """
        family = get_family(self.family)
        parameters = {parameter.name: parameter for parameter in family.space.parameters}
        gains = np.ones(self.spec.action_size)
        for action, names in enumerate(family.action_factors):
            undone = [name for name in names if name not in self.parameters]
            factor = np.prod([task[name] for name in undone])
            if factor:
                gains[action] = np.prod([parameters[name].usual for name in undone]) / factor
        return gains

    def expert_for(self, task: Task) -> NDArray[np.float32]:
        """Return the weights [P] of an expert for a task of known parameters, without training or search.

        These are the weights of `phi_for` with the gains of `gains_for`, and with the columns of the first layer in the
        order of the task's sensors (`Family.wiring`), where the order is no input. Where a zoo's recipe searches gains,
        its experts differ from these by the error of the search.

        Raises:
            MetaMapError: the task is of another family.
        """
        if task.family != self.family:
            raise MetaMapError(f"the universal policy is of family {self.family!r}, the task is of {task.family!r}")
        phi = with_gains(self.base_spec, self.phi_for(task), self.gains_for(task))
        family = get_family(self.family)
        if not family.sensor_parameters:
            return phi
        untold = family.task({name: value for name, value in task.parameters if name not in self.parameters})
        order = family.wiring(untold.values[None])
        assert order is not None, "it has parameters of the order"
        return _rewired(self.base_spec, phi, order[0])

    @property
    def base_spec(self) -> PolicySpec:
        """Shape of its policies for single tasks, without the coordinates."""
        return replace(self.spec, observation_size=self.spec.observation_size - len(self.mean))

    def check_base(self, family: str, spec: PolicySpec, what: str) -> None:
        """Refuse a universal policy of another family, or whose policies have another shape.

        Raises:
            MetaMapError: one of these, after ``what``.
        """
        if self.family != family:
            raise MetaMapError(f"{what}: universal policy: expected family {family!r}, got {self.family!r}")
        if self.base_spec != spec:
            raise MetaMapError(f"{what}: universal policy: expected policies of the shape {spec}, got {self.base_spec}")

    def critic_for(self, task: Task) -> dict[str, NDArray[np.float32]]:
        """Return the weights of the value network for one task, by name; empty if there is none."""
        return self._critic_at(self.coordinates([task])[0])

    def mean_phi(self) -> NDArray[np.float32]:
        """Return the weights [P] for the mean coordinates of the training tasks."""
        return self._phi_at(np.zeros_like(self.mean))

    def mean_critic(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights of the value network for the mean coordinates, by name; empty if there is none."""
        return self._critic_at(np.zeros_like(self.mean))

    def _phi_at(self, coordinates: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = _folded(self.spec.split(self.phi), coordinates)
        return PolicySpec.infer(parts, self.spec.activation, "universal policy").join(parts)

    def _critic_at(self, coordinates: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return _folded(self.critic, coordinates) if self.critic else {}

    def own_task(self, task: Task) -> Task:
        """Return the task with all parameters that are no inputs at their defaults, as in training."""
        return get_family(self.family).task({name: task[name] for name in self.parameters})

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return every array by a stable name."""
        critic = {_CRITIC + name: array for name, array in self.critic.items()}
        return {"phi": self.phi, "mean": self.mean, "std": self.std, **critic}

    def describe(self) -> dict[str, Any]:
        """Return what the arrays do not say, as plain JSON values."""
        return {
            "family": self.family,
            "told": list(self.parameters),
            "spec": self.spec.to_json(),
            "record": self.record,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], description: object, what: str) -> UniversalPolicy:
        """Build a universal policy from the results of `to_arrays` and `describe`.

        Raises:
            MetaMapError: something is missing, left over or of another shape.
        """
        keys = ("family", "told", "spec", "record")
        if not isinstance(description, Mapping) or set(description) != set(keys):
            raise MetaMapError(f"{what}: expected a universal policy, with the keys {', '.join(keys)}")
        told = description["told"]
        if not isinstance(description["record"], dict) or not isinstance(description["family"], str):
            raise MetaMapError(f"{what}: universal policy: expected an object as record, and a name as family")
        if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
            raise MetaMapError(f"{what}: universal policy: told: expected a list of names, got {told!r}")
        spec = PolicySpec.from_json(description["spec"])
        critic = {name.removeprefix(_CRITIC): array for name, array in arrays.items() if name.startswith(_CRITIC)}
        if critic:
            PolicySpec.infer(critic, spec.activation, what)
        rest = {name: array for name, array in arrays.items() if not name.startswith(_CRITIC)}
        if set(rest) != {"phi", "mean", "std"}:
            raise MetaMapError(f"{what}: expected phi, mean and std, there are {', '.join(sorted(rest)) or 'none'}")
        return cls(description["family"], tuple(told), spec, critic=critic, record=description["record"], **rest)


def blank_universal(family_name: str, names: Sequence[str], base: PolicySpec, seed: int) -> UniversalPolicy:
    """Return a universal policy of a shape without weights: all 0.

    Args:
        family_name: its family.
        names: parameters that are inputs.
        base: shape of its policies for single tasks.
        seed: of the tasks whose coordinates give mean and standard deviation.

    Raises:
        MetaMapError: no family, or no seed.
    """
    seed = read_seed(seed)
    family = get_family(family_name)
    mean, std = coordinate_scales(family, names, family.sample("train", _SCALE_TASKS, seed))
    spec = replace(base, observation_size=base.observation_size + len(mean))
    return UniversalPolicy(family_name, tuple(names), spec, np.zeros(spec.size, np.float32), mean, std)


def _folded(parts: Mapping[str, NDArray[np.float32]], coordinates: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """A network without its last K inputs: their constant values are in the first bias."""
    weight, bias = parts["layers.0.weight"], parts["layers.0.bias"]
    own = weight.shape[1] - len(coordinates)
    first = {"layers.0.weight": weight[:, :own], "layers.0.bias": bias + weight[:, own:] @ coordinates}
    return {**parts, **first}


def _rewired(spec: PolicySpec, phi: NDArray[np.float32], order: NDArray[np.intp]) -> NDArray[np.float32]:
    """Weights [P] that do with channels, of which each shows the sensor that ``order`` [O] says, what ``phi`` does."""
    parts = spec.split(phi)
    return spec.join({**parts, "layers.0.weight": parts["layers.0.weight"][:, order]})


def with_zero_inputs(parts: Mapping[str, NDArray[np.float32]], count: int) -> dict[str, NDArray[Any]]:
    """Return a network with ``count`` additional inputs at the end, whose weights are 0."""
    weight = parts["layers.0.weight"]
    return {**parts, "layers.0.weight": np.pad(weight, ((0, 0), (0, count)))}


def coordinate_columns(family: Family, parameters: Sequence[str]) -> list[int]:
    """Return the columns of `ParameterSpace.coordinates` that belong to some parameters.

    Raises:
        MetaMapError: a name that is not a parameter of the family.
    """
    for name in parameters:
        if name not in family.space.names:
            raise unknown_name("parameter", name, family.space.names, of=f"family {family.name!r}")
    return family.space.coordinate_columns(parameters)


def _coordinates(family: Family, parameters: Sequence[str], tasks: Sequence[Task]) -> NDArray[np.float32]:
    """Coordinates of parameters, not standardised, float32 [T, K]."""
    values = np.array([[value for _, value in task.parameters] for task in tasks])
    return family.space.coordinates(values)[:, coordinate_columns(family, parameters)]


def coordinate_scales(
    family: Family, parameters: Sequence[str], tasks: Sequence[Task]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of the coordinates of parameters over tasks, each float32 [K]."""
    found = _coordinates(family, parameters, tasks)
    return found.mean(axis=0), found.std(axis=0)
