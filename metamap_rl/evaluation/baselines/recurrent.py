"""RL^2 (Duan et al. 2016): a recurrent policy, trained over a family, that adapts through its hidden state.

A trial is one task: some environment steps of exploration, then one full episode. The hidden state is kept throughout
the trial, across resets of the simulator; further inputs are the last action, the last reward and whether an episode
has just begun. Trained by sb3-contrib's RecurrentPPO (extra ``contrib``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from metamap_agents.policy.evaluation import run_episodes
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.runtime.seeds import EVALUATION_SEED, META_TASKS
from metamap_agents.runtime.torch_state import isolated_training
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.common.config import Amount, Config, Count, Positive, PositiveNumber, Share
from metamap_rl.training.config import LENGTHS

__all__ = ["RecurrentConfig", "RecurrentPolicy", "TrialVecEnv", "train_recurrent"]

Memory = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class RecurrentConfig(Config):
    """Settings of RL^2, with SB3's names."""

    called: ClassVar[str] = "RL^2 config"

    n_timesteps: Positive = 1_000_000
    """Environment steps, rounded up to whole rollouts."""
    n_envs: Positive = 32
    n_steps: Annotated[int, Ge(2)] = 128
    batch_size: Annotated[int, Ge(2)] = 512
    n_epochs: Positive = 5
    learning_rate: PositiveNumber = 5e-4
    """Initial learning rate, linear decay to zero."""
    gamma: Share = 0.98
    gae_lambda: Share = 0.95
    ent_coef: Amount = 0.0
    log_std_init: float = -1.0
    lstm_hidden_size: Positive = 64
    """Sizes of the LSTMs of actor and critic."""
    net_arch: tuple[Positive, ...] = (64,)
    """Hidden layers after each LSTM."""
    lengths: tuple[Count, ...] = LENGTHS
    """Environment steps of exploration; one drawn for each trial."""


@dataclass(frozen=True, eq=False)
class Units:
    """Scales of the recurrent policy's inputs."""

    normalizer: ObservationNormalizer
    reward_mean: float
    reward_std: float

    def inputs(
        self,
        observations: NDArray[Any],
        actions: NDArray[Any],
        rewards: NDArray[Any],
        begun: NDArray[Any],
        first: NDArray[Any],
    ) -> NDArray[np.float32]:
        """Inputs of the policy, float32 [N, O + A + 2]; last action and reward are 0 at the start of a trial.

        Args:
            observations: raw [N, O].
            actions: last actions [N, A].
            rewards: last rewards [N].
            begun: whether an episode has just begun [N].
            first: whether the trial has just begun [N].
        """
        earlier = np.where(first, 0.0, 1.0)[:, None]
        scaled = ((rewards - self.reward_mean) / self.reward_std)[:, None]
        parts = [self.normalizer.apply(observations), earlier * actions, earlier * scaled, begun[:, None]]
        return np.concatenate(parts, axis=1).astype(np.float32)


