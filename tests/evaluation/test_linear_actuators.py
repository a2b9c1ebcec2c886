"""A linear map between action and actuators: identified by simulating the unchanged robot, and undone on its policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metamap_agents.policy.functional import forward
from metamap_agents.policy.spec import PolicySpec
from metamap_envs import get_family
from metamap_envs.families._half_cheetah import ACTUATORS
from metamap_envs.rollout import Rollout
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.evaluation.identification import LinearActuators, Predictor, identify_actuators, undone


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
