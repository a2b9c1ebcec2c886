"""Probes: what they do, that no transition crosses a reset, and that a rollout depends on nothing but its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box
from numpy.typing import NDArray

from helpers.policies import base_of
from metamap_agents.policy.acting import BatchedPolicy
from metamap_envs import FamilyEnv, MetaMapError, get_family, list_families
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.probing.collecting import collect, probe_env
from metamap_rl.probing.documents import probe_from_json, probe_to_json
from metamap_rl.probing.probes import PROBES, Probe
from metamap_rl.probing.probes.planned import BasePolicyProbe, ExcitationProbe, MixedProbe

FAMILIES, NAMES = list_families(), PROBES.names()


def probe_named(name: str) -> Probe:
    return probe_from_json({"name": name})


def arrays(transitions: Rollouts, repeats: slice | int = slice(None)) -> dict[str, Any]:
    names = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    return {name: getattr(transitions, name)[:, repeats] for name in names}


def truncations(terminated: NDArray[np.bool_], horizon: int) -> list[int]:
    """Steps [T] at which an episode has lasted for the horizon; one that terminated is followed by a new one."""
    found, length = [], 0
    for step, end in enumerate(terminated):
        length += 1
        if length == horizon:
            found.append(step)
        if end or length == horizon:
            length = 0
    return found


# --------------------------------------------------------------------------------------------------- the plan


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_the_head_of_a_longer_one(name: str) -> None:
    short, long = (probe_named(name).plan(np.random.default_rng(3), steps, 4) for steps in (7, 50))
    np.testing.assert_array_equal(short.gain, long.gain[:7])
    np.testing.assert_array_equal(short.offset, long.offset[:7])
    assert long.offset.shape == (50, 4)


def test_what_each_probe_does() -> None:
    noisy = BasePolicyProbe(noise=0.2).plan(np.random.default_rng(0), 4000, 3)
    assert (noisy.gain == 1).all()
    assert noisy.offset.std() == pytest.approx(0.2, rel=0.05)
    excited = ExcitationProbe(amplitude=0.5, hold=4).plan(np.random.default_rng(0), 4000, 3)
    assert (excited.gain == 0).all()
    assert 0.49 < np.abs(excited.offset).max() <= 0.5
    changes = (np.diff(excited.offset, axis=0) != 0).mean()
    assert changes == pytest.approx(1 / 4, rel=0.1)
    mixed = MixedProbe(block=5).plan(np.random.default_rng(0), 20, 3)
    assert mixed.gain.tolist() == ([1.0] * 5 + [0.0] * 5) * 2


@pytest.mark.parametrize("name", NAMES)
def test_json_and_back(name: str) -> None:
    probe = probe_named(name)
    assert probe_from_json(probe_to_json(probe)) == probe


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "a probe needs the key 'name'"),
        ({"name": "base-polcy"}, "unknown probe 'base-polcy': did you mean 'base-policy'"),
        ({"name": "seeking", "guide": "guide"}, "probe 'seeking' was removed"),
        ({"name": "mixed", "blok": 3}, "unknown setting 'blok' of probe 'mixed': did you mean 'block'"),
        ({"name": "mixed", "noise": 9.0}, r"probe setting 'noise': expected a number in \[0.0, 2.0\], got 9.0"),
        ({"name": "base-policy", "noise": float("nan")}, "got nan"),
        ({"name": "base-policy", "noise": "a"}, "got 'a'"),
        ({"name": "excitation", "hold": 0}, "'hold': expected"),
        ({"name": "excitation", "amplitude": True}, "'amplitude': expected"),
    ],
)
def test_bad_settings_are_reported(document: dict[str, Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        probe_from_json(document)


# ------------------------------------------------------------------------------------------ the fast simulator


@pytest.mark.parametrize("name", FAMILIES)
def test_no_transition_crosses_a_reset(name: str) -> None:
    family = get_family(name)
    steps = family.horizon + 8
    found = collect(MixedProbe(), family.sample("train", 2, 0), base_of(family), steps=steps, seed=0, num_threads=1)
    ends = found.terminated | found.truncated
    for terminated, truncated in zip(found.terminated[:, 0], found.truncated[:, 0], strict=True):
        assert np.flatnonzero(truncated).tolist() == truncations(terminated, family.horizon)
    goes_on = ~ends[..., :-1]
    following, after = found.next_observations[..., :-1, :], found.observations[..., 1:, :]
    np.testing.assert_array_equal(following[goes_on], after[goes_on])
    assert not (following[~goes_on] == after[~goes_on]).all(axis=-1).any()
    rollout = found.rollout(1)
    assert (rollout.task, len(rollout)) == (found.tasks[1], steps)
    assert np.abs(found.actions).max() <= 1


@pytest.mark.parametrize("probe", NAMES)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_steps_do_not_depend_on_how_many_there_are(name: str, probe: str) -> None:
    family = get_family(name)
    tasks, base = family.sample("train", 2, 0), base_of(family)
    short, long = (
        collect(probe_named(probe), tasks, base, steps=steps, repeats=2, seed=1, num_threads=1) for steps in (5, 25)
    )
    for key, array in arrays(short).items():
        np.testing.assert_array_equal(array, arrays(long)[key][:, :, :5])


@pytest.mark.parametrize("probe", NAMES)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_rollout_does_not_depend_on_what_else_is_collected(name: str, probe: str) -> None:
    family = get_family(name)
    tasks, base = family.sample("train", 3, 0), base_of(family)
    many = collect(probe_named(probe), tasks, base, steps=25, repeats=3, seed=1, num_threads=2)
    alone = collect(probe_named(probe), tasks[1:2], base, steps=25, seed=1, num_threads=1)
    for key, array in arrays(alone, 0).items():
        np.testing.assert_array_equal(array, arrays(many, 0)[key][1:2])


def test_seeds_repeats_and_tasks_differ() -> None:
    family = get_family("reacher-goal")
    tasks, base = family.sample("train", 2, 0), base_of(family)
    first, other = (collect(BasePolicyProbe(), tasks, base, steps=3, repeats=2, seed=seed) for seed in (0, 1))
    starts = np.concatenate([found.observations[:, :, 0].reshape(4, -1) for found in (first, other)])
    assert len(np.unique(starts, axis=0)) == 8
    assert len(np.unique(first.actions[:, :, 0].reshape(4, -1), axis=0)) == 4


def test_nothing_to_collect_is_refused() -> None:
    family = get_family("reacher-goal")
    with pytest.raises(MetaMapError, match="at least 1 step and 1 repeat, got 0 and 1"):
        collect(BasePolicyProbe(), family.sample("train", 1, 0), base_of(family), steps=0, seed=0)
    with pytest.raises(MetaMapError, match="at least one task"):
        collect(BasePolicyProbe(), [], base_of(family), steps=1, seed=0)


# --------------------------------------------------------------------------------------------- one environment


@pytest.mark.parametrize("probe", NAMES)
@pytest.mark.parametrize("name", FAMILIES)
def test_one_environment_is_probed_alike(name: str, probe: str) -> None:
    family, base = get_family(name), base_of(get_family(name))
    env = gym.make(family.gym_id, task=family.sample("train", 1, 0)[0])
    steps = family.horizon + 3
    rollout = probe_env(probe_named(probe), env, base, family=name, steps=steps, seed=4)
    assert (rollout.family, rollout.task, len(rollout)) == (name, None, steps)
    plan = probe_named(probe).plan(np.random.default_rng(4).spawn(1)[0], steps, family.action_size)
    means = BatchedPolicy(base.policies(base.phi[None])).means(rollout.observations[None])[0]
    np.testing.assert_allclose(
        rollout.actions, np.clip(plan.gain[:, None] * means + plan.offset, -1, 1), rtol=0, atol=1e-5
    )
    ends = rollout.terminated | rollout.truncated
    assert np.flatnonzero(rollout.truncated).tolist() == truncations(rollout.terminated, family.horizon)
    assert ends.any()
    same = (rollout.next_observations[:-1] == rollout.observations[1:]).all(axis=1)
    assert (same == ~ends[:-1]).all()
    head = probe_env(probe_named(probe), env, base, family=name, steps=5, seed=4)
    for key, array in head.arrays().items():
        np.testing.assert_array_equal(array, rollout.arrays()[key][:5])


def test_the_probe_does_not_draw_the_numbers_of_the_reset() -> None:
    env, base = FamilyEnv("cheetah-velocity"), base_of(get_family("cheetah-velocity"))
    env.reset(seed=4)
    still = replace(base, phi=np.zeros_like(base.phi))
    actions = probe_env(BasePolicyProbe(0.1), env, still, family="cheetah-velocity", steps=20, seed=4).actions.ravel()
    env.reset(seed=4)
    start = env.data.qvel / 0.1  # the standard normal numbers that the reset drew
    assert not np.isclose(actions[:, None], 0.1 * start, rtol=1e-3, atol=0).any()


def test_no_steps_give_an_empty_rollout() -> None:
    base = base_of(get_family("reacher-goal"))
    rollout = probe_env(BasePolicyProbe(), FamilyEnv("reacher-goal"), base, family="reacher-goal", steps=0, seed=0)
    assert len(rollout) == 0
    with pytest.raises(MetaMapError, match="0 or more steps, got -1"):
        probe_env(BasePolicyProbe(), FamilyEnv("reacher-goal"), base, family="reacher-goal", steps=-1, seed=0)


class Own(gym.Env[Any, Any]):
    """A user's own environment, which hands out one array again and again and knows no Task."""

    def __init__(self, observation_size: int = 8, action_size: int = 2, poison: float = 0.0) -> None:
        self.observation_space = Box(-np.inf, np.inf, (observation_size,), np.float64)
        self.action_space = Box(-1, 1, (action_size,), np.float32)
        self.state, self.poison = np.zeros(observation_size), poison

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state[:] = 0
        return self.state, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        action *= 1.0  # an environment may do what it likes with what it is given
        self.state += 1 + self.poison
        return self.state, 1, bool(self.state[0] == 3), False, {}


def test_an_environment_may_reuse_its_observation() -> None:
    base = base_of(get_family("reacher-goal"))
    rollout = probe_env(BasePolicyProbe(), Own(), base, family="reacher-goal", steps=5, seed=0)
    assert rollout.observations[:, 0].tolist() == [0, 1, 2, 0, 1]
    assert rollout.next_observations[:, 0].tolist() == [1, 2, 3, 1, 2]
    assert rollout.terminated.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Own(observation_size=17), r"environment's observations have shape \(17,\), expected \(8,\)"),
        (Own(action_size=6), r"environment's actions have shape \(6,\), expected \(2,\)"),
        (Own(poison=float("nan")), "'Own', step 1 of the episode: the environment's observation is NaN in 8 of 8"),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(env: Own, message: str) -> None:
    base = base_of(get_family("reacher-goal"))
    with pytest.raises(MetaMapError, match=message):
        probe_env(BasePolicyProbe(), env, base, family="reacher-goal", steps=5, seed=0)
