"""Adaptation in service as a Gymnasium wrapper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family_spaces import FamilySpaces
from metamap_envs.seeds import read_seed
from metamap_envs.values import read_numbers, read_whole
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.service.adapter import Adapter
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.stored_family import know_family
from metamap_rl.adaptation.wrappers import alterations
from metamap_rl.mapper.mapper import Mapper

__all__ = ["AdaptiveEnv", "ServiceRun"]


@dataclass(frozen=True)
class ServiceRun:
    """Record of `AdaptiveEnv.run`.

    Attributes:
        rewards: of each step [n].
        beliefs: after each step.
    """

    rewards: NDArray[np.float64]
    beliefs: tuple[Belief, ...]


class AdaptiveEnv(gym.Wrapper[NDArray[Any], Any, Any, Any]):
    """An environment with an adapter in its loop: ``step(None)`` lets the adapter act.

    ``step(action)`` executes another action instead, as of an operator who takes over; the adapter observes it all the
    same. ``info["action"]`` is the executed action, ``info["belief"]`` what the adapter believes. Observations and
    actions are those of the family (`metamap_envs.FamilySpaces`).

    Args:
        env: an environment of the mapper's family.
        mapper: a mapper, its folder, or the name of a family with a bundled one; or an adapter that goes on.
        config: settings of the adapter; not with an adapter.

    Raises:
        MetaMapError: the spaces are not the family's, a config beside an adapter, or a wrapper that changes the scale
            of rewards or observations as it goes, such as Gymnasium's NormalizeReward, unless ``check`` is False.
    """

    def __init__(
        self, env: gym.Env[Any, Any], mapper: Mapper | Adapter | str | Path, config: AdapterConfig | None = None
    ) -> None:
        if isinstance(mapper, Adapter) and config is not None:
            raise MetaMapError("AdaptiveEnv: expected no config beside an adapter, which has its own")
        if not isinstance(mapper, Adapter | Mapper):
            mapper, _ = find_mapper(mapper)
        if isinstance(mapper, Mapper) and isinstance(env, gym.Env):
            know_family(mapper, env)
        adapter = mapper if isinstance(mapper, Adapter) else Adapter(mapper, config)
        super().__init__(FamilySpaces(env, adapter.mapper.family))
        found = alterations(env, adapter.mapper.family)
        drifting = " and ".join(str(one) for one in found if one.drifts)
        if drifting and adapter.config.check:
            raise MetaMapError(f"AdaptiveEnv: {drifting}: run the environment without, or with check=False")
        self.adapter = adapter
        self.notes = tuple(str(one) for one in found)
        """Wrappers of the environment that alter rewards or observations, which the mapper knows as its family's."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode; the adapter keeps what it knows. Call ``adapter.forget()`` for a fresh start."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.adapter.reset(observation)
        return observation, info

    def step(self, action: Any = None) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Advance by one step.

        Args:
            action: [A] to execute; None lets the adapter act.

        Raises:
            MetaMapError: as the environment and `Adapter.act`.
        """
        taken = None if action is None else read_numbers("action", action, self.adapter.limits.low.shape)
        own = self.adapter.act()
        executed = own if taken is None else taken
        observation, reward, terminated, truncated, info = self.env.step(executed)
        valid = not info.get("diverged", False)
        shown = float(reward) if self.adapter.mapper.config.reward else None
        self.adapter.observe(shown, observation, terminated, truncated, action=taken, valid=valid)
        return (
            observation,
            float(reward),
            terminated,
            truncated,
            info
            | {
                "action": executed.copy(),
                "belief": self.adapter.belief,
            },
        )

    def run(self, steps: int, *, seed: int | None = None) -> ServiceRun:
        """Let the adapter act for a number of steps from a reset on, resetting at the end of each episode.

        Raises:
            MetaMapError: ``steps`` or ``seed`` is no whole number, or below 1 or 0.
        """
        steps = read_whole("run: steps", steps, 1)
        self.reset(seed=None if seed is None else read_seed(seed, "run: seed"))
        rewards, beliefs = [], []
        for step in range(steps):
            _, reward, terminated, truncated, info = self.step()
            rewards.append(reward)
            beliefs.append(info["belief"])
            if (terminated or truncated) and step < steps - 1:
                self.reset()
        return ServiceRun(np.array(rewards), tuple(beliefs))
