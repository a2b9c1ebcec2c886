"""Flights of quadrotors: who stays in the air, and how far from the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.changes import TaskDraw
from metamap_agents.experts.cloning import Cloning, clone_controller
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.torch_state import isolated_training
from metamap_envs.errors import MetaMapError
from metamap_envs.families._quadrotor import Quadrotor
from metamap_envs.families._quadrotor_control import GeometricController
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.adaptation.service.trial import Controller, run_trial
from metamap_rl.evaluation.identification.rotors import RotorIdentification

__all__ = [
    "Flights",
    "GivenController",
    "IdentifiedController",
    "SpecialistController",
    "fly",
    "quadrotor_family",
    "vehicles",
]

Floats = NDArray[np.float64]

_AT_FIRST, _EVERY = (2, 4, 6, 8), 5  # steps after which a vehicle is identified


@dataclass(frozen=True, eq=False)
class Flights:
    """Outcome of N flights.

    Attributes:
        survived: whether the first episode lasted to the end, bool [N].
        errors: mean distance to the target in m over the last half of a flight, float64 [N]; NaN for others.
        arms: the same in arm lengths.
        returns: sum of the rewards up to the end of the first episode, float64 [N].
    """

    survived: NDArray[np.bool_]
    errors: Floats
    arms: Floats
    returns: Floats


def quadrotor_family(name: str) -> Quadrotor:
    """A family of quadrotors.

    Raises:
        MetaMapError: unknown family, or one of other robots.
    """
    family = get_family(name)
    if not isinstance(family, Quadrotor):
        raise MetaMapError(f"family {name!r}: expected one of quadrotors, such as 'quadrotor-hover'")
    return family


def vehicles(family: Quadrotor, split: str, count: int, seed: int, change: dict[str, float] | None) -> list[list[Task]]:
    """Tasks of so many vehicles, before a change and after it.

    ``change`` are the values that some of `Quadrotor.in_flight` take; before it all of them are at their defaults. None
    for vehicles that are as they were drawn, and do not change.

    Raises:
        MetaMapError: ``change`` names something else, or a value that is not admitted.
    """
    seed = read_seed(seed)
    drawn = family.sample(split, count, seed)
    if change is None:
        return [drawn, drawn]
    if others := sorted(change.keys() - set(family.in_flight)):
        raise MetaMapError(f"change in flight: expected some of {', '.join(family.in_flight)}, got {others[0]!r}")
    sound = [{name: value for name, value in task.parameters if name not in family.in_flight} for task in drawn]
    return [[family.task({**each, **values}) for each in sound] for values in ({}, change)]


class _Recorder:
    """A controller that keeps the distances to the target, [n][N]."""

    beliefs: tuple[Belief, ...] = ()

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.distances: list[Floats] = []
        self.tasks_change, self.reset, self.act = controller.tasks_change, controller.reset, controller.act

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`."""
        self.distances.append(np.linalg.norm(step["next_observations"][:, :3], axis=1))
        self._controller.observe(step)


