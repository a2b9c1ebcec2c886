"""Rivals of the mapper: models of outcomes of stored tasks, and a recurrent student of the experts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers import tiny
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_envs import get_family
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.evaluation.baselines.outcomes import Features, OutcomeModels
from metamap_rl.evaluation.baselines.student import (
    Student,
    StudentConfig,
    hidden_size,
    student_returns,
    train_student,
)
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.probes.planned import BasePolicyProbe

# ------------------------------------------------------------------------------------------------ likelihood


def linear_world(matrices: np.ndarray, repeats: int, steps: int, seed: int) -> Rollouts:
    """Observations that change by a task's matrix times the action."""
    family, generator = get_family(tiny.FAMILY), np.random.default_rng(seed)
    tasks = tuple(family.sample("train", len(matrices), 0))
    lead = (len(tasks), repeats, steps)
    observations = generator.normal(size=(*lead, 4)).astype(np.float32)
    actions = generator.uniform(-1, 1, (*lead, 2)).astype(np.float32)
    change = np.einsum("toa,trna->trno", matrices, actions) + 0.05 * generator.normal(size=(*lead, 4))
    no = np.zeros(lead, np.bool_)
    rewards = (-np.abs(observations[..., 0])).astype(np.float32)
    following = (observations + change).astype(np.float32)
    return Rollouts(tasks, observations, actions, rewards, following, no, no)


@pytest.mark.parametrize("features", ["linear", "quadratic"])
def test_the_likeliest_task_is_the_one_that_a_rollout_is_of(features: Features) -> None:
    matrices = np.random.default_rng(0).normal(size=(6, 4, 2))
    normalizer = ObservationNormalizer(np.zeros(4), np.ones(4))
    models = OutcomeModels.fit(linear_world(matrices, 4, 60, seed=1), normalizer, features, 1e-4)
    for steps in (2, 20):
        found = models.log_likelihood(linear_world(matrices, 1, steps, seed=2))
        assert found.shape == (6, 6)
        assert found.argmax(axis=1).tolist() == list(range(6))


# --------------------------------------------------------------------------------------------------- student


@pytest.fixture(scope="module")
def stored(tiny_zoo: Zoo) -> Rollouts:
    tasks = [expert.task for expert in tiny_zoo.experts("train")]
    return collect(BasePolicyProbe(), tasks, tiny_zoo.base, steps=60, repeats=2, seed=1, num_threads=1)


def trained(zoo: Zoo, stored: Rollouts, updates: int = 10) -> tuple[Student, dict[str, list[float]], int]:
    phis = np.stack([expert.phi for expert in zoo.experts("train")])
    config = StudentConfig(hidden=8, rounds=2, updates=updates, batch=4, episodes=2)
    return train_student(stored.tasks, stored, phis, zoo.base, config, score=lambda student: 0.0, num_threads=1)


def test_the_size_of_a_student(tiny_zoo: Zoo) -> None:
    base = tiny_zoo.base
    for size in (1.0, 4.0):
        hidden = hidden_size(base, size)
        weights = Student(base, hidden, reward_scale=1.0, seed=0).weights
        assert 0.9 * size * base.spec.size < weights <= size * base.spec.size


def test_the_same_seed_is_the_same_student(tiny_zoo: Zoo, stored: Rollouts) -> None:
    (first, record, steps), (second, again, _) = trained(tiny_zoo, stored), trained(tiny_zoo, stored)
    assert record == again
    assert steps == 2 * 2 * len(stored) * get_family(tiny.FAMILY).horizon
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    one, other = (student_returns(student, stored.tasks, stored, 20, episodes=2, seed=9) for student in (first, second))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (len(stored), 2)


def test_it_learns_what_the_experts_do(tiny_zoo: Zoo, stored: Rollouts) -> None:
    _, record, _ = trained(tiny_zoo, stored, updates=30)
    assert record["losses"][-1] < 0.8 * trained(tiny_zoo, stored, updates=1)[1]["losses"][0]


def test_reading_goes_on_from_its_state(tiny_zoo: Zoo, stored: Rollouts) -> None:
    student = Student(tiny_zoo.base, 8, reward_scale=1.0, seed=0)
    rows = student.of_rollouts(stored, 30)
    assert rows.shape[1] == 31, "the last next observation is read too"
    with torch.no_grad():
        whole, half = student(rows)[1], student(rows[:, :12])[1]
        torch.testing.assert_close(student(rows[:, 12:], half)[1], whole)
        read = student.read(stored, np.array([30, 0, 5]))
    torch.testing.assert_close(read[:, 0], whole[:, 0])
    assert not read[:, 1].any(), "nothing was read"
    assert read[:, 2].any()


def test_d_changes_what_it_does(tiny_zoo: Zoo, stored: Rollouts) -> None:
    student = Student(tiny_zoo.base, 8, reward_scale=1.0, seed=0)
    found = [student_returns(student, stored.tasks, stored, length, episodes=1, seed=9) for length in (0, 1, 30)]
    assert len({each.tobytes() for each in found}) == 3
    np.testing.assert_array_equal(found[0], student_returns(student, stored.tasks, None, 0, episodes=1, seed=9))
