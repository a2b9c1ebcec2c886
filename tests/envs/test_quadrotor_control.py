"""The geometric controller of quadrotors: it hovers, whatever is wrong with the vehicle, if it is told."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from metamap_envs import FamilyVectorEnv, Task, get_family
from metamap_envs.families._quadrotor import Quadrotor

HOVER = cast("Quadrotor", get_family("quadrotor-hover"))
STEADY = {"mass": 0.5, "thrust_to_weight": 3.0, "torque_to_inertia": 300.0, "motor_rise": 0.04, "motor_fall": 0.06}


def places_after(tasks: list[Task], steps: int, bias: NDArray[Any] | float = 0.0, seed: int = 0) -> NDArray[np.float64]:
    """Last places relative to the target in arm lengths; NaN where an episode ended."""
    envs = FamilyVectorEnv(tasks, num_threads=1, horizon=steps + 1)
    observations, _ = envs.reset(seed=seed)
    controller, ended = HOVER.controller(tasks), np.zeros(len(tasks), bool)
    for _ in range(steps):
        observations, _, terminated, _, _ = envs.step(controller(observations) + bias)
        ended |= terminated
    arms = HOVER.arms(np.stack([task.values for task in tasks]))
    return np.where(ended[:, None], np.nan, observations[:, :3] / arms[:, None])


def test_most_vehicles_hover_at_the_target() -> None:
    distances = np.linalg.norm(places_after(HOVER.sample("train", 24, 0), 400), axis=1)
    assert np.mean(distances < 0.5) > 0.7


def test_it_makes_up_for_payload_weak_rotor_and_wind() -> None:
    changes = [{}, {"payload": 0.2}, {"rotor_2": 0.8}, {"wind_x": 0.1, "wind_y": -0.1}]
    distances = np.linalg.norm(places_after([HOVER.task({**STEADY, **change}) for change in changes], 600), axis=1)
    assert (distances < 0.1).all()


def test_sensitivity_is_where_a_constant_error_leads() -> None:
    task = HOVER.task(STEADY)
    error = np.array([0.002, -0.001, 0.0015, 0.0005], np.float32)
    offset = places_after([task], 700, error)[0]
    height, along, aside, _ = HOVER.controller([task]).sensitivity[0] @ error
    np.testing.assert_allclose(offset[2], height, rtol=0.2)
    np.testing.assert_allclose(np.hypot(*offset[:2]), np.hypot(along, aside), rtol=0.2)


def test_actions_are_in_range_in_any_state() -> None:
    tasks = HOVER.sample("test-out", 50, 0)
    observations = np.random.default_rng(0).normal(size=(50, 22)) * 20.0
    actions = HOVER.controller(tasks)(observations)
    assert actions.dtype == np.float32
    assert (np.abs(actions) <= 1.0).all()


def test_other_families_have_none() -> None:
    family = get_family("reacher-goal")
    assert family.controller(family.sample("train", 2, 0)) is None
