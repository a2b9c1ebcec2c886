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
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from metamap_agents.runtime.storage import save_arrays
from metamap_agents.runtime.torch_state import global_generators_kept
from metamap_agents.sb3.rl_zoo import read_number
from metamap_envs.errors import MetaMapError, one_line, unknown_name
from metamap_envs.seeds import read_seed
from metamap_rl.bench.contract import Policy, Transitions, check_rollout
from metamap_rl.bench.sb3_settings import SB3Settings
from metamap_rl.bench.worlds import CountedEnv, World
from metamap_rl.stream.seeds import derive

__all__ = ["ALGORITHMS", "SB3Learner"]

ALGORITHMS = {
    **dict.fromkeys(("a2c", "ddpg", "dqn", "ppo", "sac", "td3"), "stable_baselines3"),
    **dict.fromkeys(("ars", "crossq", "qrdqn", "tqc", "trpo"), "sb3_contrib"),
}
"""Package of each algorithm, by lower-case name."""

_CLASSES = {"crossq": "CrossQ", "qrdqn": "QRDQN"}
_REFUSALS = (TypeError, ValueError, AssertionError, AttributeError, LookupError, RuntimeError)
"""Exceptions of SB3 for invalid settings."""


class SB3Learner:
    """Fine-tuning with an algorithm of Stable-Baselines3, one model for each pair of spaces.

    Independent of tasks: the policy for any task with these spaces is the current model. State: the model, the
    statistics of ``normalize``, and the replay buffer of off-policy algorithms.

    Args:
        algorithm: one of `ALGORITHMS`.
        seed: seed of the model.
        n_envs: number of parallel environments.
        budget: environment steps on each task; checked to be enough for an update at the first task of an embodiment.
            None disables this check.
        buffer_cleared: whether the replay buffer is emptied when a task arrives.
        settings: arguments of the algorithm, in the format of `SB3Settings`.

    Raises:
        MetaMapError: an unknown algorithm, an unknown or unsupported setting, or sb3-contrib is not installed.
    """

    def __init__(
        self,
        algorithm: str,
        *,
        seed: int,
        n_envs: int = 1,
        budget: int | None = None,
        buffer_cleared: bool = False,
        **settings: Any,
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
        if buffer_cleared and not issubclass(self._algorithm, OffPolicyAlgorithm):
            raise MetaMapError(f"{algorithm} has no replay buffer: carry: weights is the same as carry: all, use that")
        self._buffer_cleared = buffer_cleared
        self._slots: list[_Slot] = []
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
            model = self._model(env)
            model.set_env(self._env[2])
            if self._buffer_cleared and isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
                model.replay_buffer.reset()
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

    def policy(self, env: gym.Env[Any, Any], rollout: Transitions) -> Policy:
        """See `StreamLearner`: the current model; D is ignored."""
        return _Deterministic(self._model(env), self._slot(env).normalizer)

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
        for number, slot in enumerate(self._slots):
            model, normalizer = slot.model, slot.normalizer
            if model is None:
                continue
            arrays = dict(_arrays("", model.get_parameters()))
            if normalizer is not None:
                for name, statistics in (("observations", normalizer.obs_rms), ("returns", normalizer.ret_rms)):
                    if isinstance(statistics, RunningMeanStd):
                        arrays[f"normalize.{name}.mean"] = np.asarray(statistics.mean)
                        arrays[f"normalize.{name}.var"] = np.asarray(statistics.var)
            buffer = getattr(model, "replay_buffer", None)
            if buffer is not None:
                filled = buffer.buffer_size if buffer.full else buffer.pos
                for name in ("observations", "next_observations", "actions", "rewards", "dones"):
                    arrays[f"buffer.{name}"] = np.asarray(getattr(buffer, name)[:filled])
            save_arrays(folder / f"{number}.safetensors", arrays)

    def _slot(self, env: gym.Env[Any, Any]) -> _Slot:
        """What is kept for the spaces of an environment."""
        for slot in self._slots:
            if (slot.observations, slot.actions) == (env.observation_space, env.action_space):
                return slot
        self._slots.append(_Slot(env.observation_space, env.action_space))
        return self._slots[-1]

    def _model(self, env: gym.Env[Any, Any]) -> BaseAlgorithm:
        """The model for the spaces of an environment; constructed if missing."""
        slot = self._slot(env)
        if slot.model is None:
            settings: dict[str, Any] = copy.deepcopy(self._settings.arguments)
            settings |= {key: self._falling(start) for key, start in self._settings.falling.items()}
            if (noise := self._settings.action_noise(_size(env.action_space))) is not None:
                settings["action_noise"] = noise
            try:
                with global_generators_kept():
                    slot.model = self._algorithm(
                        env=self._vectorised(env)[1], seed=self._seed, device="cpu", verbose=0, **settings
                    )
            except _REFUSALS as error:
                name = self._algorithm.__name__
                raise MetaMapError(f"{name}: cannot be made with these settings ({one_line(error)})") from error
            if hasattr(slot.model, "exploration_schedule"):  # of DQN: epsilon falls anew on each task, as rates do
                setattr(slot.model, "_update_current_progress_remaining", self._note_progress(slot.model))  # noqa: B010
        self._check(slot.model, env)
        return slot.model

    def _note_progress(self, model: BaseAlgorithm) -> Callable[[int, int], None]:
        """In place of SB3's progress, which is that of a single call."""

        def note(num_timesteps: int, total_timesteps: int) -> None:
            model._current_progress_remaining = self._remaining

        return note

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
        """Copies of the environment's world, and their wrapper for the model."""
        seed = derive(self._seed, self._arrivals, "sb3-environments")
        counted = _CountedVecEnv(_world(env).copies(self._n_envs, seed))
        if self._settings.normalize is None:
            return counted, counted
        normalizer, slot = VecNormalize(counted, **self._settings.normalize), self._slot(env)
        if (before := slot.normalizer) is not None:  # kept between tasks, like weights
            normalizer.obs_rms, normalizer.ret_rms = before.obs_rms, before.ret_rms
        slot.normalizer = normalizer
        return counted, normalizer


@dataclass
class _Slot:
    """What is kept for one pair of spaces."""

    observations: gym.Space[Any]
    actions: gym.Space[Any]
    model: BaseAlgorithm | None = None
    normalizer: VecNormalize | None = None


class _CountedVecEnv(VecEnvWrapper):
    """A counter of steps over all environments."""

    steps = 0

    def reset(self) -> VecEnvObs:
        """As of the environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Step and count."""
        self.steps += self.num_envs
        return self.venv.step_wait()


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
        """Rollout of a model on an environment."""
        horizon, envs = _world(env).horizon, model.n_envs
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


def _world(env: gym.Env[Any, Any]) -> World:
    assert isinstance(env, CountedEnv), "a benchmark gives counted environments"
    return env.world


def _whole(value: object, what: str) -> int:
    number = read_number(value, what)
    if number < 1 or number != int(number):
        raise MetaMapError(f"{what}: expected a whole number of at least 1, got {value!r}")
    return int(number)


def _size(space: gym.Space[Any]) -> int:
    """Number of actions, for noise."""
    return int(np.prod(space.shape or (1,)))


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
