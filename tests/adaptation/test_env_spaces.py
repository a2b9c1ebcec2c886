"""Policies of declared families in the raw environments: keys, choices and bounds, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, MultiBinary, MultiDiscrete
from gymnasium.spaces import Dict as DictSpace
from gymnasium.wrappers import FlattenObservation
from numpy.typing import NDArray

from helpers.plain_family import declare
from helpers.policies import base_of
from helpers.user_envs import ID, Plain
from metamap_envs import FamilySpaces, MetaMapError, declared_families, get_family
from metamap_envs.space_notes import space_notes
from metamap_rl.adaptation.env_spaces import EnvSpaces
from metamap_rl.adaptation.measuring import measure_in_env
from metamap_rl.adaptation.one_shot import AdaptedPolicy
from metamap_rl.adaptation.record import Adaptation
from metamap_rl.probing.collecting import probe_env
from metamap_rl.probing.probes.planned import BasePolicyProbe

pytestmark = pytest.mark.usefixtures("forgets_declared_families")

KEYS = ("observation", "achieved_goal", "desired_goal")


def goal_space(keys: tuple[str, ...] = KEYS) -> DictSpace:
    """As in gymnasium-robotics, with the keys in an order that sorting does not give."""
    shapes = {"observation": (2,), "achieved_goal": (1,), "desired_goal": (1,), "extra": (1,)}
    return DictSpace({key: Box(-5.0, 5.0, shapes[key], np.float64) for key in keys}, sort_keys=False)


class Reach(Plain):
    """Goal-conditioned, with two choices and three switches."""

    observation_space = goal_space()
    action_space: gym.Space[Any] = MultiDiscrete([3, 2], start=[-1, 4])

    def observation(self) -> dict[str, NDArray[Any]]:
        x = np.clip(self.x.astype(np.float64), -5.0, 5.0)
        return {"observation": x, "achieved_goal": x[:1] / 2, "desired_goal": np.array([self.gain])}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return super().step(action)


@pytest.fixture
def reach() -> gym.Env[Any, Any]:
    declare(Reach)
    return gym.make(ID)


def policy_in(env: gym.Env[Any, Any]) -> AdaptedPolicy:
    base = base_of(get_family("users"))
    return AdaptedPolicy(base, base.phi, Adaptation("users", 0, 0.0, 0.0)).acting_in(env)


def test_a_policy_acts_on_keys_and_in_choices_as_the_familys_environment_does(
    reach: gym.Env[Any, Any], tmp_path: Path
) -> None:
    policy, view = policy_in(reach), FamilySpaces(gym.make(ID), "users")
    policy.save(tmp_path / "policy.safetensors")
    loaded = AdaptedPolicy.load(tmp_path / "policy.safetensors")
    assert loaded.spaces is not None
    assert list(loaded.spaces.observations.spaces) == list(KEYS)  # type: ignore[union-attr]
    assert loaded.spaces.actions == reach.action_space
    ours = AdaptedPolicy(policy.base, policy.phi, policy.adaptation)
    seen, flat = reach.reset(seed=0)[0], view.reset(seed=0)[0]
    for _ in range(6):
        action, _ = policy.predict(seen)
        assert reach.action_space.contains(action)
        backwards = {key: seen[key] for key in reversed(seen)}
        for same in (loaded.predict(seen), loaded.predict(backwards), policy.predict(flat)):
            np.testing.assert_array_equal(same[0], action)
        many = {key: np.stack([value] * 3) for key, value in seen.items()}
        assert policy.predict(many)[0].tolist() == [action.tolist()] * 3
        seen = reach.step(action)[0]
        flat = view.step(ours.predict(flat)[0])[0]
        np.testing.assert_array_equal(np.concatenate([seen[key] for key in KEYS]), flat)
    assert len(measure_in_env(policy, reach, 2)["base"]) == 2


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"observation": np.zeros(2)}, "has no key 'achieved_goal', it has 'observation'"),
        (np.zeros(3), r"expected shape \(4,\)"),
        (({}, {}), r"a tuple \(of reset\(\)\?\)"),
        (
            {"observation": np.zeros((2, 2)), "achieved_goal": np.zeros((1, 1)), "desired_goal": np.zeros(1)},
            "as many rows",
        ),
        ({"observation": np.zeros(3), "achieved_goal": np.zeros(1), "desired_goal": np.zeros(1)}, "at 'observation'"),
    ],
)
def test_observations_that_do_not_fit_are_refused(reach: gym.Env[Any, Any], observation: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        policy_in(reach).predict(observation)


class _Other(gym.ObservationWrapper[Any, Any, Any]):
    """Other keys, or the same in another order."""

    def __init__(self, env: gym.Env[Any, Any], *keys: str) -> None:
        super().__init__(env)
        self.observation_space = goal_space(keys)

    def observation(self, observation: Any) -> Any:
        return {key: observation.get(key, np.zeros(1)) for key in self.observation_space.spaces}  # type: ignore[attr-defined]


def test_keys_in_another_order_are_read_by_their_names(reach: gym.Env[Any, Any]) -> None:
    other = _Other(gym.make(ID), *reversed(KEYS))
    base = base_of(get_family("users"))
    found = [probe_env(BasePolicyProbe(), env, base, family="users", steps=9, seed=2) for env in (reach, other)]
    for name, array in found[0].arrays().items():
        np.testing.assert_array_equal(found[1].arrays()[name], array)
    assert EnvSpaces.of(reach, "users") == EnvSpaces.of(other, "users")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            KEYS[:2],
            "have the keys 'observation', 'achieved_goal', expected 'observation', 'achieved_goal', 'desired_goal'",
        ),
        ((*KEYS, "extra"), "have the keys .*'extra', expected"),
    ],
)
def test_other_keys_are_refused(reach: gym.Env[Any, Any], keys: tuple[str, ...], message: str) -> None:
    with pytest.raises(MetaMapError, match=f"the environment's observations {message}"):
        FamilySpaces(_Other(reach, *keys), "users")


def test_a_dict_that_a_wrapper_flattens_is_read_only_in_the_familys_order(reach: gym.Env[Any, Any]) -> None:
    flat = FamilySpaces(FlattenObservation(gym.make(ID)), "users")
    np.testing.assert_array_equal(flat.reset(seed=3)[0], FamilySpaces(reach, "users").reset(seed=3)[0])
    sorted_keys = FlattenObservation(_Other(gym.make(ID), *sorted(KEYS)))
    with pytest.raises(MetaMapError, match="flattened in the order achieved_goal, desired_goal, observation, expected"):
        FamilySpaces(sorted_keys, "users")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (MultiDiscrete([2, 3]), r"are MultiDiscrete\(\[2 3\]\)"),
        (MultiDiscrete([3, 2, 2]), "are MultiDiscrete"),
        (MultiBinary(2), r"are MultiBinary\(2\)"),
        (Box(-1.0, 1.0, (2,)), r"have shape \(2,\), expected \(4,\)"),
    ],
)
def test_other_choices_are_refused(reach: gym.Env[Any, Any], space: gym.Space[Any], message: str) -> None:
    reach.action_space = space
    with pytest.raises(MetaMapError, match=f"the environment's actions {message}"):
        FamilySpaces(reach, "users")


def test_a_dict_is_refused_where_a_family_has_a_box(reach: gym.Env[Any, Any]) -> None:
    with pytest.raises(MetaMapError, match=r"observations are Dict.*expected Box"):
        FamilySpaces(reach, "pendulum-torque")


def test_switches_are_chosen_one_by_one(tmp_path: Path) -> None:
    declare(action_space=MultiBinary((1, 2)), step=lambda self, action: (self.x, self.gain, False, False, {}))
    env = gym.make(ID)
    policy = policy_in(env)
    seen = env.reset(seed=0)[0]
    assert env.action_space.contains(policy.predict(seen)[0])
    policy.save(tmp_path / "p.safetensors")
    assert AdaptedPolicy.load(tmp_path / "p.safetensors").spaces.actions == env.action_space  # type: ignore[union-attr]


# types and bounds -------------------------------------------------------------------------------------------------


class Bounded(Plain):
    """The range of its actions is its parameter."""

    observation_space = Box(-9.0, 9.0, (2,), np.float32)

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(gain)
        self.action_space = Box(-gain, gain, (1,), np.float32)


def bounded(gain: float = 1.0, **spaces: gym.Space[Any]) -> tuple[str, ...]:
    if "users" not in declared_families():
        declare(Bounded)
    env = gym.make(ID, gain=gain)
    vars(env).update({f"_{name}_space": space for name, space in spaces.items()})
    return space_notes(env, get_family("users"))


@pytest.mark.parametrize("high", [0.4, 5.0])
def test_actions_of_another_range_are_named(high: float) -> None:
    (note,) = bounded(action=Box(-high, high, (1,), np.float32))
    assert note.startswith(f"action 0 of the environment ranges over [-{high:g}, {high:g}]")
    assert "that of the family's over [-1, 1]" in note


def test_observations_of_another_range_or_type_are_named() -> None:
    (note,) = bounded(observation=Box(np.array([-9.0, 0.0], np.float32), np.array([9.0, 1.0], np.float32)))
    assert note.startswith("observation 1 of the environment ranges over [0, 1]")
    assert bounded(observation=Box(-np.inf, np.inf, (2,), np.float64)) == ()
    (note,) = bounded(observation=Box(-9, 9, (2,), np.int64))
    assert "are of type int64, those of the family's environment of type float32" in note


def test_types_of_parts_are_named_by_their_keys(reach: gym.Env[Any, Any]) -> None:
    whole = DictSpace({**goal_space().spaces, "desired_goal": Box(-5, 5, (1,), np.int64)})
    reach.observation_space = whole
    (note,) = space_notes(reach, get_family("users"))
    assert "at 'desired_goal' are of type int64" in note


def test_a_family_of_the_package_and_its_own_environment_have_no_notes() -> None:
    assert space_notes(gym.make("Pendulum-v1"), get_family("pendulum-torque")) == ()
    assert space_notes(gym.make("HalfCheetah-v5"), get_family("cheetah-velocity")) == ()
