"""The layout of a feature row: one transition as input of the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError

__all__ = ["TransitionLayout"]


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
        return sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        """Columns of observation, action, energy, reward and change."""
        return [self.observation_size, self.action_size, 1, 1, self.observation_size]

    @property
    def state_action(self) -> slice:
        """Columns of observation and action, O + A."""
        return slice(0, self.observation_size + self.action_size)

    @property
    def reward(self) -> int:
        """Column of the reward, the first of `outcome`."""
        return self.size - self.observation_size - 1

    @property
    def outcome(self) -> slice:
        """Columns of reward and change, O + 1: how the environment responds."""
        return slice(self.reward, self.size)

    def check(self, feature_size: int, what: str) -> None:
        """Check the size of feature rows that ``what`` reads.

        Raises:
            MetaMapError: feature rows of another size, which are no transitions.
        """
        if feature_size != self.size:
            raise MetaMapError(f"{what}: expected transitions, rows of {self.size} numbers; got rows of {feature_size}")

    def reward_mask(self, feature_size: int) -> NDArray[np.bool_]:
        """Mark the column of the reward, bool [F].

        Raises:
            MetaMapError: feature rows of another size, which are no transitions.
        """
        if feature_size != self.size:
            raise MetaMapError(
                f"reward: expected feature rows of {self.size} numbers, to ignore it; got {feature_size}"
            )
        mask = np.zeros(feature_size, dtype=np.bool_)
        mask[self.reward] = True
        return mask

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
        found = observations.shape[-1], actions.shape[-1]
        if found != (self.observation_size, self.action_size):
            raise MetaMapError(
                f"transitions: expected {self.observation_size} numbers per observation and {self.action_size} per "
                f"action, got {found[0]} and {found[1]}"
            )
        energy = np.square(actions).sum(axis=-1, keepdims=True)
        rows = [observations, actions, energy, rewards[..., None], next_observations - observations]
        return np.concatenate(rows, axis=-1, dtype=np.float32)

    def unpack(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Observations, actions, rewards and next observations of rows [..., F]; the last up to rounding."""
        observations, actions, _, rewards, change = rows.split_with_sizes(self._sizes, dim=-1)
        return observations, actions, rewards[..., 0], observations + change
