"""Adaptation in service behind Stable-Baselines3's ``predict``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from metamap_agents.policy.acting import check_box
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.spaces import action_space, observation_space
from metamap_envs.values import one_number, read_flags, read_numbers, shown
from metamap_rl.adaptation.bundled import find_mapper
from metamap_rl.adaptation.service.config import AdapterConfig
from metamap_rl.adaptation.service.vector import VectorAdapter
from metamap_rl.mapper.mapper import Mapper

__all__ = ["AdaptivePolicy", "ServiceState"]

Floats = NDArray[np.float32]
RewardFunction = Callable[[Floats, Floats, Floats], "float | NDArray[Any]"]
"""Reward of one transition: (observation [O], action [A], next observation [O])."""


class ServiceState:
    """The recurrent state of an `AdaptivePolicy`: the adapters, and the last step. Opaque to SB3.

    Args:
        adapters: one for each environment.
    """

    def __init__(self, adapters: VectorAdapter) -> None:
        self.adapters = adapters
        self.observations: Floats | None = None
        self.actions: Floats | None = None
        self.observed = False
        """Whether the outcome of the last actions is stored already, by `AdaptivePolicy.watched`."""


class AdaptivePolicy:
    """A policy that follows changes of its task, with the signature of SB3's ``predict``.

    The state that `predict` returns holds the adapters; pass it to the next call. It is updated in place. SB3 shows a
    policy no rewards. There are three ways to a reward:

    * a mapper trained with ``reward: false`` needs none;
    * ``reward`` is a known formula;
    * ``evaluate_policy(policy, policy.watched(venv))``: the wrapped `VecEnv` passes rewards, and the last observations
      of episodes, on to the adapters.

    Args:
        mapper: a mapper, its folder, or the name of a family with a bundled one.
        config: settings of the adapters.
        reward: reward of a transition, from (observation, action, next observation); default none.
    """

    def __init__(
        self, mapper: Mapper | str | Path, config: AdapterConfig | None = None, *, reward: RewardFunction | None = None
    ) -> None:
        self.mapper = mapper if isinstance(mapper, Mapper) else find_mapper(mapper)[0]
        if reward is not None and not callable(reward):
            raise MetaMapError(
                f"reward: expected a function of (observation, action, next observation), got {shown(reward)}"
            )
        self.config = config
        self.reward = reward
        family = get_family(self.mapper.family)
        self.observation_space = observation_space(family)
        self.action_space = action_space(family)
        self._state: ServiceState | None = None

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: Any = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[Floats, Any]:
        """Observe the last step, then return actions and the new state.

        Args:
            observation: [O] or [N, O].
            state: of the last call; None for new adapters, without a history.
            episode_start: bool [N], True where the observation is the first of an episode; default: nowhere.
            deterministic: must be True.

        Returns:
            Actions [A] or [N, A], and the state.

        Raises:
            MetaMapError: another shape, ``deterministic=False``, a state of another number of environments, or no way
                to a reward for a mapper that uses rewards.
        """
        if not deterministic:
            raise MetaMapError("predict: expected deterministic=True, adapters act deterministically")
        if isinstance(observation, dict | tuple):
            raise MetaMapError(f"observation: expected one array, got a {type(observation).__name__}")
        size = self.mapper.base.spec.observation_size
        try:
            shape = np.shape(observation)
        except ValueError:  # ragged
            shape = ()
        if len(shape) not in (1, 2) or shape[-1] != size:
            raise MetaMapError(f"observation: expected shape ({size},) or (environments, {size}), got {shape}")
        rows = np.atleast_2d(read_numbers("observation", observation, shape))
        if state is None:
            state = self._state = ServiceState(VectorAdapter(self.mapper, len(rows), self.config))
            starts = np.ones(len(rows), dtype=np.bool_)
        else:
            starts = self._starts(state, episode_start, len(rows))
        self._observe(state, rows, starts)
        state.adapters.reset(rows, starts)
        actions = state.adapters.act(rows)
        state.observations, state.actions, state.observed = rows, actions, False
        return (actions[0] if len(shape) == 1 else actions), state

    def _starts(self, state: object, episode_start: NDArray[Any] | None, count: int) -> NDArray[np.bool_]:
        if not isinstance(state, ServiceState):
            raise MetaMapError(f"predict: state: expected that of the last call, got {type(state).__name__}")
        if state.adapters.num_envs != count:
            raise MetaMapError(
                f"predict: expected {state.adapters.num_envs} observations, as in its state, got {count}"
            )
        self._state = state
        if episode_start is None:
            return np.zeros(count, dtype=np.bool_)
        starts = [episode_start] * count if np.ndim(episode_start) == 0 else episode_start  # as of a single environment
        return read_flags("episode_start", starts, count)

    def _observe(self, state: ServiceState, rows: Floats, starts: NDArray[np.bool_]) -> None:
        """Pass the last step on to the adapters; where an episode has started since, its outcome was not seen."""
        if state.observed or state.observations is None or state.actions is None:
            return
        if self.reward is None and self.mapper.config.reward:
            raise MetaMapError(
                "predict: this mapper uses rewards, which predict is not given: evaluate in policy.watched(venv), pass "
                "reward=, or train a mapper with reward: false"
            )
        for index in np.flatnonzero(~starts):
            before, action, after = state.observations[index], state.actions[index], rows[index]
            reward = None if self.reward is None else one_number("reward", self.reward(before, action, after))
            state.adapters.adapters[index].observe(reward, after)

    def watched(self, venv: VecEnv) -> VecEnv:
        """Wrap an SB3 `VecEnv`, so that rewards and last observations reach the adapters that act in it.

        Raises:
            MetaMapError: its spaces are not the family's, or `VecNormalize` changes units that the mapper reads.
        """
        inner = venv
        while isinstance(inner, VecEnvWrapper):
            if isinstance(inner, VecNormalize) and (inner.norm_obs or inner.norm_reward):
                raise MetaMapError("watched: VecNormalize changes the units of what the mapper reads: watch its .venv")
            inner = inner.venv
        check_box("observation_space", venv.observation_space, self.mapper.base.spec.observation_size)
        check_box("action_space", venv.action_space, self.mapper.base.spec.action_size)
        return _WatchedVecEnv(venv, self)


class _WatchedVecEnv(VecEnvWrapper):
    """Passes each step on to the adapters of a policy."""

    def __init__(self, venv: VecEnv, policy: AdaptivePolicy) -> None:
        super().__init__(venv)
        self._policy = policy

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        state = self._policy._state
        if state is not None and not state.observed and state.adapters.num_envs == self.num_envs:
            last = np.array(observations, dtype=np.float32)
            truncated = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
            for index in np.flatnonzero(dones):
                last[index] = infos[index]["terminal_observation"]
            valid = np.array([not info.get("diverged", False) for info in infos])
            state.adapters.observe(rewards, last, dones & ~truncated, truncated, valid=valid)
            state.observed = True
        return observations, rewards, dones, infos
