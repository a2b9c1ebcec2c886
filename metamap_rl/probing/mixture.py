"""Collecting D with a mixture of actors, on many tasks at once in the fast simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from metamap_agents.experts.expert import Expert
from metamap_agents.experts.universal import UniversalPolicy
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.seeds import ACTOR_TASKS
from metamap_envs.errors import MetaMapError
from metamap_envs.registry import get_family
from metamap_envs.seeds import read_seed
from metamap_envs.task import Task
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.data.rollouts import ROLLOUTS_SHAPES, Rollouts
from metamap_rl.probing.actors import ACTORS, ActorMixture
from metamap_rl.probing.collecting import Floats, Pilot, rollout_generator
from metamap_rl.probing.probes import Probe
from metamap_rl.probing.probes.planned import ExcitationProbe

__all__ = ["ActorPool", "can_change", "collect_mixture", "supported"]

_BATCH = 256
"""Environments at once: more need memory without being faster."""
_DRAWN = 64
"""Training tasks for which a universal policy gives experts."""


@dataclass(frozen=True, eq=False)
class ActorPool:
    """The policies that a mixture of actors draws from."""

    base: BasePolicy
    """Base policy."""
    tasks: tuple[Task, ...]
    """E training tasks, whose experts act as wrong experts."""
    phis: NDArray[np.float32]
    """Their experts [E, P]."""
    universal: UniversalPolicy | None = None
    """Gives the right expert of tasks without one."""
    experts: Mapping[tuple[float, ...], NDArray[np.float32]] = field(default_factory=dict)
    """Right experts [P] by the parameter values of their tasks."""

    def __post_init__(self) -> None:
        if not self.tasks or self.phis.shape != (len(self.tasks), self.base.spec.size):
            raise MetaMapError(
                f"pool of actors: expected at least one expert, with phis [{len(self.tasks)}, {self.base.spec.size}], "
                f"got {self.phis.shape}"
            )

    @classmethod
    def of(
        cls,
        base: BasePolicy,
        training: Sequence[Expert],
        others: Sequence[Expert] = (),
        universal: UniversalPolicy | None = None,
    ) -> ActorPool:
        """Make a pool of training experts; ``others`` act as right experts only.

        Raises:
            MetaMapError: no training experts.
        """
        if not training:
            raise MetaMapError("a mixture of actors needs at least one training expert, there is none")
        known = {_key(expert.task): expert.phi for expert in (*others, *training)}
        tasks, phis = tuple(expert.task for expert in training), np.stack([expert.phi for expert in training])
        return cls(base, tasks, phis, universal, known)

    @classmethod
    def of_zoo(cls, zoo: Zoo) -> ActorPool:
        """Make a pool of a zoo: its training experts, the others as right experts, its universal policy.

        Raises:
            MetaMapError: it has no training experts.
        """
        found = zoo.experts()
        training = [expert for expert in found if expert.task.split == "train"]
        return cls.of(zoo.base, training, found, zoo.universal if zoo.has_universal else None)

    @classmethod
    def of_universal(cls, base: BasePolicy, universal: UniversalPolicy | None, seed: int = 0) -> ActorPool:
        """Make a pool of the experts that a universal policy gives for training tasks, without a zoo.

        Raises:
            MetaMapError: no universal policy.
        """
        if universal is None:
            raise MetaMapError(
                "a mixture of actors needs experts: expected a pool such as ActorPool.of_zoo(zoo), or a mapper that "
                "holds the universal policy of its family"
            )
        tasks = tuple(get_family(universal.family).sample("train", _DRAWN, np.random.default_rng([seed, ACTOR_TASKS])))
        return cls(base, tasks, np.stack([universal.expert_for(task) for task in tasks]), universal)

    def wrong(self, task: Task, generator: np.random.Generator) -> int | None:
        """Draw a training expert of another task: its index, or None if there is no other task."""
        others = [index for index, key in enumerate(self._keys) if key != _key(task)]
        return others[int(generator.integers(len(others)))] if others else None

    def right(self, task: Task) -> NDArray[np.float32]:
        """The expert of a task [P], else the universal policy's, else that of the nearest training task."""
        if (known := self.experts.get(_key(task))) is not None:
            return known
        if self.universal is not None:
            return self.universal.expert_for(task)
        here = get_family(task.family).space.coordinates(task.values[None])
        nearest: NDArray[np.float32] = self.phis[
            int(np.square((self._coordinates - here) / self._scale).sum(axis=1).argmin())
        ]
        return nearest

    @cached_property
    def _keys(self) -> list[tuple[float, ...]]:
        return [_key(task) for task in self.tasks]

    @cached_property
    def _coordinates(self) -> NDArray[Any]:
        values = np.stack([task.values for task in self.tasks])
        return np.asarray(get_family(self.tasks[0].family).space.coordinates(values))

    @cached_property
    def _scale(self) -> NDArray[Any]:
        return np.asarray(np.maximum(self._coordinates.std(axis=0), 1e-6))


