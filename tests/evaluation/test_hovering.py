"""The mapper of quadrotors in the coordinates of hovering: coordinates, rows, training, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from metamap_agents.experts.cloning import Cloning
from metamap_agents.runtime.storage import save_arrays
from metamap_envs import FamilyVectorEnv, MetaMapError
from metamap_rl.adaptation.service.trial import run_trial
from metamap_rl.evaluation.flights import quadrotor_family
from metamap_rl.evaluation.hovering.network import COORDINATES, FILE, HoverMapper
from metamap_rl.evaluation.hovering.pilot import HoverPilot
from metamap_rl.evaluation.hovering.rows import FEATURES, WINDOW, Rows
from metamap_rl.evaluation.hovering.training import HoverTraining, train_hovering

FAMILY = quadrotor_family("quadrotor-hover")
TINY = HoverTraining(
    cloning=Cloning(rounds=1, tasks=4, last_steps=10), rounds=2, updates=2, vehicles=4, steps=WINDOW, batch=3, hidden=8
)


@pytest.fixture(scope="module")
def mapper() -> HoverMapper:
    return train_hovering(FAMILY, TINY, seed=3)


def test_set_points_are_those_at_which_the_controller_hovers() -> None:
    still = {"wind_x": 0.0, "wind_y": 0.0}
    tasks = [FAMILY.task({**dict(task.parameters), **still}) for task in FAMILY.sample("train", 8, 1)]
    law, env = FAMILY.controller(tasks), FamilyVectorEnv(tasks)
    assert law.hovering.shape == (8, COORDINATES)
    observations, _ = env.reset(seed=0)
    flying = np.ones(8, dtype=np.bool_)
    for _ in range(450):
        observations, _, terminated, *_ = env.step(law(observations))
        flying &= ~terminated
    assert flying.sum() >= 6
    np.testing.assert_allclose(observations[flying, 18:], law.hovering[flying, :4], atol=0.02)
    np.testing.assert_allclose(law.hovering[:, 9], np.log([task["motor_rise"] for task in tasks]))


def test_filters_start_at_the_last_action_and_follow_the_actions() -> None:
    rows, valid = Rows(2), np.array([True, False])
    before = np.zeros((2, 22))
    before[:, [3, 7, 11]] = 1.0
    before[:, 18:] = -0.5
    rows.start(before, np.ones(2, dtype=np.bool_))
    actions = np.full((2, 4), 0.5)
    found = rows.add(before, actions, before, valid)
    assert found.shape == (2, FEATURES)
    np.testing.assert_allclose(found[0, :3], [0.0, 0.0, 1.0])  # holds its weight
    filtered = found[0, -20:].reshape(5, 4)
    np.testing.assert_allclose(filtered[0], 0.5 - np.exp(-0.01 / 0.03), rtol=1e-5)
    assert (np.diff(filtered[:, 0]) < 0.0).all()
    assert not rows.window[1].any()
    assert rows.window[0, -1].any()
    assert not rows.window[0, :-1].any()


def test_training_is_equal_to_the_bit(mapper: HoverMapper) -> None:
    again = train_hovering(FAMILY, TINY, seed=3)
    np.testing.assert_array_equal(mapper.policy.phi, again.policy.phi)
    for one, other in zip(mapper.reader.parameters(), again.reader.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_mapper_is_read_as_it_was_written(mapper: HoverMapper, tmp_path: Path) -> None:
    mapper.save(tmp_path)
    found = HoverMapper.load(tmp_path)
    window = np.random.default_rng(0).standard_normal((3, 20, FEATURES)).astype(np.float32)
    np.testing.assert_array_equal(found.read(window), mapper.read(window))
    with pytest.raises(MetaMapError, match="no such file"):
        HoverMapper.load(tmp_path / "nothing")
    for about in ({}, {"family": "reacher-goal"}, {"family": "quadrotor-hover", "hidden": "8", "activation": "tanh"}):
        (tmp_path / "other").mkdir(exist_ok=True)
        save_arrays(tmp_path / "other" / FILE, {"phi": np.zeros(3, np.float32)}, about)
        with pytest.raises(MetaMapError, match="mapper of hovering"):
            HoverMapper.load(tmp_path / "other")


@pytest.mark.parametrize("reads", ["window", "nothing", "truth", "other"])
def test_it_flies_in_service(mapper: HoverMapper, reads: str) -> None:
    before, after = FAMILY.sample("test-in", 3, 0), FAMILY.sample("test-in", 3, 1)
    pilot = HoverPilot(mapper, 3, reads)
    run_trial(pilot, [before] * 10 + [after] * 10, seeds=[0, 1, 2])
    truth = mapper.policy.coordinates(after)
    np.testing.assert_array_equal(pilot.truth, truth)
    assert np.array_equal(pilot.coordinates, truth) == (reads == "truth")
    assert (pilot.coordinates == 0.0).all() == (reads == "nothing")
