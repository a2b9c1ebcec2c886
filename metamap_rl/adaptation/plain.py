"""A policy as other programs take it: raw observations in, actions of a Box out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from metamap_agents.policy.acting import check_box
from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.registry import get_family
from metamap_envs.spaces import action_space, observation_space
from metamap_rl.adaptation.env_spaces import EnvSpaces

__all__ = ["PlainPolicy"]


@dataclass(frozen=True, eq=False)
class PlainPolicy:
    """One policy with all that exporters need.

    Attributes:
        family: name of its family.
        base: base policy of the family, with normaliser and critic.
        phi: weights [P] on normalised observations; their outputs are actions before clipping.
        log_std: logarithm of the action noise [A], for training it further.
        observation_space: Box [O].
        action_space: Box [A] that actions are clipped to.
        title: what it is, in a few words.

    Raises:
        MetaMapError: sizes that differ.
    """

    family: str
    base: BasePolicy
    phi: NDArray[np.float32]
    log_std: NDArray[np.float32]
    observation_space: Box
    action_space: Box
    title: str

    def __post_init__(self) -> None:
        check_box("observation_space", self.observation_space, self.spec.observation_size)
        check_box("action_space", self.action_space, self.spec.action_size)

    @classmethod
    def of(
        cls,
        family: str,
        base: BasePolicy,
        phi: NDArray[np.float32],
        spaces: EnvSpaces | None = None,
        title: str = "policy",
    ) -> PlainPolicy:
        """A policy in the spaces of an environment if these are flat and of floats, else in those of its family.

        Args:
            family: name of the family.
            base: its base policy.
            phi: weights [P] on normalised observations.
            spaces: spaces of the environment; None for those of the family.
            title: what it is.
        """
        if spaces is not None and spaces.are_plain:
            return cls(family, base, *spaces.rescaled(base.spec, phi, base.log_std), title=title)
        found = get_family(family)
        return cls(family, base, phi, base.log_std, observation_space(found), action_space(found), title)

    @property
    def spec(self) -> PolicySpec:
        """Architecture of the network."""
        return self.base.spec

    @property
    def policies(self) -> Policies:
        """Spec, normaliser and weights."""
        return self.base.policies(self.phi)

    def layers(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Weight [out, in] and bias [out] of each layer, on raw observations: the normaliser is folded in."""
        parts = self.spec.split(self.policies.folded().astype(np.float32))
        return [
            (parts[f"layers.{index}.weight"], parts[f"layers.{index}.bias"])
            for index in range(len(self.spec.hidden) + 1)
        ]

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lowest and highest action [A]."""
        return self.action_space.low.astype(np.float32), self.action_space.high.astype(np.float32)

    def save_sb3(self, path: str | Path) -> None:
        """Write a zip for ``PPO.load``, with raw observations as input; see `metamap_agents.export_sb3`.

        Raises:
            MetaMapError: the name does not end in .zip, or the file cannot be written.
        """
        from metamap_agents.sb3.export import export_sb3  # imports Stable-Baselines3, slow

        export_sb3(
            path,
            self.policies,
            self.log_std,
            self.base.critic or None,
            self.observation_space,
            self.action_space,
        )
