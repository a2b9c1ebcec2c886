"""The layout of a feature row: one transition as input of the encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["transition_features"]


def transition_features(
    observations: NDArray[np.float32],
    actions: NDArray[np.float32],
    rewards: NDArray[np.float32],
    next_observations: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return (observation, action, |action|^2, reward, next observation - observation) of each transition.

    The squared norm of the action is included because most rewards contain a control cost, often larger than the
    task-dependent part; given the norm, a linear layer can subtract it from the reward.

    Args:
        observations: [..., n, O], raw units of the environment.
        actions: [..., n, A].
        rewards: [..., n].
        next_observations: [..., n, O].

    Returns:
        [..., n, 2 O + A + 2] float32, not standardised.
    """
    change = next_observations - observations
    energy = np.square(actions).sum(axis=-1, keepdims=True)
    rows = [observations, actions, energy, rewards[..., None], change]
    return np.concatenate(rows, axis=-1, dtype=np.float32)