class TrialVecEnv(VecEnv):
    """N parallel trials, each with its own training task; a trial is an episode for SB3.

    All trials explore for the same number of environment steps, drawn for each batch of trials, and end together.

    Args:
        family_name: the family.
        units: scales of the inputs.
        num_envs: N.
        lengths: environment steps of exploration to draw from.
        seed: of tasks, lengths and episodes.
        num_threads: of the simulator.
    """

    def __init__(
        self, family_name: str, units: Units, num_envs: int, lengths: Sequence[int], seed: int, num_threads: int = 0
    ) -> None:
        seed = read_seed(seed)
        self.family = get_family(family_name)
        self._units = units
        self._lengths = tuple(lengths)
        self._generator = np.random.default_rng([seed, META_TASKS])
        self._draw = 0
        self._seed = seed
        self.envs = FamilyVectorEnv(
            self._tasks(num_envs), num_threads=num_threads, autoreset_mode=AutoresetMode.SAME_STEP
        )
        size = self.family.observation_size + self.family.action_size + 2
        self._actions: NDArray[Any] = np.zeros((num_envs, self.family.action_size))
        self._returns = np.zeros(num_envs)
        self._elapsed, self._explore = 0, 0
        self.render_mode = None
        super().__init__(num_envs, Box(-np.inf, np.inf, (size,), np.float32), self.envs.single_action_space)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks of the current trials."""
        return self.envs.tasks

    def _tasks(self, count: int) -> list[Task]:
        self._draw += 1
        return self.family.sample("train", count, np.random.default_rng([self._seed, META_TASKS, self._draw]))

    def reset(self) -> NDArray[np.float32]:
        """Start N new trials, on new tasks."""
        return self._begin(seed=self._seed)

    def _begin(self, seed: int | None = None) -> NDArray[np.float32]:
        observations, _ = self.envs.reset(seed=seed, options={"tasks": self._tasks(self.num_envs)})
        self._elapsed, self._explore = 0, int(self._generator.choice(self._lengths))
        self._returns[:] = 0.0
        yes = np.ones(self.num_envs)
        return self._units.inputs(observations, self._actions, np.zeros(self.num_envs), yes, yes)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Store the actions for `step_wait`."""
        self._actions = np.clip(actions, -1.0, 1.0)

    def step_wait(self) -> VecEnvStepReturn:
        """Step; start the episode at the end of exploration, and new trials at the end of the episode."""
        observations, rewards, terminated, truncated, _ = self.envs.step(self._actions)
        begun = terminated | truncated
        self._elapsed += 1
        if self._elapsed > self._explore:
            self._returns += rewards
        if self._elapsed == self._explore:
            observations, _ = self.envs.reset()
            begun = np.ones(self.num_envs, dtype=np.bool_)
        later = np.zeros(self.num_envs)
        seen = self._units.inputs(observations, self._actions, rewards, begun, later)
        ended = self._elapsed == self._explore + self.envs.horizon
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended:
            length = self._elapsed
            for index, info in enumerate(infos):
                info["terminal_observation"] = seen[index]
                info["TimeLimit.truncated"] = True
                info["episode"] = {"r": float(self._returns[index]), "l": length, "t": 0.0}
            seen = self._begin()
        return seen, rewards.astype(np.float32), np.full(self.num_envs, ended), infos

    def close(self) -> None:
        """Release the simulator."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Attribute of the simulator, once for each trial."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not possible: the trials are rows of one simulator."""
        raise AttributeError(f"cannot set {attr_name!r}: the trials are rows of one simulator")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Not possible: the trials are rows of one simulator."""
        raise AttributeError(f"cannot call {method_name!r}: the trials are rows of one simulator")

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> list[bool]:
        """Never."""
        return [False for _ in self._get_indices(indices)]


@dataclass(frozen=True, eq=False)
class RecurrentPolicy:
    """A trained recurrent policy.

    Attributes:
        policy: policy of SB3.
        units: scales of its inputs.
        steps: environment steps of training.
    """

    policy: Any
    units: Units
    steps: int

    def measure(
        self,
        tasks: Sequence[Task],
        lengths: Sequence[int],
        *,
        episodes: int,
        seed: int,
        num_threads: int = 0,
    ) -> dict[int, NDArray[np.float64]]:
        """Returns [T, E] of episodes after k environment steps of exploration with noise, by k.

        Args:
            tasks: T tasks.
            lengths: values of k.
            episodes: episodes per task, on the reset seeds of all methods.
            seed: seed of the exploration.
            num_threads: of the simulator.
        """
        seed = read_seed(seed)
        with isolated_training(seed):
            states = self._explore(tasks, lengths, seed, num_threads)
            return {length: self._episodes(tasks, state, episodes, num_threads) for length, state in states.items()}

    def _explore(
        self, tasks: Sequence[Task], lengths: Sequence[int], seed: int, num_threads: int
    ) -> dict[int, tuple[Memory | None, NDArray[Any], NDArray[Any]]]:
        """Hidden state, last actions and last rewards after each length."""
        count = len(tasks)
        envs = FamilyVectorEnv(tasks, num_threads=num_threads, autoreset_mode=AutoresetMode.SAME_STEP)
        observations, _ = envs.reset(seed=seed)
        memory: Memory | None = None
        actions, rewards = np.zeros((count, envs.family.action_size)), np.zeros(count)
        begun, found = np.ones(count, dtype=np.bool_), {}
        for step in range(max(lengths) + 1):
            if step in lengths:
                found[step] = (memory, actions, rewards)
            if step == max(lengths):
                break
            first = np.full(count, step == 0)
            seen = self.units.inputs(observations, actions, rewards, begun, first)
            chosen, memory = self.policy.predict(seen, memory, first, deterministic=False)
            actions = np.clip(chosen, -1.0, 1.0)
            observations, rewards, terminated, truncated, _ = envs.step(actions)
            begun = terminated | truncated
        envs.close()
        return found

    def _episodes(
        self,
        tasks: Sequence[Task],
        state: tuple[Memory | None, NDArray[Any], NDArray[Any]],
        episodes: int,
        num_threads: int,
    ) -> NDArray[np.float64]:
        """Returns [T, E] of full episodes that start from the same hidden state."""
        memory, actions, rewards = state
        nothing = memory is None
        if memory is not None:
            memory = (np.repeat(memory[0], episodes, axis=1), np.repeat(memory[1], episodes, axis=1))
        last = {"actions": np.repeat(actions, episodes, axis=0), "rewards": np.repeat(rewards, episodes)}
        step = 0

        def act(observations: NDArray[np.float64]) -> NDArray[Any]:
            nonlocal memory, step
            count = len(last["rewards"])
            begun, first = np.full(count, step == 0), np.full(count, step == 0 and nothing)
            raw = observations.reshape(count, -1)
            seen = self.units.inputs(raw, last["actions"], last["rewards"], begun, first)
            chosen, memory = self.policy.predict(seen, memory, first, deterministic=True)
            last["actions"] = np.clip(chosen, -1.0, 1.0)
            step += 1
            return last["actions"].reshape(*observations.shape[:2], -1)

        def remember(rewards: NDArray[np.float64]) -> None:
            last["rewards"] = rewards.reshape(-1)

        found = run_episodes(tasks, act, episodes, EVALUATION_SEED, num_threads=num_threads, on_rewards=remember)
        return found.returns


def train_recurrent(
    family_name: str,
    normalizer: ObservationNormalizer,
    rewards: NDArray[Any],
    config: RecurrentConfig,
    *,
    seed: int,
    num_threads: int = 0,
    on_progress: Callable[[int, int, dict[str, float]], None] | None = None,
) -> RecurrentPolicy:
    """Train a recurrent policy over a family's training tasks.

    Args:
        family_name: the family.
        normalizer: normaliser of observations.
        rewards: sample rewards of the family, for the scale of the last reward.
        config: settings.
        seed: seed of tasks, weights and episodes.
        num_threads: threads of the simulator; 0 uses all cores. Torch uses one.
        on_progress: called with (environment steps done, total, metrics).

    Raises:
        MetaMapError: sb3-contrib is not installed.
    """
    seed = read_seed(seed)
    units = Units(normalizer, float(np.mean(rewards)), float(np.std(rewards)) or 1.0)
    trials = TrialVecEnv(family_name, units, config.n_envs, config.lengths, seed, num_threads)
    envs = VecNormalize(trials, norm_obs=False, gamma=config.gamma)
    with isolated_training(seed):
        model = _recurrent_ppo()(
            "MlpLstmPolicy",
            envs,
            learning_rate=lambda remaining: remaining * config.learning_rate,
            n_steps=config.n_steps,
            batch_size=config.batch_size,
            n_epochs=config.n_epochs,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            ent_coef=config.ent_coef,
            policy_kwargs={
                "net_arch": {"pi": list(config.net_arch), "vf": list(config.net_arch)},
                "lstm_hidden_size": config.lstm_hidden_size,
                "log_std_init": config.log_std_init,
            },
            seed=seed,
            device="cpu",
        )
        model.learn(config.n_timesteps, callback=_Report(on_progress, config.n_timesteps))
    envs.close()
    return RecurrentPolicy(model.policy, units, model.num_timesteps)


def _recurrent_ppo() -> Callable[..., Any]:
    try:
        found: Callable[..., Any] = import_module("sb3_contrib").RecurrentPPO
    except ModuleNotFoundError as error:
        if error.name != "sb3_contrib":
            raise
        raise MetaMapError("RL^2 needs sb3-contrib: pip install 'metamap-rl[contrib]'") from None
    return found


class _Report(BaseCallback):
    """Callback of SB3 that reports progress to a function."""

    def __init__(self, on_progress: Callable[[int, int, dict[str, float]], None] | None, total: int) -> None:
        super().__init__()
        self._on_progress = on_progress
        self._total = total

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self._on_progress is None:
            return
        returns = [float(episode["r"]) for episode in self.model.ep_info_buffer or ()]
        metrics = {"return": float(np.mean(returns))} if returns else {}
        self._on_progress(min(self.num_timesteps, self._total), self._total, metrics)
