"""The batched simulator as a Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from metamap_agents.policy.normalizer import Normalizer
from metamap_envs.options import TASK_OPTIONS, check_options, read_task
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

__all__ = ["FamilyVecEnv"]


class FamilyVecEnv(VecEnv):
    """N environments of one family for SB3 algorithms, each with its own task.

    SB3's contract is not Gymnasium's: an ended episode is reset in the same step, its last observation is in
    ``info["terminal_observation"]``, a time limit in ``info["TimeLimit.truncated"]``, and, as `Monitor` would do it,
    the episode's return, length and time are in ``info["episode"]``. Observations are float32, which is what SB3
    computes in.

    Args:
        tasks: one task per environment, all of one family.
        seed: environment i's first reset is seeded with ``seed + i``.
        normalizer: frozen observation normaliser to apply; None gives raw observations.
        num_threads: threads of the simulator; 0 takes all cores.
        dtype: of observations. By default that of the single environments, so that a policy loaded from one of their
            zips goes on training here; SB3 computes in float32 either way.
        simulator: makes the vector environment; takes the tasks, ``num_threads`` and ``autoreset_mode``.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        seed: int,
        normalizer: Normalizer | None = None,
        num_threads: int = 0,
        dtype: type[np.floating[Any]] = np.float64,
        simulator: Callable[..., FamilyVectorEnv] = FamilyVectorEnv,
    ) -> None:
        seed = read_seed(seed)
        self.envs = simulator(tasks, num_threads=num_threads, autoreset_mode=AutoresetMode.SAME_STEP)
        self._normalizer = normalizer
        self._actions: NDArray[Any] | None = None
        self._started = time.perf_counter()
        self._returns = np.zeros(len(tasks))
        self._lengths = np.zeros(len(tasks), dtype=np.int64)
        self.render_mode = None
        shape = self.envs.single_observation_space.shape
        super().__init__(len(tasks), Box(-np.inf, np.inf, shape, dtype), self.envs.single_action_space)
        self.seed(seed)

    def _observe(self, observations: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        if self._normalizer is not None:
            observations = self._normalizer.apply(observations)
        return observations.astype(self.observation_space.dtype)

    def reset(self) -> VecEnvObs:
        """Start new episodes everywhere; seeds given by `seed` and options by `set_options` are used once.

        Options of an environment may hold ``task`` or ``parameters``: its task from here on.

        Raises:
            MetaMapError: another option, or a task that the family does not admit.
        """
        seeds = [int(seed) if seed is not None else None for seed in self._seeds]
        observations, infos = self.envs.reset(seed=seeds, options=self._new_tasks())
        self.reset_infos = [{"task": task} for task in infos["task"]]
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return self._observe(observations)

    def _new_tasks(self) -> dict[str, Any] | None:
        if not any(self._options):
            return None
        for options in self._options:
            check_options(options, TASK_OPTIONS)
        family = self.envs.family
        return {
            "tasks": [
                read_task(family, options) or task for options, task in zip(self._options, self.envs.tasks, strict=True)
            ]
        }

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and reset environments whose episode ended."""
        assert self._actions is not None, "step_wait() follows step_async()"
        observations, rewards, terminated, truncated, gym_infos = self.envs.step(self._actions)
        dones = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            self._close_episodes(infos, dones, truncated & ~terminated, gym_infos)
        return self._observe(observations), rewards.astype(np.float32), dones, infos

    def _close_episodes(
        self,
        infos: list[dict[str, Any]],
        dones: NDArray[np.bool_],
        timed_out: NDArray[np.bool_],
        gym_infos: dict[str, Any],
    ) -> None:
        last, tasks = gym_infos["final_obs"], gym_infos["final_info"]["task"]
        seconds = round(time.perf_counter() - self._started, 6)
        for index in np.flatnonzero(dones):
            infos[index] = {
                "terminal_observation": self._observe(last[index][None])[0],
                "TimeLimit.truncated": bool(timed_out[index]),
                "episode": {"r": float(self._returns[index]), "l": int(self._lengths[index]), "t": seconds},
                "task": tasks[index],
            }
        self._returns[dones] = 0.0
        self._lengths[dones] = 0

    def __copy__(self) -> FamilyVecEnv:
        """Return an independent copy."""
        return copy.deepcopy(self)

    def close(self) -> None:
        """Release the simulator."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Attribute of the vector environment, once per environment; "task" gives each its own."""
        if attr_name == "task":
            return [self.envs.tasks[index] for index in self._get_indices(indices)]
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not possible: the environments are rows of one simulator.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"cannot set {attr_name!r}: the environments are rows of one simulator; make a new one")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Not possible: the environments are rows of one simulator.

        Raises:
            AttributeError: always.
        """
        raise AttributeError(f"cannot call {method_name!r}: the environments are rows of one simulator")

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> list[bool]:
        """Whether a wrapper is around each environment: never, but episode statistics are reported anyway."""
        return [False for _ in self._get_indices(indices)]
