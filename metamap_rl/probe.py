"""Probes: how the rollout D of a task is collected. Training and deployment use the same probe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from metamap_agents.base_policy import BasePolicy
from metamap_agents.policies import BatchedPolicy
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.rollout import Rollout
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.dataset import transition_features
from metamap_rl.registry import Registry

__all__ = [
    "PROBES",
    "BasePolicyProbe",
    "ExcitationProbe",
    "MixedProbe",
    "Plan",
    "Probe",
    "Transitions",
    "collect",
    "probe_env",
    "probe_from_json",
    "probe_to_json",
]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What a probe will do for n steps, drawn before the first: action = clip(gain * phi_0(obs) + offset, -1, 1).

    Attributes:
        gain: [n], 1 where the base policy acts, 0 where only the excitation does.
        offset: [n, A], noise or excitation.
    """

    gain: NDArray[np.float64]
    offset: NDArray[np.float64]


class Probe(Protocol):
    """A way to collect D. A new one is a frozen dataclass registered in `PROBES`; its fields are its settings."""

    name: ClassVar[str]

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Draw what to do for ``steps`` steps; the first k steps do not depend on ``steps``."""
        ...


PROBES: Registry[type[Any]] = Registry("probe")


@PROBES.register("base-policy")
@dataclass(frozen=True)
class BasePolicyProbe:
    """The family's base policy with Gaussian noise on every action."""

    name: ClassVar[str] = "base-policy"

    noise: float = 0.3
    """Standard deviation of the noise, in units of the action; at least 0."""

    def __post_init__(self) -> None:
        _check_range("noise", self.noise, 0.0, 2.0)

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Base policy throughout."""
        return Plan(np.ones(steps), self.noise * generator.standard_normal((steps, action_size)))


@PROBES.register("excitation")
@dataclass(frozen=True)
class ExcitationProbe:
    """Open loop: each actuator gets a random telegraph signal, held for a few steps, so that all of them are moved."""

    name: ClassVar[str] = "excitation"

    amplitude: float = 0.8
    """Largest action, in (0, 1]."""
    hold: int = 3
    """Mean number of steps between changes of level, at least 1."""

    def __post_init__(self) -> None:
        _check_range("amplitude", self.amplitude, 1e-6, 1.0)
        _check_range("hold", self.hold, 1, 1000)

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Excitation throughout."""
        offset = np.zeros((steps, action_size))
        level = np.zeros(action_size)
        for step in range(steps):  # drawn step by step, so that a shorter plan is the head of a longer one
            change = generator.random(action_size) < (1.0 / self.hold if step else 1.0)
            level = np.where(change, generator.uniform(-self.amplitude, self.amplitude, action_size), level)
            offset[step] = level
        return Plan(np.zeros(steps), offset)


