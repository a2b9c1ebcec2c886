"""A linear map between action and actuators: identified by simulating the unchanged robot, and undone on its policy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import tiny
from metamap_agents.experts.expert import Expert
from metamap_agents.experts.recipes import load_recipe
from metamap_agents.experts.training import train_base
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs import get_family
from metamap_envs.families._half_cheetah import ACTUATORS
from metamap_envs.rollout import Rollout
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.cli import main
from metamap_rl.evaluation.identification import LinearActuators, Predictor, identify_actuators, undone
from metamap_rl.evaluation.protocol import METHODS, ProtocolConfig
from metamap_rl.evaluation.protocol.problem import Problem
from metamap_rl.evaluation.protocol.settings import SharedSettings


def rollout_of(name: str, parameters: dict[str, float], steps: int) -> Rollout:
    """Transitions of small random actions from a reset."""
    task, generator = get_family(name).task(parameters), np.random.default_rng(0)
    env = FamilyVectorEnv([task], num_threads=1)
    seen, _ = env.reset(seed=0)
    rows = []
    for _ in range(steps):
        action = generator.normal(0.0, 0.4, (1, env.family.action_size)).astype(np.float32)
        following, reward, *_ = env.step(action)
        rows.append((seen[0].astype(np.float32), action[0], reward[0], following[0].astype(np.float32), False, False))
        seen = following
    return Rollout.from_rows(name, rows)


def test_signs_and_strengths_are_a_diagonal_matrix() -> None:
    factors = np.array([0.7, -0.6, 1.0, -0.9, 0.5, -0.8])
    names = [(f"sign_{one}", f"strength_{one}") for one in ACTUATORS]
    parameters = {
        name: value
        for pair, factor in zip(names, factors, strict=True)
        for name, value in zip(pair, (np.sign(factor), abs(factor)), strict=True)
    }
    rollout = rollout_of("cheetah-actuators", parameters, 40)
    found = identify_actuators(rollout, get_family("cheetah-actuators").task())
    np.testing.assert_allclose(found.matrix, np.diag(factors), atol=0.1)
    np.testing.assert_allclose(found.offset, 0.0, atol=0.1)


def test_a_network_is_explained_better_than_by_the_unchanged_robot() -> None:
    unchanged = get_family("cheetah-network").task()
    rollout = rollout_of("cheetah-network", {"latent_0": 0.8, "latent_2": -0.7}, 30)
    found = identify_actuators(rollout, unchanged)
    without = np.mean(Predictor(rollout).residuals([unchanged])[0, :, :-1] ** 2)
    assert found.cost < 0.2 * without
    assert np.abs(found.matrix - np.eye(6)).max() > 0.3


def test_without_transitions_the_robot_is_taken_to_be_unchanged() -> None:
    found = identify_actuators(rollout_of("cheetah-network", {}, 2).head(0), get_family("cheetah-network").task())
    np.testing.assert_array_equal(found.matrix, np.eye(6))
    np.testing.assert_array_equal(found.offset, np.zeros(6))


@pytest.mark.parametrize("hidden", [(8,), (8, 4)])
def test_the_map_after_the_changed_policy_is_the_policy(hidden: tuple[int, ...]) -> None:
    generator = np.random.default_rng(1)
    spec = PolicySpec(5, 3, hidden)
    phi = generator.normal(size=spec.size).astype(np.float32)
    found = LinearActuators(generator.normal(size=(3, 3)) + 3 * np.eye(3), generator.normal(size=3), 0.0)
    observations = torch.from_numpy(generator.normal(size=(7, 5)))
    actions, expected = (
        forward(spec, torch.from_numpy(one), observations).numpy() for one in (undone(spec, phi, found), phi)
    )
    np.testing.assert_allclose(actions @ found.matrix.T + found.offset, expected, atol=1e-4)


def test_it_is_offered_where_something_is_between_action_and_actuators() -> None:
    method = METHODS.get("linear-actuators")
    for name in ("cheetah-network", "cheetah-actuators", "cheetah-velocity-actuators"):
        assert method.lacking(get_family(name), has_universal=True) is None
    for name in ("cheetah-velocity", "reacher-goal", "quadrotor-hover"):
        assert method.lacking(get_family(name), has_universal=True)
    assert method.lacking(get_family("cheetah-network"), has_universal=False)
    assert "linear-actuators" not in ProtocolConfig(families=("cheetah-network",)).methods


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """One expert of `cheetah-network`, which is its base policy."""
    zoo = Zoo.create(tmp_path / "zoo", "cheetah-network", 0)
    recipe = {"n_timesteps": 16, "n_envs": 2, "n_steps": 8, "batch_size": 16, "n_epochs": 1}
    zoo.put_base(train_base(zoo.family.name, load_recipe(zoo.family.name, "base", **recipe), seed=0, num_threads=1))
    zoo.put_universal(tiny.make_universal(zoo.base, zoo.family.name))
    (task,) = zoo.family.sample("test-in", 1, 0)
    zoo.put(Expert(task, zoo.base.phi, np.zeros(2), np.zeros(2)))
    return zoo


def test_its_policy_of_the_unchanged_robot_may_be_trained_on(zoo: Zoo, tmp_path: Path) -> None:
    problem = Problem(zoo, SharedSettings(lengths=(10,), splits=("test-in",), episodes=1), tmp_path / "mappers")
    untrained, trained = (METHODS.get("linear-actuators")(timesteps=steps).measure(problem, 0) for steps in (0, 16))
    assert trained.training_steps > untrained.training_steps
    assert np.isfinite(trained.scores[0].returns).all()
    assert not np.array_equal(trained.scores[0].returns, untrained.scores[0].returns)


def test_a_zoo_of_inverted_experts_differs_in_output_layers_alone(zoo: Zoo, tmp_path: Path) -> None:
    settings = [f"zoo={zoo.root}", "timesteps=0", "transitions=12"]
    out = tmp_path / "out"
    assert main(["results", "run", "inverted-experts", "--set", *settings, "--out", str(out), "--workers", "1"]) == 0
    made = Zoo.open(out / "zoo")
    (expert,), (before,) = made.experts(), zoo.experts()
    assert expert.task == before.task
    unchanged = zoo.base.spec.split(made.universal.expert_for(zoo.family.task()))
    last = f"layers.{len(zoo.base.spec.hidden)}."
    for name, part in zoo.base.spec.split(expert.phi).items():
        assert np.array_equal(part, unchanged[name]) is not name.startswith(last), name
    document = json.loads((out / "inverted-experts.json").read_text())
    assert document["means"]["test-in"]["expert"] == pytest.approx(expert.returns.mean(), abs=1e-3)


def test_their_universal_policy_may_be_distilled_from_training_experts(zoo: Zoo, tmp_path: Path) -> None:
    distillation = "distillation={rounds: 1, states: 8, steps: 2, batch_size: 8}"
    settings = [f"zoo={zoo.root}", "timesteps=0", "transitions=12", distillation]
    command = ["results", "run", "inverted-experts", "--set", *settings, "--workers", "1", "--out"]
    assert main([*command, str(tmp_path / "none")]) == 2
    (task,) = zoo.family.sample("train", 1, 0)
    zoo.put(Expert(task, zoo.base.phi, np.zeros(2), np.zeros(2)))
    assert main([*command, str(tmp_path / "one")]) == 0
    made = Zoo.open(tmp_path / "one" / "zoo")
    assert made.universal.parameters == zoo.universal.parameters
    assert not np.array_equal(made.universal.phi, zoo.universal.phi)
