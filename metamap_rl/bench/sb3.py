"""Any plain algorithm of Stable-Baselines3 as a learner of streams: it goes on training on each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from metamap_agents.sb3_vec_env import FamilyVecEnv
from metamap_agents.storage import save_arrays
from metamap_agents.torch_state import global_generators_kept
from metamap_envs.env import FamilyEnv
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.rollout import Rollout
from metamap_rl.bench.entry import Policy
from metamap_rl.stream.seeds import derive

__all__ = ["ALGORITHMS", "SB3Learner"]

ALGORITHMS = {
    **dict.fromkeys(("a2c", "ddpg", "ppo", "sac", "td3"), "stable_baselines3"),
    **dict.fromkeys(("ars", "crossq", "tqc", "trpo"), "sb3_contrib"),
}
"""The package of each algorithm for continuous actions, by its name in small letters."""

_CLASSES = {"crossq": "CrossQ"}


class SB3Learner:
    """Fine-tuning by an algorithm of Stable-Baselines3, one model per size of observations and actions.

    It knows nothing of tasks: the policy for any task of a robot is that robot's model as it is now. What it keeps is
    the model, and the replay buffer of those algorithms that have one.

    Args:
        algorithm: one of `ALGORITHMS`.
        seed: of the model.
        n_envs: environments that it trains on at once.
        settings: arguments of the algorithm.

    Raises:
        MetaMapError: an unknown algorithm, or sb3-contrib is not installed.
    """

    def __init__(self, algorithm: str, *, seed: int, n_envs: int = 1, **settings: Any) -> None:
        if algorithm not in ALGORITHMS:
            raise unknown_name("algorithm of Stable-Baselines3", algorithm, ALGORITHMS)
        try:
            module = import_module(ALGORITHMS[algorithm])
        except ImportError as error:
            raise MetaMapError(f"{algorithm} needs sb3-contrib: pip install 'metamap-rl[contrib]' ({error})") from error
        self._algorithm: type[BaseAlgorithm] = getattr(module, _CLASSES.get(algorithm, algorithm.upper()))
        self._seed, self._n_envs, self._settings = seed, n_envs, settings
        self._models: dict[tuple[int, int], BaseAlgorithm] = {}
        self._env: tuple[gym.Env[Any, Any], VecEnv] | None = None
        self._arrivals = self._calls = self._saved_up = 0

    def learn(self, env: gym.Env[Any, Any], steps: int) -> None:
        """See `StreamLearner`. Whole rollouts only: steps left over are saved up for the next call on this task."""
        if self._env is None or self._env[0] is not env:
            self._arrivals, self._saved_up = self._arrivals + 1, 0
            self._env = (env, self._vectorised(env))
            self._model(env).set_env(self._env[1])
        model = self._model(env)
        self._calls, self._saved_up = self._calls + 1, self._saved_up + steps
        rollout = self._n_envs * int(getattr(model, "n_steps", 1))
        whole = self._saved_up // rollout * rollout
        self._saved_up -= whole
        if whole:
            with global_generators_kept():
                set_random_seed(derive(self._seed, self._calls, "sb3"))
                model.learn(whole, reset_num_timesteps=False)

    def policy(self, env: gym.Env[Any, Any], rollout: Rollout) -> Policy:
        """See `StreamLearner`: the model as it is, whatever D is."""
        return _Deterministic(self._model(env))

    def save(self, folder: Path) -> None:
        """See `StreamLearner`: weights, the optimisers' state, and replay buffers as far as they are full."""
        for (observations, actions), model in self._models.items():
            arrays = dict(_arrays("", model.get_parameters()))
            buffer = getattr(model, "replay_buffer", None)
            if buffer is not None:
                filled = buffer.buffer_size if buffer.full else buffer.pos
                for name in ("observations", "next_observations", "actions", "rewards", "dones"):
                    arrays[f"buffer.{name}"] = np.asarray(getattr(buffer, name)[:filled])
            save_arrays(folder / f"{observations}x{actions}.safetensors", arrays)

    def _model(self, env: gym.Env[Any, Any]) -> BaseAlgorithm:
        """The model for the sizes of an environment, a new one if there is none yet."""
        sizes = (_size(env.observation_space), _size(env.action_space))
        if sizes not in self._models:
            settings = {"policy": "MlpPolicy", **self._settings}
            try:
                with global_generators_kept():
                    self._models[sizes] = self._algorithm(
                        env=self._vectorised(env), seed=self._seed, device="cpu", verbose=0, **settings
                    )
            except TypeError as error:
                name = self._algorithm.__name__
                raise MetaMapError(f"{name}: cannot be made with these settings ({error})") from error
        return self._models[sizes]

    def _vectorised(self, env: gym.Env[Any, Any]) -> VecEnv:
        """The fast simulator, with the environment's task in each place."""
        inner = env.unwrapped
        assert isinstance(inner, FamilyEnv), "a benchmark gives environments of families"
        seed = derive(self._seed, self._arrivals, "sb3-environments")
        return FamilyVecEnv([inner.task] * self._n_envs, seed, num_threads=1, dtype=np.float32)


class _Deterministic:
    """A model's actions without noise."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = model

    def predict(self, observation: NDArray[np.float32], /) -> tuple[NDArray[Any], Any]:
        """See `Policy`."""
        return self._model.predict(observation, deterministic=True)


def _size(space: gym.Space[Any]) -> int:
    assert isinstance(space, Box), "families have boxes"
    return int(np.prod(space.shape))


def _arrays(name: str, tree: object) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every tensor of nested dictionaries and lists, by its path."""
    if isinstance(tree, torch.Tensor):
        yield name, tree.detach().numpy()
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _arrays(f"{name}.{key}".lstrip("."), value)
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _arrays(f"{name}.{index}".lstrip("."), value)