@PROBES.register("mixed")
@dataclass(frozen=True)
class MixedProbe:
    """Half and half: blocks of noisy base policy and of open-loop excitation by turns."""

    name: ClassVar[str] = "mixed"

    noise: float = 0.3
    """Standard deviation of the noise on the base policy."""
    amplitude: float = 0.8
    """Largest action of the excitation."""
    hold: int = 3
    """Mean number of steps between changes of the excitation."""
    block: int = 5
    """Steps of a block, at least 1."""

    def __post_init__(self) -> None:
        _check_range("block", self.block, 1, 1000)
        BasePolicyProbe(self.noise)
        ExcitationProbe(self.amplitude, self.hold)

    def plan(self, generator: np.random.Generator, steps: int, action_size: int) -> Plan:
        """Base policy in even blocks, excitation in odd ones."""
        noisy, excited = generator.spawn(2)
        policy = BasePolicyProbe(self.noise).plan(noisy, steps, action_size)
        excitation = ExcitationProbe(self.amplitude, self.hold).plan(excited, steps, action_size)
        gain = (np.arange(steps) // self.block % 2 == 0).astype(np.float64)
        return Plan(gain, np.where(gain[:, None] > 0, policy.offset, excitation.offset))


def _check_range(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise MetaMapError(f"probe setting {name!r} expects a number in [{low}, {high}], got {value!r}")


def probe_to_json(probe: Probe) -> dict[str, Any]:
    """A probe's name and settings as plain JSON values."""
    return {"name": probe.name, **asdict(probe)}  # type: ignore[call-overload]  # registered probes are dataclasses


def probe_from_json(document: Mapping[str, Any]) -> Probe:
    """Inverse of `probe_to_json`; settings left out are at their defaults.

    Raises:
        MetaMapError: no or an unknown name, an unknown setting, or a value out of range.
    """
    settings = dict(document)
    if "name" not in settings:
        raise MetaMapError(f"a probe needs the key 'name'; it has {sorted(settings)}")
    cls = PROBES.get(settings.pop("name"))
    known = [item.name for item in fields(cls)]
    for key in settings:
        if key not in known:
            raise unknown_name(f"setting of probe {cls.name!r}", key, known)
    probe: Probe = cls(**settings)
    return probe


@dataclass(frozen=True)
class Transitions:
    """R rollouts of n transitions on each of T tasks, float32 and bool arrays."""

    tasks: tuple[Task, ...]
    observations: Floats
    """[T, R, n, O]."""
    actions: Floats
    """[T, R, n, A]."""
    rewards: Floats
    """[T, R, n]."""
    next_observations: Floats
    """[T, R, n, O]."""
    terminated: NDArray[np.bool_]
    """[T, R, n]."""
    truncated: NDArray[np.bool_]
    """[T, R, n]."""

    def features(self) -> Floats:
        """Feature rows of all transitions [T, R, n, F]; see `metamap_rl.dataset.transition_features`."""
        return transition_features(self.observations, self.actions, self.rewards, self.next_observations)

    def rollout(self, task: int, repeat: int = 0) -> Rollout:
        """One of the rollouts."""
        arrays = {item.name: getattr(self, item.name)[task, repeat] for item in fields(self) if item.name != "tasks"}
        return Rollout(self.tasks[task].family, **arrays, task=self.tasks[task])


def _generator(seed: int, repeat: int, task: Task) -> np.random.Generator:
    """Randomness of one rollout: the same whatever other tasks and repeats are collected with it."""
    digest = hashlib.sha256(f"{seed}:{repeat}:{task.id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def collect(
    probe: Probe,
    tasks: Sequence[Task],
    base: BasePolicy,
    *,
    steps: int,
    repeats: int = 1,
    seed: int,
    num_threads: int = 0,
) -> Transitions:
    """Run a probe on many tasks at once in the fast simulator.

    Args:
        probe: the probe.
        tasks: T tasks of one family.
        base: the family's base policy.
        steps: n, transitions of each rollout; episodes follow one another in it.
        repeats: R, independent rollouts of each task.
        seed: of episodes and excitation.
        num_threads: threads of the simulator; 0 takes all cores.

    Raises:
        MetaMapError: no tasks, or fewer than one step or repeat.
    """
    if steps < 1 or repeats < 1:
        raise MetaMapError(f"a probe needs at least 1 step and 1 repeat, got {steps} and {repeats}")
    envs = FamilyVectorEnv(
        [task for task in tasks for _ in range(repeats)],
        num_threads=num_threads,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    generators = [_generator(seed, repeat, task) for task in tasks for repeat in range(repeats)]
    plans = [probe.plan(generator.spawn(1)[0], steps, envs.family.action_size) for generator in generators]
    gains = np.stack([plan.gain for plan in plans])
    offsets = np.stack([plan.offset for plan in plans])
    # One policy for each environment, though it is the same: one product with all observations would be summed in an
    # order that depends on their number, and in a chaotic system the last bit soon shows.
    policy = BatchedPolicy(base.spec, np.tile(base.phi, (envs.num_envs, 1)), base.normalizer)
    observations, _ = envs.reset(seed=[int(generator.integers(2**31)) for generator in generators])
    rows: dict[str, list[NDArray[Any]]] = {item.name: [] for item in fields(Transitions) if item.name != "tasks"}
    for step in range(steps):
        mean = policy.means(observations[:, None])[:, 0]
        actions = np.clip(gains[:, step, None] * mean + offsets[:, step], -1.0, 1.0).astype(np.float32)
        following, rewards, terminated, truncated, infos = envs.step(actions)
        seen = following.copy()
        for index in np.flatnonzero(terminated | truncated):
            seen[index] = infos["final_obs"][index]  # the step's own result, not the next episode's start
        parts: tuple[NDArray[Any], ...] = (observations, actions, rewards, seen, terminated, truncated)
        for name, value in zip(rows, parts, strict=True):
            rows[name].append(value)
        observations = following
    envs.close()
    arrays = {name: _stack(values, len(tasks), repeats) for name, values in rows.items()}
    return Transitions(tuple(tasks), **arrays)


def _stack(values: list[NDArray[Any]], tasks: int, repeats: int) -> NDArray[Any]:
    stacked = np.stack(values, axis=1)
    stacked = stacked if stacked.dtype == np.bool_ else stacked.astype(np.float32)
    return stacked.reshape(tasks, repeats, *stacked.shape[1:])


def probe_env(probe: Probe, env: gym.Env[Any, Any], base: BasePolicy, *, family: str, steps: int, seed: int) -> Rollout:
    """Run a probe in one Gymnasium environment, the user's own simulator or robot included.

    Args:
        probe: the mapper's probe.
        env: with the family's observations and actions; reset as its episodes end.
        base: the family's base policy.
        family: name of the family, for the record and the checks.
        steps: n, number of transitions; 0 gives an empty rollout.
        seed: of the first reset and of the excitation.

    Raises:
        MetaMapError: a negative number of steps, observations or actions of another size, or NaN.
    """
    if steps < 0:
        raise MetaMapError(f"a probe of an environment takes 0 or more steps, got {steps}")
    spec = base.spec
    for what, space, size in (
        ("observations", env.observation_space, spec.observation_size),
        ("actions", env.action_space, spec.action_size),
    ):
        if space.shape != (size,):
            raise MetaMapError(f"the environment's {what} have shape {space.shape}, expected ({size},)")
    # A child, since the reset draws from `seed` itself: the same numbers would be both noise and start of the episode.
    (generator,) = np.random.default_rng(seed).spawn(1)
    plan = probe.plan(generator, steps, spec.action_size)
    policy = BatchedPolicy(spec, base.phi[None], base.normalizer)
    observation, _ = env.reset(seed=seed)
    rows: list[tuple[Any, ...]] = []
    for step in range(steps):
        seen = np.array(observation, dtype=np.float32)  # a copy: an environment may go on using its own array
        if seen.shape != (spec.observation_size,) or not np.isfinite(seen).all():
            raise MetaMapError(
                f"step {step}: the environment's observation must be {spec.observation_size} finite numbers, got {seen}"
            )
        mean = policy.means(seen[None, None])[0, 0]
        action = np.clip(plan.gain[step] * mean + plan.offset[step], -1.0, 1.0).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action.copy())
        following = np.array(observation, dtype=np.float32)
        rows.append((seen, action, float(reward), following, bool(terminated), bool(truncated)))
        if terminated or truncated:
            observation, _ = env.reset()
    return Rollout.from_rows(family, rows)
