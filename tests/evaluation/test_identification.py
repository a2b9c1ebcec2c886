"""System identification: states from observations, recovered parameters, and what a rollout cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

from metamap_envs import MetaMapError, Task, get_family
from metamap_envs.registry import list_families
from metamap_envs.rollout import Rollout
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.evaluation.identification import IdentificationConfig, Predictor, holds_state, identify, model_of
from metamap_rl.evaluation.identification.search import _variances

SIMULATED = [name for name in list_families() if holds_state(get_family(name))]


def rollout_of(task: Task, steps: int, *, size: float = 1.0, seed: int = 0) -> Rollout:
    """Transitions of random actions from a reset."""
    generator = np.random.default_rng(seed)
    env = FamilyVectorEnv([task], num_threads=1, autoreset_mode="same_step")
    seen, _ = env.reset(seed=seed)
    rows = []
    for _ in range(steps):
        action = (size * generator.uniform(-1, 1, (1, env.family.action_size))).astype(np.float32)
        following, reward, terminated, truncated, infos = env.step(action)
        after = infos["final_obs"][0] if (terminated | truncated)[0] else following[0]
        rows.append(
            (seen[0].astype(np.float32), action[0], reward[0], after.astype(np.float32), terminated[0], truncated[0])
        )
        seen = following
    return Rollout.from_rows(task.family, rows)


def test_most_families_can_be_identified() -> None:
    assert {"cheetah-actuators", "ant-goal", "reacher-goal", "walker-dynamics", "dmc-cheetah-speed-length"} <= set(
        SIMULATED
    )
    assert not any(holds_state(get_family(name)) for name in list_families() if name.startswith("dmc-walker"))


@pytest.mark.parametrize("name", SIMULATED)
def test_a_recorded_transition_is_simulated_again(name: str) -> None:
    family = get_family(name)
    task = family.sample("test-in", 1, seed=3)[0]
    found = Predictor(rollout_of(task, 12)).residuals([task])[0]
    assert np.abs(found[:, :-1]).max() < 1e-3, "but for single precision"
    # The place of the torso lags behind the state by one MuJoCo step, which RK4 cannot undo exactly.
    assert np.abs(found[:, -1]).max() < (0.5 if name == "ant-direction" else 0.02)


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"),
    [
        ("cheetah-actuators", 2, 1e-4),
        ("cheetah-velocity", 2, 1e-4),
        ("cheetah-crippled", 2, 1e-4),
        ("cheetah-direction", 2, 1e-4),
        ("reacher-goal", 20, 1e-4),
        ("hopper-dynamics", 30, 1e-2),
    ],
)
def test_the_true_parameters_are_recovered(name: str, steps: int, tolerance: float) -> None:
    task = get_family(name).sample("test-in", 1, seed=1)[0]
    found = identify(rollout_of(task, steps))
    np.testing.assert_allclose(found.task.values, task.values, atol=tolerance)
    assert found.unidentified == ()
    assert found.steps > 0
    assert found.cost < 1e-6


def test_the_order_of_sensors_is_found_among_all_of_them() -> None:
    """Orders that swap velocities alone have states of one position; they are simulated apart."""
    task = get_family("reacher-sensors").sample("test-in", 1, seed=1)[0]
    found = identify(rollout_of(task, 12), IdentificationConfig(combinations=720), diagnose=False)
    np.testing.assert_array_equal(found.task.values, task.values)
    assert found.cost < 1e-6


def test_the_same_rollout_gives_the_same_task() -> None:
    task = get_family("cheetah-velocity").sample("test-in", 1, seed=1)[0]
    first, second = (identify(rollout_of(task, 5)) for _ in range(2))
    assert first.task == second.task


def test_what_a_rollout_cannot_tell_is_said() -> None:
    family = get_family("cheetah-crippled")
    still = identify(rollout_of(family.task({"crippled_joint": 2.0, "mass": 1.1}), 4, size=0.0))
    assert "crippled_joint" in still.unidentified, "no actuator pulls"
    nothing = identify(rollout_of(family.task({"crippled_joint": 2.0}), 1).head(0))
    assert nothing.unidentified == family.space.names
    assert nothing.task == family.task()
    assert nothing.steps == 0


def test_a_wrong_model_is_wrong_about_the_task() -> None:
    task = get_family("cheetah-direction").task({"direction": -1.0, "mass": 1.2})
    found = identify(rollout_of(task, 10), IdentificationConfig(model_error=0.2))
    assert found.task["direction"] == -1.0
    assert found.task["mass"] == pytest.approx(1.2 / 1.2, abs=0.05), "its simulator is too heavy by as much"
    assert found.cost > 1e-6


def test_a_wrong_model_takes_few_more_simulations_than_a_right_one() -> None:
    family = get_family("cheetah-actuators")
    task = family.sample("test-in", 1, seed=1)[0]
    rollout = rollout_of(task, 40)
    right, wrong = (identify(rollout, IdentificationConfig(model_error=error)) for error in (0.0, 0.1))
    np.testing.assert_allclose(right.task.values, task.values, atol=1e-4)
    signs = [index for index, parameter in enumerate(family.space.parameters) if parameter.choices]
    np.testing.assert_array_equal(wrong.task.values[signs], task.values[signs])
    np.testing.assert_allclose(wrong.task.values, task.values, atol=0.1)
    assert wrong.steps < 4 * right.steps


def test_a_rollout_from_mid_episode() -> None:
    task = get_family("reacher-goal").sample("test-in", 1, seed=2)[0]
    whole = rollout_of(task, 40)
    later = Rollout.from_rows(
        task.family,
        [
            (
                whole.observations[i],
                whole.actions[i],
                whole.rewards[i],
                whole.next_observations[i],
                whole.terminated[i],
                whole.truncated[i],
            )
            for i in range(20, 40)
        ],
    )
    found = identify(later, IdentificationConfig(from_reset=False))
    np.testing.assert_allclose(found.task.values, task.values, atol=1e-3)


def test_families_whose_observations_do_not_hold_the_state_are_refused() -> None:
    name = next(name for name in list_families() if model_of(get_family(name)) is None)
    family = get_family(name)
    with pytest.raises(MetaMapError, match=r"system identification needs the full state"):
        identify(rollout_of(family.sample("train", 1, 0)[0], 2))


def test_estimates_are_clipped_to_what_the_family_admits() -> None:
    family = get_family("cheetah-crippled")
    assert family.closest_task({"crippled_joint": 2.4, "mass": 9.0}) == family.task(
        {"crippled_joint": 2.0, "mass": 1.8}
    )
    assert family.closest_task({}) == family.task()
    reacher = get_family("reacher-goal").closest_task({"goal_angle": 4.0, "goal_radius": -0.1})
    assert reacher["goal_angle"] == pytest.approx(4.0 - 2 * np.pi)
    assert reacher["goal_radius"] == 0.0
    with pytest.raises(MetaMapError, match="did you mean 'mass'"):
        family.closest_task({"mas": 1.0})
    with pytest.raises(MetaMapError, match="finite"):
        family.closest_task({"mass": float("nan")})


def test_variances_of_slopes_far_apart_in_size() -> None:
    slopes = np.diag([1e6, 1e-5])[:, [1, 0]]
    assert _variances(slopes) == pytest.approx([1e10, 1e-12])
    ill = np.array([[1e8, 1e8], [1e-5, 0.0], [0.0, 1e-5]])  # slopes.T @ slopes is singular in double precision
    assert _variances(ill) == pytest.approx([5e9, 5e9], rel=1e-3)


def test_an_earlier_estimate_is_where_the_search_starts() -> None:
    config = IdentificationConfig(screened=0, starts=1, evaluations=5, from_reset=False)
    first, other = get_family("cheetah-actuators").sample("test-in", 2, seed=1)
    found = identify(rollout_of(first, 10), config)
    again = identify(rollout_of(first, 10, seed=1), config, start=found, diagnose=False)
    assert again.steps == 10, "it still explains all"
    assert again.task == found.task
    assert again.unidentified == ()
    changed = identify(rollout_of(other, 10), config, start=found)
    assert changed.cost < 1e-3
    np.testing.assert_allclose(changed.task.values, other.values, atol=0.05)


def test_a_delay_is_identified_without_the_delay() -> None:
    family = get_family("cheetah-actuators-delay")
    assert not holds_state(family)
    model = model_of(family)
    assert model is not None
    assert model.name == "cheetah-actuators"
    assert model_of(get_family("cheetah-actuators")) is get_family("cheetah-actuators")
    assert model_of(get_family("dmc-walker-speed")) is None
    found = identify(
        rollout_of(family.sample("test-in", 1, seed=1)[0], 4), IdentificationConfig(starts=1, evaluations=2)
    )
    assert found.task.family == family.name
    assert found.task["delay"] == 2.0, "the middle of training"
    assert "delay" in found.unidentified
