"""Algorithms of Stable-Baselines3 as learners of streams, by fine-tuning on each task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from metamap_agents.runtime.storage import save_arrays
from metamap_agents.runtime.torch_state import global_generators_kept
from metamap_agents.sb3.rl_zoo import read_number
from metamap_agents.sb3.vec_env import FamilyVecEnv
from metamap_envs.env import FamilyEnv
from metamap_envs.errors import MetaMapError, one_line, unknown_name
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_envs.seeds import read_seed
from metamap_rl.bench.contract import Policy, check_rollout
from metamap_rl.bench.counted import CountedEnv
from metamap_rl.bench.sb3_settings import SB3Settings
from metamap_rl.stream.seeds import derive

__all__ = ["ALGORITHMS", "SB3Learner"]

ALGORITHMS = {
    **dict.fromkeys(("a2c", "ddpg", "ppo", "sac", "td3"), "stable_baselines3"),
    **dict.fromkeys(("ars", "crossq", "tqc", "trpo"), "sb3_contrib"),
}
"""Package of each algorithm for continuous actions, by lower-case name."""

_CLASSES = {"crossq": "CrossQ"}
_REFUSALS = (TypeError, ValueError, AssertionError, AttributeError, LookupError, RuntimeError)
"""Exceptions of SB3 for invalid settings."""


class SB3Learner:
    """Fine-tuning with an algorithm of Stable-Baselines3, one model per size of observations and actions.

    Independent of tasks: the policy for any task of an embodiment is its current model. State: the model, the
    statistics of ``normalize``, and the replay buffer of off-policy algorithms.

    Args:
        algorithm: one of `ALGORITHMS`.
        seed: seed of the model.
        n_envs: number of parallel environments.
        budget: environment steps on each task; checked to be enough for an update at the first task of an embodiment.
            None disables this check.
        settings: arguments of the algorithm, in the format of `SB3Settings`.

    Raises:
        MetaMapError: an unknown algorithm, an unknown or unsupported setting, or sb3-contrib is not installed.
    """

    def __init__(
        self, algorithm: str, *, seed: int, n_envs: int = 1, budget: int | None = None, **settings: Any
    ) -> None:
        seed = read_seed(seed)
        if algorithm not in ALGORITHMS:
            raise unknown_name("algorithm of Stable-Baselines3", algorithm, ALGORITHMS)
        try:
            module = import_module(ALGORITHMS[algorithm])
        except ImportError as error:
            raise MetaMapError(f"{algorithm} needs sb3-contrib: pip install 'metamap-rl[contrib]' ({error})") from error
        self._algorithm: type[BaseAlgorithm] = getattr(module, _CLASSES.get(algorithm, algorithm.upper()))
        self._settings = SB3Settings.read(self._algorithm, settings)
        self._n_envs = _whole(n_envs, f"{self._algorithm.__name__}: n_envs")
        self._name, self._seed, self._budget = algorithm, seed, budget
        self._models: dict[tuple[int, int], BaseAlgorithm] = {}
        self._normalizers: dict[tuple[int, int], VecNormalize] = {}
        self._env: tuple[gym.Env[Any, Any], _CountedVecEnv, VecEnv] | None = None
        self._asked = 0
        self._arrivals = self._calls = self._saved_up = 0

    def learn(self, env: gym.Env[Any, Any], steps: int) -> None:
        """See `StreamLearner`. Whole rollouts only: remaining steps are added to the next call on this task.

        Steps its own environments; the counter of ``env`` is updated.
        """
        if self._env is None or self._env[0] is not env:
            self._arrivals, self._saved_up, self._asked = self._arrivals + 1, 0, 0
            self._env = (env, *self._vectorised(env))
            self._model(env).set_env(self._env[2])
        model, stepped = self._model(env), self._env[1]
        self._asked += steps
        self._calls, self._saved_up = self._calls + 1, self._saved_up + steps
        rollout = _Rollout.of(model, env).steps
        if self._saved_up < rollout:
            return
        with global_generators_kept():
            set_random_seed(derive(self._seed, self._calls, "sb3"))
            while self._saved_up >= rollout:
                before = stepped.steps
                # Algorithms stop after total_timesteps is reached: start the last rollout only if it fits.
                model.learn(self._saved_up // rollout * rollout - rollout + 1, reset_num_timesteps=False)
                taken = stepped.steps - before
                self._saved_up -= taken
                if isinstance(env, CountedEnv):
                    env.steps += taken

    def policy(self, env: gym.Env[Any, Any], rollout: Rollout) -> Policy:
        """See `StreamLearner`: the current model; D is ignored."""
        return _Deterministic(self._model(env), self._normalizers.get(_sizes(env)))

    def check(self, env: gym.Env[Any, Any]) -> None:
        """Construct the model for the sizes of an environment, as for the first task.

        Raises:
            MetaMapError: invalid settings, or the algorithm would not learn within its budget.
        """
        self._model(env)

    @property
    def _remaining(self) -> float:
        """Remaining fraction of the steps on this task."""
        if self._env is None:
            return 1.0
        return max(0.0, 1 - self._env[1].steps / (self._budget or self._asked or 1))

    def save(self, folder: Path) -> None:
        """See `StreamLearner`: weights, optimisers, statistics, and the filled part of replay buffers."""
        for (observations, actions), model in self._models.items():
            arrays = dict(_arrays("", model.get_parameters()))
            if (normalizer := self._normalizers.get((observations, actions))) is not None:
                for name, statistics in (("observations", normalizer.obs_rms), ("returns", normalizer.ret_rms)):
                    if isinstance(statistics, RunningMeanStd):
                        arrays[f"normalize.{name}.mean"] = np.asarray(statistics.mean)
                        arrays[f"normalize.{name}.var"] = np.asarray(statistics.var)
            buffer = getattr(model, "replay_buffer", None)
            if buffer is not None:
                filled = buffer.buffer_size if buffer.full else buffer.pos
                for name in ("observations", "next_observations", "actions", "rewards", "dones"):
                    arrays[f"buffer.{name}"] = np.asarray(getattr(buffer, name)[:filled])
            save_arrays(folder / f"{observations}x{actions}.safetensors", arrays)

    def _model(self, env: gym.Env[Any, Any]) -> BaseAlgorithm:
        """The model for the sizes of an environment; constructed if missing."""
        sizes = _sizes(env)
        if sizes not in self._models:
            settings: dict[str, Any] = copy.deepcopy(self._settings.arguments)
            settings |= {key: self._falling(start) for key, start in self._settings.falling.items()}
            if (noise := self._settings.action_noise(sizes[1])) is not None:
                settings["action_noise"] = noise
            try:
                with global_generators_kept():
                    self._models[sizes] = self._algorithm(
                        env=self._vectorised(env)[1], seed=self._seed, device="cpu", verbose=0, **settings
                    )
            except _REFUSALS as error:
                name = self._algorithm.__name__
                raise MetaMapError(f"{name}: cannot be made with these settings ({one_line(error)})") from error
        self._check(self._models[sizes], env)
        return self._models[sizes]

    def _check(self, model: BaseAlgorithm, env: gym.Env[Any, Any]) -> None:
        """Raise an error for an algorithm that would not learn within the budget of a task."""
        if self._budget is None:
            return
        every: Any = getattr(model, "train_freq", None)
        if getattr(every, "unit", None) is TrainFrequencyUnit.EPISODE and self._n_envs > 1:
            raise MetaMapError(
                f"{self._name}: train_freq counts episodes, which goes with n_envs = 1, got {self._n_envs}"
            )
        found = _Rollout.of(model, env)
        check_rollout(self._name, found.setting, found.value, found.others, found.each, self._budget)
        whole = self._budget // found.steps * found.steps
        if (first := getattr(model, "learning_starts", 0)) >= whole:
            raise MetaMapError(
                f"{self._name}: learning_starts is {first}, and steps is {self._budget} for each task, of which whole "
                f"rollouts take {whole}, so it would not learn: expected learning_starts of at most {whole - 1}"
            )

    def _falling(self, start: float) -> Callable[[float], float]:
        """A schedule that decays to zero over the steps on a task; SB3's progress is that of a single call."""
        return lambda remaining: start * self._remaining

    def _vectorised(self, env: gym.Env[Any, Any]) -> tuple[_CountedVecEnv, VecEnv]:
        """The fast simulator with copies of the environment's task, and its wrapper for the model."""
        inner = env.unwrapped
        assert isinstance(inner, FamilyEnv), "a benchmark gives environments of families"
        seed = derive(self._seed, self._arrivals, "sb3-environments")
        counted = _CountedVecEnv([inner.task] * self._n_envs, seed, num_threads=1, dtype=np.float32)
        if self._settings.normalize is None:
            return counted, counted
        normalizer = VecNormalize(counted, **self._settings.normalize)
        if (before := self._normalizers.get(_sizes(env))) is not None:  # kept between tasks, like weights
            normalizer.obs_rms, normalizer.ret_rms = before.obs_rms, before.ret_rms
        self._normalizers[_sizes(env)] = normalizer
        return counted, normalizer


