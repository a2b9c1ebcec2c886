"""What acts in the lanes of the player: base policy, generated policy, expert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metamap_agents.experts.expert import Expert
from metamap_envs.family import Family
from metamap_envs.task import Task
from metamap_rl.adaptation.one_shot import AdaptedPolicy
from metamap_rl.adaptation.service.adapter import Adapter
from metamap_rl.adaptation.service.serving import ActionLimits, ServedPolicy
from metamap_rl.adaptation.service.surprise import Surprise
from metamap_rl.mapper.mapper import Mapper

__all__ = ["BaseLane", "ExpertLane", "GeneratedLane", "Lane", "Outcome", "nearest_expert"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """What a step gave a lane: arguments of `Adapter.observe`.

    Attributes:
        reward: of the step.
        observation: the next one [O], the last of the episode if it ends.
        terminated: whether the task ended the episode.
        truncated: whether it was cut short.
        valid: False if the simulation diverged.
    """

    reward: float
    observation: NDArray[Any]
    terminated: bool
    truncated: bool
    valid: bool


class Lane(Protocol):
    """What acts in one lane.

    Attributes:
        key: name in messages.
    """

    key: str

    @property
    def title(self) -> str:
        """What it is, in a few words."""

    def change_task(self, task: Task) -> None:
        """The task is another one from the next step on; privileged lanes heed it."""

    def reset(self, observation: NDArray[Any]) -> None:
        """Start an episode."""

    def act(self, observation: NDArray[Any]) -> Floats:
        """Action [A] for an observation [O]."""

    def observe(self, outcome: Outcome) -> None:
        """Outcome of the action."""


class BaseLane:
    """The base policy phi_0."""

    key, title = "base", "base policy"

    def __init__(self, mapper: Mapper, limits: ActionLimits) -> None:
        self._policy, self._limits = ServedPolicy(mapper.base, mapper.base.phi, generated=False), limits

    def change_task(self, task: Task) -> None:
        """See `Lane`."""

    def reset(self, observation: NDArray[Any]) -> None:
        """See `Lane`."""

    def act(self, observation: NDArray[Any]) -> Floats:
        """See `Lane`."""
        return self._limits.clipped(self._policy(observation))

    def observe(self, outcome: Outcome) -> None:
        """See `Lane`."""


class ExpertLane(BaseLane):
    """The universal policy given the true task; for mappers without one, the expert of the nearest task.

    Args:
        mapper: the mapper.
        limits: of actions.
        family: of the tasks.
        experts: to take the nearest of; empty with a universal policy.
    """

    key = "expert"

    def __init__(self, mapper: Mapper, limits: ActionLimits, family: Family, experts: Sequence[Expert]) -> None:
        super().__init__(mapper, limits)
        self._mapper, self._family, self._experts = mapper, family, experts
        self.title = "expert"

    def change_task(self, task: Task) -> None:
        """Exchange the policy at once."""
        if self._mapper.universal is not None:
            phi, self.title = self._mapper.universal.expert_for(task), "expert: universal policy, given the parameters"
        else:
            expert = nearest_expert(self._family, self._experts, task)
            values = ", ".join(f"{name} {value:.3g}" for name, value in expert.task.parameters[:3])
            phi, self.title = expert.phi, f"nearest expert: {values}"
        self._policy = ServedPolicy(self._mapper.base, phi, generated=False)


def nearest_expert(family: Family, experts: Sequence[Expert], task: Task) -> Expert:
    """The expert whose task is nearest in the family's coordinates, each in units of its standard deviation."""
    values = np.stack([task.values, *(expert.task.values for expert in experts)])
    points = family.space.coordinates(values)
    scale = points[1:].std(axis=0)
    distances = np.square((points[1:] - points[0]) / np.where(scale > 0, scale, 1.0)).sum(axis=1)
    return experts[int(distances.argmin())]


class GeneratedLane:
    """Generated policies: of an adapter in service, or of one D that a probe collected.

    Args:
        adapter: in service.

    Attributes:
        one_shot: the policy mapped from a probe's D, which acts in place of the adapter; None in service.
        surprise: evidence that the task changed within the last steps, in units of the margin at which the adapter cuts
            its window; None without a self-check, while the window is short, or in a one-shot.
    """

    key = "generated"

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.one_shot: AdaptedPolicy | None = None
        self.surprise: float | None = None
        self._surprise = Surprise(adapter)
        self._policy: ServedPolicy | None = None
        self._observation: NDArray[Any] | None = None

    @property
    def title(self) -> str:
        """See `Lane`."""
        if self.one_shot is not None:
            return f"generated policy: from {self.one_shot.adaptation.steps} transitions of a probe"
        return "generated policy: adapter in service"

    @property
    def phi(self) -> Floats:
        """Weights [P] that act now."""
        return self.adapter.phi if self.one_shot is None else self.one_shot.phi

    def serve(self, policy: AdaptedPolicy | None) -> None:
        """Let a one-shot policy act from now on; None goes back to the adapter."""
        if policy is None and self.one_shot is not None and self._observation is not None:
            self.adapter.reset(self._observation)  # no transition goes across what the adapter did not see
        self.one_shot = policy
        self._policy = None if policy is None else ServedPolicy(policy.base, policy.phi, generated=True)

    def change_task(self, task: Task) -> None:
        """Nothing: the change is hidden."""

    def reset(self, observation: NDArray[Any]) -> None:
        """See `Lane`."""
        self._observation = observation
        if self.one_shot is None:
            self.adapter.reset(observation)

    def act(self, observation: NDArray[Any]) -> Floats:
        """See `Lane`."""
        if self._policy is not None:
            return self.adapter.limits.clipped(self._policy(observation))
        return self.adapter.act(observation)

    def observe(self, outcome: Outcome) -> None:
        """See `Lane`."""
        self._observation = outcome.observation
        self.surprise = None
        if self.one_shot is not None:
            return
        known = self.adapter.window
        blind = not self.adapter.mapper.config.reward
        self.adapter.observe(
            None if blind else outcome.reward,
            outcome.observation,
            outcome.terminated,
            outcome.truncated,
            valid=outcome.valid,
        )
        self.surprise = self._surprise(known, self.adapter.window)
