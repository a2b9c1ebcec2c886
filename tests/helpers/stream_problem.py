"""A small stream with known answers: two robots, whose linear policies depend on two hidden numbers that D gives away.

Nothing is simulated. Tasks of one robot conflict: what is right for one is wrong for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from metamap_agents.policy.base import BasePolicy
from metamap_agents.policy.functional import forward
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.scales import Scales
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.base import MapperLearner, make_learner
from metamap_rl.stream.learners.step import Experience, Step
from metamap_rl.stream.memory import Item, Memory
from metamap_rl.training.config import UpdateConfig
from metamap_rl.training.losses import Outcome, weights

SHAPE = MapperConfig(hypernetwork="residual", context_size=8, encoder_hidden=24, hypernetwork_hidden=24)
UPDATE = UpdateConfig(updates=60, batch_tasks=8, states_per_task=16, learning_rate=5e-3, warmup=5, lengths=(10, 20, 40))
BRIEF = replace(UPDATE, updates=2)
"""For tests in which nothing need be learnt."""
STEPS, STATES, ROLLOUTS = 40, 32, 4

SIZES = {"arm": (3, 1), "leg": (5, 2)}
"""Observations and actions of each robot."""


@dataclass(frozen=True)
class Lesson:
    """One task: a robot and an angle, which stands for the two hidden numbers (cos, sin)."""

    robot: str
    angle: float


LESSONS = (Lesson("arm", 0.0), Lesson("leg", 1.0), Lesson("arm", 2.1), Lesson("leg", 3.1), Lesson("arm", 4.2))


@cache
def base_policy(robot: str) -> BasePolicy:
    observations, actions = SIZES[robot]
    generator = np.random.default_rng(observations)
    spec = PolicySpec(observations, actions, hidden=())
    return BasePolicy(
        spec=spec,
        phi=generator.normal(size=spec.size).astype(np.float32),
        normalizer=ObservationNormalizer(np.zeros(observations), np.ones(observations)),
        log_std=np.zeros(actions, dtype=np.float32),
        critic={},
        record={},
    )


def rollouts(lesson: Lesson, slot: int, *, seed: int, count: int = ROLLOUTS, steps: int = STEPS) -> list[Item]:
    """Rollouts of one task: the mean change of the state tells the hidden numbers, which turn the expert's weights."""
    base, (observations, actions) = base_policy(lesson.robot), SIZES[lesson.robot]
    shared, generator = np.random.default_rng(100 + observations), np.random.default_rng((seed, slot))
    drift, turn = shared.normal(size=(2, observations)), shared.normal(size=(2, base.spec.size))
    hidden = np.array([np.cos(lesson.angle), np.sin(lesson.angle)])

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    states = normal(count, steps, observations)
    after = (states + hidden @ drift + normal(*states.shape)).astype(np.float32)
    layout = TransitionLayout(observations, actions)
    features = layout.pack(states, normal(count, steps, actions), normal(count, steps), after)
    phi = torch.from_numpy((base.phi + hidden @ turn).astype(np.float32))
    inputs = torch.from_numpy(normal(STATES, observations))
    targets = forward(base.spec, phi, inputs)
    return [
        Item(
            slot,
            lesson.robot,
            torch.from_numpy(rows),
            phi,
            inputs,
            targets,
            targets,
            expert_return=1.0,
            base_return=0.0,
        )
        for rows in features
    ]


def add_robot(mapper: EmbodiedMapper, robot: str) -> None:
    """Give the mapper a head for a robot, its units from one task."""
    items = rollouts(Lesson(robot, 0.5), 0, seed=99)
    rows = torch.cat([item.features for item in items])
    spread = (items[0].phi - torch.from_numpy(base_policy(robot).phi)).square().mean().sqrt()
    scales = Scales(
        rows.mean(0), rows.std(0), torch.full_like(items[0].phi, float(spread)), torch.zeros(0), torch.ones(0)
    )
    mapper.add(robot, base_policy(robot), scales, family=f"{robot}-family", probe={"name": "noise"})


def new_mapper(*robots: str, seed: int = 0) -> EmbodiedMapper:
    mapper = EmbodiedMapper(SHAPE, seed)
    for robot in robots:
        add_robot(mapper, robot)
    return mapper


