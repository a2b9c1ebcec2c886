"""Families from dm_control's suite: rewards as HyperZero sets them, starts as dm_control draws them, grids."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts.filling import RecipeOverrides, TaskCounts, fill_zoo
from metamap_agents.experts.recipes import load_recipe
from metamap_envs import FamilyEnv, State, get_family, list_families
from metamap_envs.families._dmc import at_least, choice_grid, close_to_at_least
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.pipeline import training_pairs

NAMES = tuple(name for name in list_families() if name.startswith("dmc-"))
SPEEDS = np.linspace(-12.0, 12.0, 97)


@pytest.mark.parametrize("value_at_margin", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("target", [0.5, 10.0])
def test_the_linear_tolerance_is_dm_controls(target: float, value_at_margin: float) -> None:
    rewards = pytest.importorskip("dm_control.utils.rewards")
    expected = rewards.tolerance(
        SPEEDS, (target, np.inf), margin=target / 2, value_at_margin=value_at_margin, sigmoid="linear"
    )
    np.testing.assert_array_equal(at_least(SPEEDS, target, target / 2, value_at_margin), expected)


def test_the_gaussian_tolerance_is_dm_controls() -> None:
    rewards = pytest.importorskip("dm_control.utils.rewards")
    expected = rewards.tolerance(SPEEDS, (1.2, np.inf), margin=0.6)
    np.testing.assert_array_equal(close_to_at_least(SPEEDS, 1.2, 0.6), expected)


def test_a_grid_has_both_ends_and_both_signs_where_asked_for() -> None:
    assert choice_grid(0.3, 0.7, 0.05) == (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
    both = choice_grid(0.5, 10.0, 0.5, both_signs=True)
    assert len(both) == 40
    assert both == tuple(-speed for speed in reversed(both))


@pytest.mark.parametrize("name", NAMES)
def test_a_fifth_of_the_settings_trains_and_the_others_test(name: str) -> None:
    family = get_family(name)
    count = int(np.prod([len(parameter.choices) for parameter in family.space.parameters]))
    seen = {task.id for task in family.sample("train", 2 * count, 0)}
    unseen = {task.id for task in family.sample("test-in", 2 * count, 0)}
    assert len(seen) == round(0.2 * count)
    assert len(seen | unseen) == len(seen) + len(unseen) == count


def moving(name: str, speeds: list[float]) -> State:
    """States of upright bodies that move at these speeds."""
    rows = np.array(speeds)
    family = get_family(name)
    qvel = np.zeros((len(rows), family.base_model.nv))
    if "finger" in name:
        qvel[:, 2] = rows
    readouts = {"velocity": rows[:, None], "position": np.full((len(rows), 3), 1.5), "torso": np.ones((len(rows), 9))}
    return State(np.zeros_like(qvel), qvel, readouts)


@pytest.mark.parametrize("name", ["dmc-cheetah-speed", "dmc-walker-speed", "dmc-finger-speed"])
@pytest.mark.parametrize("target", [4.0, -4.0])
def test_the_target_is_worth_all_rest_a_tenth_and_the_other_direction_nothing(name: str, target: float) -> None:
    state = moving(name, [target, 2 * target, 0.0, target / 2, -target])
    values = np.full((5, 1), target)
    rewards, _ = get_family(name).reward(state, state, np.zeros((5, 1)), values)
    move = np.array([1.0, 1.0, 0.1, 0.55, 0.0])
    np.testing.assert_allclose(rewards, (5 * move + 1) / 6 if "walker" in name else move)


@pytest.mark.parametrize("name", NAMES)
def test_only_some_seeds_start_alike_and_all_starts_are_admitted(name: str) -> None:
    family = get_family(name)
    model = family.base_model
    limited = model.jnt_limited == 1
    starts = [family.initial_state(family.task(), np.random.default_rng(seed))[0] for seed in range(4)]
    assert len({start.tobytes() for start in starts}) == 4
    for start in starts:
        low, high = model.jnt_range[limited].T
        slack = 0.2 if "cheetah" in name else 0.0  # settling on the floor bends joints a little beyond their range
        assert (start[limited] >= low - slack).all()
        assert (start[limited] <= high + slack).all()


def test_the_cheetah_starts_settled_on_the_floor_and_the_finger_without_a_contact() -> None:
    env = FamilyEnv("dmc-cheetah-length", parameters={"length": 0.7})
    env.reset(seed=0)
    assert env.data.ncon > 0
    assert np.abs(env.data.qvel).max() < 0.5
    for length in (0.1, 0.34):
        finger = FamilyEnv("dmc-finger-length", parameters={"length": length})
        for seed in range(5):
            finger.reset(seed=seed)
            assert finger.data.ncon == 0


def test_derived_quantities_are_of_the_state_after_the_step() -> None:
    env = FamilyEnv("dmc-walker-speed")
    env.reset(seed=0)
    observation = env.step(np.full(6, 0.5))[0]
    model = env.family.base_model
    now = mujoco.MjData(model)
    now.qpos[:], now.qvel[:] = env.data.qpos, env.data.qvel
    mujoco.mj_forward(model, now)
    assert observation[14] == now.body("torso").xpos[2]


def test_experts_of_settings_that_were_not_trained_on_get_a_training_of_their_own() -> None:
    recipe, family = load_recipe("dmc-cheetah-speed", "expert"), get_family("dmc-cheetah-speed")
    assert recipe.after_universal(family.sample("train", 1, 0)[0]) is None
    assert recipe.after_universal(family.sample("test-in", 1, 0)[0]) == recipe


@pytest.mark.slow
def test_a_zoo_of_a_grid_validates_on_other_rollouts_of_its_training_settings(tmp_path: Path) -> None:
    base = {**tiny.SETTINGS, "n_timesteps": 200}
    zoo = fill_zoo(
        tmp_path / "zoo",
        "dmc-finger-length",
        TaskCounts(train=5, validation=3, test_in=1),
        workers=1,
        overrides=RecipeOverrides(base, {**base, "start": "parent"}),
    )
    training, unseen = zoo.experts("train"), zoo.experts("test-in")
    assert (len(training), len(zoo.experts("validation")), len(unseen)) == (2, 0, 1)
    assert [expert.record["steps"] for expert in (*training, *unseen)] == [0, 0, 200]
    pairs, held_out = (training_pairs(zoo, split, BasePolicyProbe(), repeats=1) for split in ("train", "validation"))
    np.testing.assert_array_equal(pairs.parameters, held_out.parameters)
    np.testing.assert_array_equal(pairs.phi, held_out.phi)
    assert (pairs.rollouts.observations != held_out.rollouts.observations).any()
