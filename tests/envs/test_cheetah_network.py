"""The network between command and torque of `cheetah-network`."""

from __future__ import annotations

import numpy as np
import pytest

from metamap_envs import FamilyEnv, get_family

FAMILY = get_family("cheetah-network")
LIMITS = [parameter.high for parameter in FAMILY.space.parameters]


def torques(actions: object, values: object) -> np.ndarray:
    rows = np.atleast_2d(np.asarray(actions, dtype=np.float32))
    return np.asarray(FAMILY.controls(rows, np.zeros((len(rows), 0)), np.atleast_2d(np.asarray(values, dtype=float))))


def test_without_latents_each_command_moves_its_own_joint() -> None:
    commands = np.random.default_rng(0).uniform(-1, 1, (5, 6)).astype(np.float32)
    np.testing.assert_allclose(torques(commands, np.zeros((5, 4))), np.tanh(2.0 * commands.astype(float)), atol=1e-12)


def test_with_latents_every_command_moves_several_joints() -> None:
    values = np.array([0.9, -0.8, 0.7, 0.6])
    rest = torques(np.zeros(6), values)[0]
    moved = np.array([np.abs(torques(one, values)[0] - rest) > 0.02 for one in 0.3 * np.eye(6)])
    assert (moved.sum(axis=1) >= 3).all()
    assert np.abs(rest).max() > 0.05, "the biases act without a command"


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_distances_between_hidden_units_are_kept_to_the_ends_of_the_space(sign: float) -> None:
    """Rotations lose no direction: small commands in any direction are felt, up to the outermost latents."""
    values = sign * np.array(LIMITS)
    steps = 1e-3 * np.eye(6)
    slopes = np.concatenate([torques(one, values) - torques(-one, values) for one in steps]) / 2e-3
    assert np.linalg.svd(slopes, compute_uv=False).min() > 0.2


def test_commands_beyond_the_range_act_as_at_its_end() -> None:
    values = np.array([0.5, 0.5, -0.5, 0.2])
    np.testing.assert_array_equal(torques(3.0 * np.ones(6), values), torques(np.ones(6), values))


def test_a_row_does_not_depend_on_the_others() -> None:
    generator = np.random.default_rng(2)
    commands, values = generator.uniform(-1, 1, (9, 6)), generator.uniform(-1, 1, (9, 4))
    together = torques(commands, values)
    for row in range(9):
        np.testing.assert_array_equal(torques(commands[row], values[row])[0], together[row])


def test_the_environment_applies_the_torques_of_the_network() -> None:
    parameters = {"latent_1": 1.0, "latent_3": -1.0}
    env = FamilyEnv(FAMILY.name, parameters=parameters)
    env.reset(seed=0)
    action = np.linspace(-0.5, 0.5, 6).astype(np.float32)
    env.step(action)
    expected = torques(action, env.task.values)[0]
    np.testing.assert_array_equal(env.data.ctrl, expected)