class _CountedVecEnv(FamilyVecEnv):
    """The fast simulator with a counter of steps over all environments."""

    steps = 0

    def step_wait(self) -> VecEnvStepReturn:
        """Step and count."""
        self.steps += self.num_envs
        return super().step_wait()


@dataclass(frozen=True)
class _Rollout:
    """Transitions collected before an update: at most ``value`` x ``each`` environment steps."""

    setting: str
    """Setting for its length."""
    value: int
    others: str
    """Description of the factor of ``value``."""
    each: int

    @property
    def steps(self) -> int:
        """Maximum number of environment steps."""
        return self.value * self.each

    @classmethod
    def of(cls, model: BaseAlgorithm, env: gym.Env[Any, Any]) -> _Rollout:
        """Rollout of a model on an environment of a family."""
        inner, envs = env.unwrapped, model.n_envs
        assert isinstance(inner, FamilyEnv), "a benchmark gives environments of families"
        horizon = get_family(inner.task.family).horizon
        if isinstance(model, OnPolicyAlgorithm):
            return cls("n_steps", model.n_steps, "n_envs", envs)
        if isinstance(model, OffPolicyAlgorithm):
            every: Any = model.train_freq  # a `TrainFreq`, constructed from the setting by the model
            if every.unit is TrainFrequencyUnit.EPISODE:
                return cls("train_freq", every.frequency, "n_envs x horizon", envs * horizon)
            return cls("train_freq", every.frequency, "n_envs", envs)
        search: Any = model  # augmented random search: episodes of 2 n_delta candidates, sequentially
        rounds = -(-search.n_eval_episodes // envs)
        return cls("n_delta", search.n_delta, "2 candidates' episodes", 2 * rounds * envs * horizon)


class _Deterministic:
    """A model's actions without noise."""

    def __init__(self, model: BaseAlgorithm, normalizer: VecNormalize | None) -> None:
        self._model, self._normalizer = model, normalizer

    def predict(self, observation: NDArray[np.float32], /) -> tuple[NDArray[Any], Any]:
        """See `Policy`."""
        if self._normalizer is not None:
            seen: Any = self._normalizer.normalize_obs(np.asarray(observation))
            observation = seen
        return self._model.predict(observation, deterministic=True)


def _sizes(env: gym.Env[Any, Any]) -> tuple[int, int]:
    """Sizes of observations and actions."""
    return _size(env.observation_space), _size(env.action_space)


def _whole(value: object, what: str) -> int:
    number = read_number(value, what)
    if number < 1 or number != int(number):
        raise MetaMapError(f"{what}: expected a whole number of at least 1, got {value!r}")
    return int(number)


def _size(space: gym.Space[Any]) -> int:
    assert isinstance(space, Box), "families have boxes"
    return int(np.prod(space.shape))


def _arrays(name: str, tree: object) -> Iterator[tuple[str, NDArray[Any]]]:
    """Tensors of nested dictionaries and lists, by path."""
    if isinstance(tree, torch.Tensor):
        yield name, tree.detach().numpy()
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _arrays(f"{name}.{key}".lstrip("."), value)
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _arrays(f"{name}.{index}".lstrip("."), value)
