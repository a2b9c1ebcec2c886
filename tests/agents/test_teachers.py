"""Students of teachers: any policy becomes weights of the family's shape, and experts may be made so."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from helpers import tiny
from helpers.marks import some_slow
from metamap_agents.experts.distillation import Distillation, distil
from metamap_agents.experts.recipes import Recipe, load_recipe
from metamap_agents.experts.training import train_expert
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.policy.evaluation import clearly_better, evaluate_policies
from metamap_agents.policy.policies import Policies
from metamap_agents.policy.spec import PolicySpec
from metamap_envs import MetaMapError, get_family

SHORT = Distillation(rounds=1, states=400, steps=300)
OFF_POLICY = {
    "n_envs": 2,
    "learning_starts": 50,
    "train_freq": 10,
    "gradient_steps": 5,
    "batch_size": 32,
    "net_arch": {"pi": [16, 16], "qf": [16]},
}
TASK = get_family(tiny.FAMILY).sample("train", 1, 0)[0]


def recipe(**settings: Any) -> Recipe:
    small = {"rounds": 1, "states": 100, "steps": 20, "batch_size": 32}
    chosen = {**tiny.SETTINGS, "algorithm": "sac", "off_policy": OFF_POLICY, "distillation": small, **settings}
    return load_recipe(tiny.FAMILY, "expert", **chosen)


def linear(zoo: Zoo) -> Any:
    """A saturating linear policy on normalised observations."""
    spec = zoo.base.spec
    gains = 0.3 * np.random.default_rng(0).normal(size=(spec.observation_size, spec.action_size))
    return lambda observations: np.tanh(zoo.base.normalizer.apply(observations) @ gains)


def perceptron(zoo: Zoo) -> Any:
    """A policy of another shape."""
    spec = PolicySpec(zoo.base.spec.observation_size, zoo.base.spec.action_size, (8, 8, 8), "elu")
    phi = 0.3 * np.random.default_rng(1).normal(size=(1, spec.size))
    policy = BatchedPolicy(Policies(spec, zoo.base.normalizer, phi))
    return lambda observations: policy(observations[None])[0]


@pytest.mark.parametrize("make", [linear, perceptron])
def test_a_student_comes_near_its_teacher(tiny_zoo: Zoo, make: Any) -> None:
    base, teacher = tiny_zoo.base, make(tiny_zoo)
    found = distil(TASK, base, teacher, SHORT, seed=0)
    run = evaluate_policies([TASK], base.policies(found.phi), episodes=2, num_threads=1, record=True)
    assert run.observations is not None
    states = run.observations[0].reshape(-1, base.spec.observation_size)

    def error(phi: NDArray[np.float32]) -> float:
        student = BatchedPolicy(base.policies(phi[None]))
        return float(np.square(student(states[None])[0] - teacher(states)).mean())

    assert error(found.phi) < 0.1 * error(base.phi)
    assert error(found.phi) < 0.01
    assert len(found.losses) == len(found.returns) == 2
    assert found.losses[found.chosen] < 0.01
    assert found.returns[found.chosen] == max(found.returns)


def test_each_round_adds_states_that_the_teacher_answers(tiny_zoo: Zoo) -> None:
    base, teacher = tiny_zoo.base, linear(tiny_zoo)
    asked: list[int] = []

    def counted(observations: NDArray[Any]) -> NDArray[Any]:
        asked.append(len(observations))
        return np.asarray(teacher(observations))

    distil(TASK, base, counted, Distillation(rounds=2, states=100, steps=5), seed=0)
    assert [count for count in asked if count >= 100] == [100, 200, 300], "all states so far are answered"


def test_the_seed_decides_a_distillation(tiny_zoo: Zoo) -> None:
    settings = Distillation(rounds=1, states=100, steps=20)
    made = [distil(TASK, tiny_zoo.base, linear(tiny_zoo), settings, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(made[0].phi, made[1].phi)
    assert made[0].losses == made[1].losses
    assert not np.array_equal(made[0].phi, made[2].phi)
    start = tiny_zoo.base.phi + np.float32(0.1)
    still = Distillation(rounds=0, states=50, steps=1, learning_rate=1e-30)
    np.testing.assert_array_equal(distil(TASK, tiny_zoo.base, linear(tiny_zoo), still, seed=0, start=start).phi, start)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (lambda observations: np.full((len(observations), 2), np.nan), "teacher: .*finite"),
        (lambda observations: np.zeros((len(observations), 3)), r"teacher: expected actions of shape \(1, 2\), got"),
    ],
)
def test_a_teacher_that_does_not_fit_is_reported(tiny_zoo: Zoo, teacher: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        distil(TASK, tiny_zoo.base, teacher, Distillation(rounds=0, states=50, steps=1), seed=0)


@pytest.mark.parametrize("algorithm", some_slow(["sac", "tqc"], ["tqc"]))
def test_an_expert_by_another_algorithm(tiny_zoo: Zoo, algorithm: str) -> None:
    if algorithm == "tqc":
        pytest.importorskip("sb3_contrib")
    random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), torch.rand(1).item()
    random.seed(1)
    torch.manual_seed(1)
    progress: list[int] = []
    experts = [
        train_expert(
            TASK,
            tiny_zoo.base,
            recipe(algorithm=algorithm),
            seed=seed,
            on_progress=lambda done, total, metrics: progress.append(done),
        )
        for seed in (0, 0, 1)
    ]
    assert (random.random(), torch.rand(1).item()) == expected, "global generators are left as they were"
    first = experts[0]
    assert np.array_equal(first.phi, experts[1].phi)
    assert not np.array_equal(first.phi, experts[2].phi)
    assert first.phi.shape == (tiny_zoo.base.spec.size,)
    assert not np.array_equal(first.phi, tiny_zoo.base.phi)
    assert progress == [400, 400, 400]
    record = first.record
    assert record["recipe"]["algorithm"] == algorithm
    assert record["teacher"]["steps"] == 400
    assert record["steps"] == 400 + record["student"]["steps"]
    assert record["student"]["return"] == pytest.approx(first.returns.mean())
    assert record["worse_than_teacher"] == clearly_better(record["teacher"]["returns"], first.returns)


def test_a_teacher_that_diverges_is_reported_in_a_sentence(tiny_zoo: Zoo) -> None:
    wild = recipe(off_policy={**OFF_POLICY, "learning_rate": 1e30})
    with pytest.raises(MetaMapError, match=r"training sac on reacher-goal-\w+ \(.*\) diverged"):
        train_expert(TASK, tiny_zoo.base, wild, seed=0)


def test_a_library_that_is_missing_is_named(tiny_zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(MetaMapError, match=r"'tqc' needs sb3-contrib: pip install 'metamap-rl\[contrib\]'"):
        train_expert(TASK, tiny_zoo.base, recipe(algorithm="tqc"), seed=0)
