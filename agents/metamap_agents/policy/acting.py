"""Acting with weight vectors: batched for evaluation, or a single one behind SB3's ``predict``.

Both fold the normaliser into the weights once, in float64, and then compute in float32 on raw observations, like an
exported SB3 model: the measured policy and the exported one agree to rounding. The action for an observation does not
depend on the other policies and observations of the call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from metamap_agents.policy.policies import Policies, accepts_triple
from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_envs.errors import MetaMapError

__all__ = ["BatchedPolicy", "WeightPolicy"]


class BatchedPolicy:
    """T policies of one family, one for each task.

    Args:
        policies: T policies, with ``phi`` [T, P].

    Raises:
        MetaMapError: ``phi`` is not [T, P], or the sizes of spec and normaliser differ.
    """

    @accepts_triple(1)
    def __init__(self, policies: Policies) -> None:
        self.spec = policies.spec
        if policies.phi.ndim != 2:
            raise MetaMapError(f"phi: expected shape (tasks, {self.spec.size}), got {policies.phi.shape}")
        self._networks = RowwiseNetworks(self.spec, policies.folded())

    def __len__(self) -> int:
        """T, the number of policies."""
        return len(self._networks)

    def __call__(self, observations: ArrayLike) -> NDArray[np.float32]:
        """Return actions [T, E, A], clipped to [-1, 1], for raw observations [T, E, O].

        Raises:
            MetaMapError: observations of another shape.
        """
        return np.clip(self.means(observations), -1.0, 1.0)

    def means(self, observations: ArrayLike) -> NDArray[np.float32]:
        """Return mean actions [T, E, A] before clipping, for raw observations [T, E, O].

        Raises:
            MetaMapError: observations of another shape.
        """
        return self._networks(np.asarray(observations))


class WeightPolicy:
    """One weight vector behind Stable-Baselines3's ``predict``, for its evaluation and video tools.

    Args:
        policy: one policy, with ``phi`` [P].
        observation_space: Box of shape (O,).
        action_space: Box of shape (A,); actions are clipped to it.

    Raises:
        MetaMapError: the sizes differ, or a space is not such a Box.
    """

    @accepts_triple(1)
    def __init__(self, policy: Policies, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self.spec = policy.spec
        if policy.phi.ndim != 1:
            raise MetaMapError(f"phi: expected shape ({self.spec.size},), got {policy.phi.shape}")
        self.observation_space = check_box("observation_space", observation_space, self.spec.observation_size)
        self.action_space = check_box("action_space", action_space, self.spec.action_size)
        self._network = RowwiseNetworks(self.spec, policy.folded()[None])

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], tuple[NDArray[Any], ...] | None]:
        """Return actions for raw observations, with the signature of SB3's ``predict``.

        Args:
            observation: [O] or [N, O].
            state: returned unchanged, as the policy has no memory.
            episode_start: ignored, for the same reason.
            deterministic: must be True, as a weight vector defines a deterministic policy.

        Returns:
            Actions [A] or [N, A], clipped to the action space, and ``state``.

        Raises:
            MetaMapError: observations of another shape, or ``deterministic=False``.
        """
        if not deterministic:
            raise MetaMapError("predict: expected deterministic=True, a weight vector defines a deterministic policy")
        if isinstance(observation, (tuple, dict)):
            raise MetaMapError(f"observation: expected one array, got a {type(observation).__name__} (of reset()?)")
        raw = np.asarray(observation)
        size = self.spec.observation_size
        if raw.ndim not in (1, 2) or raw.shape[-1] != size:
            raise MetaMapError(f"observation: expected shape ({size},) or (environments, {size}), got {raw.shape}")
        actions = self._network(np.atleast_2d(raw)[None])[0]
        actions = np.clip(actions, self.action_space.low, self.action_space.high)
        return (actions[0] if raw.ndim == 1 else actions), state


def check_box(name: str, space: spaces.Space[Any], size: int) -> spaces.Box:
    """Return ``space`` if it is a Box of shape (size,).

    Raises:
        MetaMapError: it is not such a Box.
    """
    if not isinstance(space, spaces.Box) or space.shape != (size,):
        raise MetaMapError(f"{name}: expected a Box of shape ({size},), got {space}")
    return space