def _key(task: Task) -> tuple[float, ...]:
    return tuple(float(value) for value in task.values)


@dataclass(frozen=True, eq=False)
class _Part:
    """What happens in one rollout."""

    actor: str
    reset_seed: int
    before: int
    """Steps of the wrong expert before the rollout."""
    wrong: NDArray[np.float32]
    phi: NDArray[np.float32]
    """Weights of the actor."""
    gain: float
    """1, or 0 for excitation alone."""
    offset: NDArray[np.float64]
    """Noise or excitation [n, A]."""
    older: Task
    change: int
    """Index of the first transition of the newer task; 0 without a change."""
    plans: np.random.Generator
    """Generator of the probe's plan."""


def _drawn(mixture: ActorMixture, pool: ActorPool, task: Task, generator: np.random.Generator, steps: int) -> _Part:
    """Draw one rollout; seed of the reset and plan of the probe are those of `collecting.collect`."""
    plans, own, signal = generator.spawn(3)
    reset_seed = int(generator.integers(2**31))
    actor = ACTORS[int(own.choice(len(ACTORS), p=np.array(mixture.shares) / sum(mixture.shares)))]
    index = pool.wrong(task, own)
    wrong, older = (pool.base.phi, task) if index is None else (pool.phis[index], pool.tasks[index])
    started, changing, silent, weight = own.random(4)
    before = int(own.integers(mixture.steps_before[0], mixture.steps_before[1] + 1))
    change = int(own.integers(1, max(steps, 2)))
    noise = (
        0.0 if silent < mixture.noiseless_share else float(own.uniform(mixture.actor_noise[0], mixture.actor_noise[1]))
    )
    probing, size = actor == "probe", pool.base.spec.action_size
    changed = not probing and index is not None and steps > 1 and changing < mixture.change_share
    return _Part(
        actor,
        reset_seed,
        before=0 if probing or started >= mixture.started_share else before,
        wrong=wrong,
        phi=_weights(actor, pool, task, wrong, weight),
        gain=float(actor != "excitation"),
        offset=ExcitationProbe().plan(signal, steps, size).offset
        if actor == "excitation"
        else noise * own.standard_normal((steps, size)),
        older=older if changed else task,
        change=change if changed else 0,
        plans=plans,
    )


