"""Identification of quadrotors whose rotor speeds are hidden."""

from __future__ import annotations

from typing import cast

import numpy as np

from metamap_envs import FamilyVectorEnv, Task, get_family
from metamap_envs.families._quadrotor import Quadrotor
from metamap_rl.evaluation.flights import GivenController, IdentifiedController, fly, vehicles
from metamap_rl.evaluation.identification.rotors import RotorIdentification, effects, like

FAMILY = cast("Quadrotor", get_family("quadrotor-hover"))


def flown(tasks: list[Task], steps: int, *, broken: bool = False) -> list[Task]:
    """What is found after some steps of the controller with noise; ``broken`` rows of nonsense do not count."""
    env, law = FamilyVectorEnv(tasks, horizon=steps + 1), FAMILY.controller(tasks)
    observations, _ = env.reset(seed=3)
    found, generator = RotorIdentification(FAMILY, observations), np.random.default_rng(0)
    alive = np.ones(len(tasks), dtype=np.bool_)
    for _ in range(steps):
        actions = np.clip(law(observations) + generator.normal(0.0, 0.05, (len(tasks), 4)), -1, 1).astype(np.float32)
        after, _, ended, *_ = env.step(actions)
        alive &= ~ended
        found.observe(observations, actions, after, alive)
        observations = after
    if broken:
        found.observe(observations, actions, np.full_like(observations, np.nan), np.zeros_like(alive))
    return found.tasks()


def test_what_decides_a_flight_is_found_within_a_second() -> None:
    drawn = FAMILY.sample("validation", 8, 1)
    tasks = [FAMILY.task({**dict(task.parameters), "payload": 0.0}) for task in drawn]
    errors: dict[str, list[float]] = {"force": [], "torque": [], "wind": []}
    for task, found in zip(tasks, flown(tasks, 100), strict=True):
        (force, torque), (its_force, its_torque) = effects(FAMILY, task), effects(FAMILY, found)
        errors["force"].append(float(np.abs(its_force[:4] / force[:4] - 1.0).max()))
        errors["torque"].append(float(np.abs(its_torque[:, :2] / torque[:, :2] - 1.0).max()))
        errors["wind"].append(float(np.abs(its_force[4:] - force[4:]).max()))
    assert np.median(errors["force"]) < 0.05
    assert np.median(errors["torque"]) < 0.2
    assert np.median(errors["wind"]) < 0.03  # m/s^2


def test_a_vehicle_with_the_same_effects_is_flown_alike() -> None:
    drawn = FAMILY.sample("train", 64, 1)
    tasks = [FAMILY.task({**dict(task.parameters), "payload": 0.0}) for task in drawn]
    same = [like(FAMILY, *effects(FAMILY, task), np.array([task["motor_rise"], task["motor_fall"]])) for task in tasks]
    first, second = FAMILY.controller(tasks), FAMILY.controller(same)
    vector = FamilyVectorEnv(tasks)
    observations, _ = vector.reset(seed=0)
    for _ in range(20):
        actions = first(observations)
        assert np.median(np.abs(actions - second(observations))) < 1e-3
        observations, *_ = vector.step(actions)


def test_effects_that_no_vehicle_has_give_the_nearest() -> None:
    for value in (-1e3, 0.0, 1e3):
        task = like(FAMILY, np.full(6, value), np.full((4, 3), value), np.full(2, value))
        assert task.family == FAMILY.name


def test_transitions_that_do_not_count_change_nothing() -> None:
    tasks = FAMILY.sample("validation", 3, 2)
    assert flown(tasks, 20, broken=True) == flown(tasks, 20)


def test_a_vehicle_that_is_found_out_in_flight_is_as_good_as_a_known_one_whatever_appears() -> None:
    before, after = vehicles(FAMILY, "validation", 8, 5, {"wind_x": 0.1})
    given, found = (
        fly(controller, before, after, steps=250, change_at=50, seed=0)
        for controller in (GivenController(FAMILY), IdentifiedController(FAMILY, GivenController(FAMILY)))
    )
    assert found.survived.sum() >= given.survived.sum() - 1
    assert np.nanmedian(found.errors) < np.nanmedian(given.errors) + 0.05
