"""The layout of a feature row: one transition as input of the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["TransitionLayout"]

ArrayT = TypeVar("ArrayT", NDArray[Any], Tensor)


@dataclass(frozen=True)
class TransitionLayout:
    """Feature rows (observation, action, |action|^2, reward, next observation - observation), F = 2 O + A + 2 numbers.

    The squared norm of the action ("energy") is included because most rewards contain a control cost, often larger than
    the task-dependent part; given the norm, a linear layer can subtract it from the reward.
    """

    observation_size: int
    """O."""
    action_size: int
    """A."""

    @classmethod
    def of(cls, spec: PolicySpec) -> TransitionLayout:
        """The layout of the transitions that policies of this shape make."""
        return cls(spec.observation_size, spec.action_size)

    @property
    def size(self) -> int:
        """F."""
        return 2 * self.observation_size + self.action_size + 2

    @property
    def observation(self) -> slice:
        """Columns of the observation."""
        return slice(0, self.observation_size)

    @property
    def action(self) -> slice:
        """Columns of the action."""
        return slice(self.observation_size, self.observation_size + self.action_size)

    @property
    def state_action(self) -> slice:
        """Columns of observation and action."""
        return slice(0, self.action.stop)

    @property
    def energy(self) -> slice:
        """Column of the action's squared norm."""
        return slice(self.action.stop, self.action.stop + 1)

    @property
    def reward(self) -> slice:
        """Column of the reward."""
        return slice(self.energy.stop, self.energy.stop + 1)

    @property
    def change(self) -> slice:
        """Columns of what the step adds to the observation."""
        return slice(self.reward.stop, self.reward.stop + self.observation_size)

    @property
    def outcome(self) -> slice:
        """Columns of reward and change, O + 1: what the environment answers."""
        return slice(self.reward.start, self.change.stop)

    def pack(
        self,
        observations: NDArray[np.float32],
        actions: NDArray[np.float32],
        rewards: NDArray[np.float32],
        next_observations: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Make feature rows of transitions.

        Args:
            observations: [..., n, O], raw units of the environment.
            actions: [..., n, A].
            rewards: [..., n].
            next_observations: [..., n, O].

        Returns:
            [..., n, F] float32, not standardised.

        Raises:
            MetaMapError: observations or actions of another size.
        """
        sizes, found = (self.observation_size, self.action_size), (observations.shape[-1], actions.shape[-1])
        if found != sizes:
            expected, got = (f"{of_observations} and {of_actions}" for of_observations, of_actions in (sizes, found))
            raise MetaMapError(f"transitions: expected observations and actions of size {expected}, got {got}")
        energy = np.square(actions).sum(axis=-1, keepdims=True)
        rows = [observations, actions, energy, rewards[..., None], next_observations - observations]
        return np.concatenate(rows, axis=-1, dtype=np.float32)

    def unpack(self, rows: ArrayT) -> tuple[ArrayT, ArrayT, ArrayT, ArrayT]:
        """Observations, actions, rewards and next observations of rows [..., F]; the last but for rounding."""
        observations = rows[..., self.observation]
        following = observations + rows[..., self.change]
        return observations, rows[..., self.action], rows[..., self.reward.start], following
