"""Whether a family is fit for training: checkers, speed, and whether policies should differ between tasks."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env as check_by_gymnasium
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_by_sb3

from metamap_agents.policy.evaluation import clearly_better
from metamap_envs.errors import one_line
from metamap_envs.family import Family
from metamap_envs.family_spaces import FamilySpaces
from metamap_envs.from_gymnasium.family import GymnasiumFamily
from metamap_envs.seeds import read_seed
from metamap_envs.sensitivity import parameter_values, run_actions
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv

__all__ = ["CheckerReport", "PolicyDifference", "check_environment", "measure_difference", "step_seconds"]

_TIMED = 16  # environments
_STARTS = 8  # an even number: one half chooses, the other half measures
_SAMPLED = 4  # training tasks beside the ends of the ranges
_MOST_ENDS = 8  # parameters whose ends are tasks
_STEPS = 100  # longest episode
_BUDGET = 100_000  # environment steps
_FEWEST, _MOST = 8, 32  # policies
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


# checkers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckerReport:
    """What a library's checker of environments says.

    Attributes:
        checker: whose it is.
        error: why it refuses the environment; "" if it does not.
        warnings: what it advises against.
    """

    checker: str
    error: str
    warnings: tuple[str, ...]


def check_environment(family: Family) -> list[CheckerReport]:
    """Run Gymnasium's checker on a family's environment, and Stable-Baselines3's on what policies see of it."""
    return [
        _report("Gymnasium", lambda: check_by_gymnasium(_own(family).unwrapped, skip_render_check=True)),
        _report("Stable-Baselines3", lambda: check_by_sb3(FamilySpaces(_own(family), family), skip_render_check=True)),
    ]


def _own(family: Family) -> gym.Env:
    """The environment at its own values: the user's own one where the family is declared."""
    if isinstance(family, GymnasiumFamily):
        return family.make(family.task())
    return gym.make(family.gym_id, task=family.task(), disable_env_checker=True)


def _report(checker: str, check: Callable[[], object]) -> CheckerReport:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            check()
            error = ""
        except Exception as problem:  # noqa: BLE001  # of the checker, or of the environment's own code
            error = one_line(problem) or type(problem).__name__
    texts = (_COLOURS.sub("", one_line(each.message)) for each in found if isinstance(each.message, Warning))
    told = tuple(dict.fromkeys(re.sub(r"^(WARN|ERROR): ", "", text) for text in texts))
    return CheckerReport(checker, _COLOURS.sub("", error), told)


# speed ----------------------------------------------------------------------------------------------------------------


def step_seconds(family: Family, seed: int = 0) -> float:
    """Seconds of a step of one environment with random actions, among 16 that are stepped together."""
    seed = read_seed(seed)
    tasks = family.sample("train", _TIMED, seed)
    started = time.perf_counter()
    steps = len(run_actions(family, tasks, starts=1, seed=seed).rewards)
    return (time.perf_counter() - started) / (steps * len(tasks))


# whether policies should differ ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PolicyDifference:
    """Random policies chosen for each task, beside the one that is best over all tasks.

    Attributes:
        policies: number of random policies.
        tasks: number of tasks: the ends of the training ranges, and some training tasks.
        own: mean return of the policies chosen for each task, on other starts than those that chose.
        shared: mean return of the policy that is best over all tasks, on the same starts.
        differs: whether ``own`` is clearly better in a paired test over starts.
    """

    policies: int
    tasks: int
    own: float
    shared: float
    differs: bool

    def sentence(self) -> str:
        """The finding in words."""
        chosen = (
            f"of {self.policies} random linear policies on {self.tasks} tasks, the best for each task returns "
            f"{self.own:.4g} on average, the best for all {self.shared:.4g}"
        )
        if self.differs:
            return f"yes: {chosen}"
        return f"not seen: {chosen}; trained policies may still differ, `metamap build` tells after the experts"