def _weights(actor: str, pool: ActorPool, task: Task, wrong: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Weights [P] of an actor, ``weight`` of the way from the base policy to the wrong expert if it is between them."""
    if actor == "right":
        return pool.right(task)
    if actor == "between":
        return (pool.base.phi + np.float32(weight) * (wrong - pool.base.phi)).astype(np.float32)
    return wrong if actor == "wrong" else pool.base.phi


def supported(mixture: ActorMixture, pool: ActorPool) -> ActorMixture:
    """Return the mixture, without changes of the task where the family's tasks cannot change in mid-episode."""
    return mixture if not mixture.change_share or can_change(pool.tasks) else mixture.without_changes()


def can_change(tasks: Sequence[Task]) -> bool:
    """Whether the first of some tasks of one family can be replaced by the others in mid-episode."""
    first, *others = tasks
    envs = FamilyVectorEnv([first], num_threads=1)
    try:
        envs.reset(seed=0)
        for task in others:
            envs.set_tasks([task])
    except MetaMapError:
        return False
    finally:
        envs.close()
    return True


def collect_mixture(
    mixture: ActorMixture,
    pool: ActorPool,
    probe: Probe,
    tasks: Sequence[Task],
    *,
    steps: int,
    repeats: int = 1,
    seed: int,
    num_threads: int = 0,
) -> Rollouts:
    """Collect rollouts of many tasks with a mixture of actors.

    A rollout does not depend on the other tasks and repeats. With the probe as actor it is that of `collect` with the
    same seed.

    Args:
        mixture: the mixture.
        pool: the policies.
        probe: the probe, one of the actors.
        tasks: T tasks of one family, the labels; where the task changes, the newer ones.
        steps: n, transitions of each rollout; episodes follow one another in it.
        repeats: R, independent rollouts of each task.
        seed: of all draws.
        num_threads: threads of the simulator; 0 uses all cores.

    Raises:
        MetaMapError: no tasks, fewer than one step or repeat, or a family whose tasks cannot change in mid-episode
            (``change_share`` must be 0 then).
    """
    seed = read_seed(seed)
    if steps < 1 or repeats < 1 or not tasks:
        raise MetaMapError(
            f"a mixture of actors needs at least 1 task, step and repeat, got {len(tasks)}, {steps} and {repeats}"
        )
    found = []
    for start in range(0, len(tasks), size := max(1, _BATCH // repeats)):
        batch = list(tasks[start : start + size])
        labels = [task for task in batch for _ in range(repeats)]
        generators = [rollout_generator(seed, repeat, task) for task in batch for repeat in range(repeats)]
        parts = [
            _drawn(mixture, pool, task, generator, steps) for task, generator in zip(labels, generators, strict=True)
        ]
        run = _Run(probe, pool.base, labels, parts, steps, num_threads).arrays()
        found.append({name: array.reshape(len(batch), repeats, *array.shape[1:]) for name, array in run.items()})
    arrays = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    return Rollouts(tuple(tasks), **arrays)


class _Run:
    """Runs N rollouts in lockstep, each recorded from its own step on."""

    def __init__(
        self,
        probe: Probe,
        base: BasePolicy,
        tasks: Sequence[Task],
        parts: Sequence[_Part],
        steps: int,
        num_threads: int,
    ) -> None:
        self.tasks, self.parts, self.steps, self.num_threads = tasks, parts, steps, num_threads
        self.before = np.array([part.before for part in parts])
        self.change = np.array([part.change for part in parts])
        self.gain = np.array([part.gain for part in parts])[:, None]
        self.offset = np.stack([part.offset for part in parts])
        self.acting = BatchedPolicy(base.policies(np.stack([part.phi for part in parts])))
        self.earlier = BatchedPolicy(base.policies(np.stack([part.wrong for part in parts])))
        self.probing = [index for index, part in enumerate(parts) if part.actor == "probe"]
        plans = [parts[index].plans for index in self.probing]
        self.pilot = Pilot(probe, plans, steps, base) if len(plans) else None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Run them: the arrays of `Rollouts`, each [N, n, ...]."""
        envs = FamilyVectorEnv(
            [part.older for part in self.parts], num_threads=self.num_threads, autoreset_mode=AutoresetMode.SAME_STEP
        )
        observations, _ = envs.reset(seed=[part.reset_seed for part in self.parts])
        kept: dict[str, NDArray[Any]] = {}
        for step in range(int(self.before.max()) + self.steps):
            place = step - self.before  # in its rollout
            self._change(envs, (place == self.change) & (self.change > 0))
            actions = self._actions(step, place, observations)
            following, rewards, terminated, truncated, infos = envs.step(actions)
            seen = following.copy()
            for index in np.flatnonzero(terminated | truncated):
                seen[index] = infos["final_obs"][index]  # the step's own result, not the next episode's start
            values: tuple[NDArray[Any], ...] = (observations, actions, rewards, seen, terminated, truncated)
            self._keep(kept, place, dict(zip(ROLLOUTS_SHAPES, values, strict=True)))
            observations = following
        envs.close()
        changed = np.arange(self.steps) == np.where(self.change > 0, self.change, -1)[:, None]
        return kept | {"changed": changed}

    def _change(self, envs: FamilyVectorEnv, where: NDArray[np.bool_]) -> None:
        if where.any():
            envs.set_tasks([task for task, changing in zip(self.tasks, where, strict=True) if changing], where)

    def _actions(self, step: int, place: NDArray[np.int64], observations: NDArray[Any]) -> Floats:
        """Actions [N, A] of one step, ``place`` [N] of which in its rollout."""
        row = np.clip(place, 0, self.steps - 1)
        mean = self.gain * self.acting.means(observations[:, None])[:, 0]
        actions = mean + self.offset[np.arange(len(row)), row]
        earlier = place < 0
        if earlier.any():
            actions[earlier] = self.earlier.means(observations[:, None])[earlier, 0]
        if self.pilot is not None and step < self.steps:
            self.pilot.look(step, observations[self.probing])
            actions[self.probing] = self.pilot.act(step, mean[self.probing].astype(np.float32))
        clipped: Floats = np.clip(actions, -1.0, 1.0).astype(np.float32)
        return clipped

    def _keep(
        self, kept: dict[str, NDArray[Any]], place: NDArray[np.int64], values: Mapping[str, NDArray[Any]]
    ) -> None:
        """Record the transitions of this step where a rollout is under way."""
        where = np.flatnonzero((place >= 0) & (place < self.steps))
        for name, value in values.items():
            if name not in kept:
                dtype = np.bool_ if value.dtype == np.bool_ else np.float32
                kept[name] = np.zeros((len(value), self.steps, *value.shape[1:]), dtype=dtype)
            kept[name][where, place[where]] = value[where]