class GivenController:
    """A controller of the pilots' interface: the family's own control law, given the true parameters at once."""

    beliefs: tuple[Belief, ...] = ()

    def __init__(self, family: Quadrotor) -> None:
        self._family = family
        self._law: GeometricController | None = None

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`; gains and rotor thrusts are those of the new tasks."""
        if self._law is None or changed.any():
            self._law = self._family.controller(tasks)

    def reset(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """See `Controller`; it has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        assert self._law is not None, "act() follows tasks_change()"
        return self._law(observations)

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`; it has no use for the outcome."""


@dataclass(frozen=True)
class _OneTask(TaskDraw):
    """Draws the same task again and again."""

    task: Task | None = None

    def __call__(self, count: int, seed: int | np.random.Generator) -> list[Task]:
        """Draw tasks."""
        assert self.task is not None, "it has one"
        return [self.task] * count


class SpecialistController:
    """A controller of the pilots' interface: for each vehicle a network of its own, cloned from its controller.

    Args:
        family: quadrotors.
        settings: of each cloning.
        seed: of all clonings.
    """

    beliefs: tuple[Belief, ...] = ()

    def __init__(self, family: Quadrotor, settings: Cloning, seed: int) -> None:
        self._family, self._settings, self._seed = family, settings, read_seed(seed)
        self._networks: RowwiseNetworks | None = None

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`; networks are of the vehicles at the start."""
        if self._networks is None:
            network = load_recipe(self._family.name, "base").policy_kwargs
            spec = PolicySpec(
                self._family.observation_size, self._family.action_size, network.net_arch.pi, network.activation_fn
            )
            phis = [self._trained(spec, task) for task in tasks]
            self._networks = RowwiseNetworks(spec, np.concatenate(phis))

    def _trained(self, spec: PolicySpec, task: Task) -> NDArray[np.float64]:
        with isolated_training():
            clone = clone_controller(
                _OneTask(self._family.name, task=task), spec, self._settings, seed=self._seed, num_threads=1
            )
        return Policies(spec, clone.normalizer, clone.phi[None]).folded()

    def reset(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """See `Controller`; it has no memory."""

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        assert self._networks is not None, "act() follows tasks_change()"
        return np.clip(self._networks(observations[:, None])[:, 0], -1.0, 1.0)

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`; it has no use for the outcome."""


class IdentifiedController:
    """A controller of the pilots' interface that finds out by least squares what it flies, and not from the task.

    Args:
        family: quadrotors.
        policy: makes what acts from the vehicles that were found, given all of them again and again: `GivenController`
            or a `PolicyController` with an expert for each task.
    """

    beliefs: tuple[Belief, ...] = ()

    def __init__(self, family: Quadrotor, policy: Controller) -> None:
        self._family, self._policy = family, policy
        self._found: RotorIdentification | None = None
        self._tasks: list[Task] = []
        self._latest: tuple[NDArray[Any], NDArray[np.float32]] | None = None
        self._step = 0

    def tasks_change(self, tasks: Sequence[Task], changed: NDArray[np.bool_]) -> None:
        """See `Controller`; ignored but for their number."""
        if not self._tasks:
            self._tasks = [self._family.closest_task({})] * len(tasks)
            self._policy.tasks_change(self._tasks, np.ones(len(tasks), dtype=np.bool_))

    def reset(self, observations: NDArray[Any], where: NDArray[np.bool_]) -> None:
        """See `Controller`; the rotors' speeds are known at a start."""
        if self._found is None:
            self._found = RotorIdentification(self._family, observations)
        self._found.start(observations, where)
        self._policy.reset(observations, where)

    def act(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """See `Controller`."""
        actions = self._policy.act(observations)
        self._latest = observations, actions
        return actions

    def observe(self, step: dict[str, NDArray[Any]]) -> None:
        """See `Controller`; what flies is found out anew every `_EVERY` steps, at first more often."""
        assert self._found is not None, "reset() comes first"
        assert self._latest is not None, "acted"
        valid = step["valid"] & np.isfinite(step["next_observations"]).all(axis=1)
        self._found.observe(*self._latest, step["next_observations"], valid)
        self._step += 1
        if self._step in _AT_FIRST or self._step % _EVERY == 0:
            found = self._found.tasks()
            changed = np.array([new != old for new, old in zip(found, self._tasks, strict=True)])
            self._tasks = found
            self._policy.tasks_change(found, changed)


def fly(
    controller: Controller, before: Sequence[Task], after: Sequence[Task], *, steps: int, change_at: int, seed: int
) -> Flights:
    """Let a controller fly N vehicles for so many steps, of which those from ``change_at`` on with other tasks."""
    seed = read_seed(seed)
    recorder, count = _Recorder(controller), len(before)
    tasks = [before] * change_at + [after] * (steps - change_at)
    trial = run_trial(recorder, tasks, seeds=range(seed, seed + count))
    ends: NDArray[np.int64] = np.cumsum(trial.ended, axis=0)
    flying = ends - trial.ended == 0  # up to the end of the first episode, with it
    survived: NDArray[np.bool_] = ends[-1] == 0
    family = quadrotor_family(before[0].family)
    errors = np.where(survived, np.mean(recorder.distances[steps // 2 :], axis=0), np.nan)
    arms = errors / family.arms(np.stack([task.values for task in after]))
    return Flights(survived, errors, arms, np.where(flying, trial.rewards, 0.0).sum(axis=0))