@dataclass
class Stream:
    """A learner on its way through lessons."""

    settings: Mapping[str, Any]
    seed: int = 0
    config: UpdateConfig = UPDATE
    budget: int = 1_000_000
    mapper: EmbodiedMapper = field(init=False)
    learner: MapperLearner = field(init=False)
    memory: Memory = field(init=False)
    slot: int = 0

    def __post_init__(self) -> None:
        self.mapper = new_mapper(seed=self.seed)
        self.learner = make_learner(self.settings)
        self.memory = Memory(self.learner.retention, self.budget)

    def learn(self, lessons: Sequence[Lesson], config: UpdateConfig | None = None) -> Stream:
        """Go through the lessons as the streaming loop does: store, update, note the mapper's own outputs."""
        for lesson in lessons:
            if lesson.robot not in self.mapper:
                add_robot(self.mapper, lesson.robot)
            experience = self.store(lesson)
            generator = torch.Generator().manual_seed(1000 * self.seed + self.slot)
            self.learner.update(Step(self.mapper, experience, self.memory, config or self.config, generator))
            self.memory.swap(lambda item: self._with_own_outputs(item) if item.slot == self.slot else item)
            self.slot += 1
        return self

    def store(self, lesson: Lesson) -> Experience:
        items = rollouts(lesson, self.slot, seed=self.seed)
        offered = self.memory.offer(items, np.random.default_rng((self.seed, self.slot)))
        return Experience(self.slot, lesson.robot, tuple(sorted(offered, key=lambda item: item.key)[1:]))

    def step(self, lesson: Lesson, config: UpdateConfig = BRIEF) -> Step:
        """What the learner has in hand in the first gradient step of one more lesson."""
        experience = self.store(lesson)
        return Step(self.mapper, experience, self.memory, config, torch.Generator().manual_seed(0))

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint holds, as arrays."""
        return {
            "robots": self.mapper.embodiments,
            "mapper": self.mapper.arrays(),
            "learner": self.learner.arrays(),
            "memory": [(item.arrays(), item.embodiment) for item in self.memory.items],
            "slot": self.slot,
        }

    def resumed(self, checkpoint: Mapping[str, Any]) -> Stream:
        """Another process that goes on from a checkpoint."""
        other = Stream(self.settings, self.seed, self.config, self.budget, slot=checkpoint["slot"])
        for robot in checkpoint["robots"]:
            add_robot(other.mapper, robot)
        other.mapper.restore(checkpoint["mapper"])
        other.learner.restore(checkpoint["learner"], other.mapper)
        other.memory.items = [Item.from_arrays(arrays, robot, "memory") for arrays, robot in checkpoint["memory"]]
        return other

    def loss(self, lesson: Lesson) -> float:
        """Distance of the generated weights from the expert's, from rollouts that nobody has learnt from."""
        items = rollouts(lesson, 0, seed=77, count=8)
        features = torch.stack([item.features for item in items])
        phi_hat = self.learner.generate(self.mapper, self.memory, lesson.robot, features)
        return float(weights(self._outcome(items[0], phi_hat, items[0].phi.expand_as(phi_hat))))

    def _outcome(self, item: Item, phi_hat: torch.Tensor, phi: torch.Tensor) -> Outcome:
        mapper = self.mapper[item.embodiment]
        return Outcome(mapper.base.spec, phi_hat, phi, mapper.weight_scale, item.inputs, item.targets)

    def _with_own_outputs(self, item: Item) -> Item:
        phi_hat = self.learner.generate(self.mapper, self.memory, item.embodiment, item.features[None])[0]
        return replace(item, dark=forward(base_policy(item.embodiment).spec, phi_hat, item.inputs))


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Every array of a checkpoint by its path."""
    if isinstance(tree, Mapping):
        return {k: v for key, value in tree.items() for k, v in flat(value, f"{name}.{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for key, value in enumerate(tree) for k, v in flat(value, f"{name}.{key}").items()}
    return {name: tree}


def assert_equal(one: Any, other: Any) -> None:
    one, other = flat(one), flat(other)
    assert list(one) == list(other)
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name