def measure_difference(family: Family, *, seed: int = 0) -> PolicyDifference:
    """Search random policies for a task, and one for all tasks, by the same number of episodes.

    What a policy is chosen by and what it is measured by are different starts, so that luck does not count.

    Args:
        family: the family.
        seed: of tasks, policies and starts.

    Raises:
        MetaMapError: what an environment returns cannot be used.
    """
    seed = read_seed(seed)
    tasks = _tasks(family, seed)
    envs = FamilyVectorEnv([task for task in tasks for _ in range(_STARTS)], autoreset_mode=AutoresetMode.SAME_STEP)
    generator = np.random.default_rng(seed)
    steps = min(family.horizon, _STEPS)
    count = int(np.clip(_BUDGET // (steps * envs.num_envs), _FEWEST, _MOST))
    mean, std = _observed(family, tasks, seed)
    returns = np.stack([_run(envs, _policy(family, mean, std, generator), steps, seed) for _ in range(count)])
    envs.close()
    return _compared(returns.reshape(count, len(tasks), _STARTS))


def _tasks(family: Family, seed: int) -> list[Task]:
    """Ends of the training range of each parameter, all others at their defaults; then some training tasks."""
    found = family.sample("train", _SAMPLED, seed)
    for parameter in family.space.parameters[:_MOST_ENDS]:
        values = [end for interval in parameter.train for end in interval] or list(parameter_values(parameter, 2))
        found += [family.task({parameter.name: value}) for value in (min(values), max(values))]
    return list({task.id: task for task in found}.values())


def _observed(family: Family, tasks: Sequence[Task], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each observation under random actions."""
    run = run_actions(family, tasks, starts=1, seed=seed)
    seen = run.observations[1:][run.alive]
    std = seen.std(axis=0)
    return seen.mean(axis=0), np.where(std > 0, std, 1.0)


Act = Callable[[NDArray[np.float64]], NDArray[np.float32]]


def _policy(family: Family, mean: NDArray[np.float64], std: NDArray[np.float64], generator: np.random.Generator) -> Act:
    """A random linear policy of standardised observations."""
    low, high = family.action_range
    weights = generator.normal(0.0, 2.0 / np.sqrt(mean.size), (mean.size, family.action_size))
    bias = generator.normal(0.0, 0.3, family.action_size)

    def act(seen: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.clip(((seen - mean) / std) @ weights + bias, low, high).astype(np.float32)

    return act


def _run(envs: FamilyVectorEnv, act: Act, steps: int, seed: int) -> NDArray[np.float64]:
    """Returns [N] of the first episode in each environment, cut after so many steps."""
    seen, _ = envs.reset(seed=[seed + index % _STARTS for index in range(envs.num_envs)])
    returns, running = np.zeros(envs.num_envs), np.ones(envs.num_envs, dtype=np.bool_)
    for _ in range(steps):
        seen, rewards, terminated, truncated, _ = envs.step(act(seen))
        returns += rewards * running
        running &= ~(terminated | truncated)
        if not running.any():
            break
    return returns


def _compared(returns: NDArray[np.float64]) -> PolicyDifference:
    """Choose on one half of the starts and measure on the other, both ways; returns [P, T, E]."""
    count, tasks, starts = returns.shape
    own, shared = np.zeros((tasks, starts)), np.zeros((tasks, starts))
    halves = np.arange(starts) % 2 == 0
    for chosen in (halves, ~halves):
        scores = returns[:, :, chosen].mean(axis=-1)
        best = scores.argmax(axis=0)
        own[:, ~chosen] = returns[best, np.arange(tasks)][:, ~chosen]
        shared[:, ~chosen] = returns[scores.mean(axis=1).argmax()][:, ~chosen]
    differs = clearly_better(own.mean(axis=0), shared.mean(axis=0))
    return PolicyDifference(count, tasks, float(own.mean()), float(shared.mean()), differs)
