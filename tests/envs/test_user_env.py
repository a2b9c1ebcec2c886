"""Environments of users: what Gymnasium's API does not allow is one sentence, edges of spaces work or are refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Text
from gymnasium.spaces import Dict as DictSpace
from numpy.typing import NDArray

from helpers.user_envs import ID, Plain
from metamap_envs import Family, FamilySpaces, FamilyVectorEnv, MetaMapError, from_gymnasium, get_family
from metamap_envs.declared_env import GymnasiumFamilyEnv
from metamap_envs.from_gymnasium.actions import ActionMap
from metamap_envs.user_env import CheckedEnv

pytestmark = pytest.mark.usefixtures("forgets_declared_families")


def declare(base: type[Plain] = Plain, **changes: Any) -> Family:
    """The family of `Plain` with other members."""
    made: Any = type("Changed", (base,), changes)
    gym.register(ID, entry_point=made, max_episode_steps=20)
    return from_gymnasium(
        {"name": "users", "environment": ID, "parameters": {"gain": {"argument": "gain", "train": [0.5, 2.0]}}}
    )


def started(**changes: Any) -> GymnasiumFamilyEnv:
    declare(**changes)
    env = GymnasiumFamilyEnv("users", {"gain": 1.5})
    env.reset(seed=0)
    return env


def returned(part: int, value: Any) -> Any:
    """A `step` with one of its five parts replaced."""

    def step(self: Plain, action: Any) -> Any:
        parts = list(Plain.step(self, action))
        parts[part] = value
        return tuple(parts)

    return step


# what step and reset return ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        (1, np.float32(0.5), 0.5),
        (1, np.array([0.5]), 0.5),
        (1, np.array(2), 2.0),
        (1, True, 1.0),
        (2, 1, True),
        (2, np.bool_(True), True),
        (2, np.array([True]), True),
        (3, 1.0, True),
    ],
)
def test_rewards_and_ends_of_other_types_are_read(part: int, value: Any, expected: Any) -> None:
    found = started(step=returned(part, value)).step(np.zeros(1))
    assert found[part] == expected
    assert type(found[part]) is type(expected)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        (0, None, "the observation expected numbers, got None"),
        (0, np.zeros(3), r"the observation has shape \(3,\), its observation space says \(2,\)"),
        (0, 0.0, r"the observation has shape \(\)"),
        (0, [[0.0], [0.0, 1.0]], "the observation expected an array"),
        (0, np.array([0.0, np.nan]), "the environment's observation is NaN in 1 of 2 numbers"),
        (1, None, "reward: expected one number, got None"),
        (1, np.zeros(2), "reward: expected one number, got an array"),
        (1, "1.0", "reward: expected one number, got '1.0'"),
        (1, 1j, "reward: expected one number"),
        (1, float("nan"), "the environment's reward is NaN"),
        (1, np.float32(np.inf), "the environment's reward is infinite"),
        (2, None, "terminated: expected True or False, got None"),
        (2, "False", "terminated: expected True or False, got 'False'"),
        (2, np.zeros(2, bool), "terminated: expected True or False"),
        (3, 2, "truncated: expected True or False, got 2"),
        (4, None, "info expected a dictionary, got None"),
    ],
)
def test_what_step_must_not_return_is_reported_with_environment_task_and_step(
    part: int, value: Any, message: str
) -> None:
    where = r"family 'users': environment 'Users-v0', task gain=1.5, step 1 of the episode"
    with pytest.raises(MetaMapError, match=f"{where}: {message}") as caught:
        started(step=returned(part, value)).step(np.zeros(1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (np.zeros(2), r"reset\(\) expected to return \(observation, info\), got an array"),
        ((np.zeros(2), 0.0), "got a tuple of 2"),
        ((np.full(2, np.inf), {}), "reset: the environment's observation is infinite in 2 of 2"),
    ],
)
def test_what_reset_must_not_return(result: Any, message: str) -> None:
    with pytest.raises(MetaMapError, match=message):
        started(reset=lambda self, **_: result)


def test_the_api_of_old_gym_is_reported() -> None:
    env = started(step=lambda self, action: Plain.step(self, action)[:4])
    with pytest.raises(MetaMapError, match=r"got a tuple of 4; it has the API of Gym before 0\.26"):
        env.step(np.zeros(1))


def test_a_reset_without_seed_is_reported() -> None:
    with pytest.raises(MetaMapError, match="unexpected keyword argument 'seed'"):
        started(reset=lambda self: (np.zeros(2), {}))


def test_an_exception_of_the_environment_is_one_sentence_with_its_place() -> None:
    def step(self: Plain, action: Any) -> Any:
        return 1 / 0

    with pytest.raises(MetaMapError, match=r"step 1.*ZeroDivisionError: division by zero \(test_user_env.py, line"):
        started(step=step).step(np.zeros(1))


def _leave(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise SystemExit("the licence has expired")


@pytest.mark.parametrize("member", ["reset", "step"])
def test_an_environment_that_ends_the_program_is_reported(member: str) -> None:
    changes = {member: _leave}
    with pytest.raises(MetaMapError, match="SystemExit: the licence has expired"):
        started(**changes).step(np.zeros(1))


def test_an_interrupt_stays_one() -> None:
    def step(self: Any, action: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        started(step=step).step(np.zeros(1))


def test_a_close_that_fails_is_reported() -> None:
    def close(self: Any) -> None:
        if getattr(type(self), "broken", False):
            raise RuntimeError("no such window")

    env = started(close=close)
    envs = FamilyVectorEnv([get_family("users").task()] * 2)
    type(env.env.unwrapped).broken = True  # type: ignore[attr-defined]
    for each in (env, envs):
        with pytest.warns(UserWarning, match="closing it failed: RuntimeError: no such window"):
            each.close()
        each.close()


def test_a_close_that_fails_when_a_family_is_declared_is_one_sentence() -> None:
    def close(self: Any) -> None:
        raise RuntimeError("no such window")

    with pytest.warns(UserWarning, match="closing it failed"), pytest.raises(MetaMapError, match="no such window"):
        declare(close=close)


def test_nan_late_in_an_episode_is_reported_and_is_no_divergence() -> None:
    def reward(self: Any) -> float:
        self.count = getattr(self, "count", 0) + 1
        return np.nan if self.count > 7 else 0.0

    envs = FamilyVectorEnv([declare(reward=reward).task()] * 2)
    envs.reset(seed=0)
    for _ in range(7):
        envs.step(np.zeros((2, 1)))
    with pytest.raises(MetaMapError, match="step 8 of the episode: the environment's reward is NaN"):
        envs.step(np.zeros((2, 1)))


class Scribbler(Plain):
    """Writes into the action that it gets, and into the one array that it returns."""

    action_space = Box(-1, 1, (1,), np.float32)

    def reset(self, **kwargs: Any) -> Any:
        self.seen = super().reset(**kwargs)[0]
        return self.seen, {}

    def step(self, action: Any) -> Any:
        _, *others = super().step(action)
        self.seen += action
        action *= 0
        return self.seen, *others


def test_an_environment_that_writes_into_its_arrays_spoils_nobodys() -> None:
    family = declare(Scribbler)
    ones = np.ones((2, 1), np.float32)
    for env, action in ((FamilyVectorEnv([family.task()] * 2), ones), (GymnasiumFamilyEnv("users"), ones[0])):
        seen = [env.reset(seed=0)[0]] + [env.step(action)[0] for _ in range(2)]
        assert (action == 1).all()
        np.testing.assert_allclose(np.diff(seen, axis=0), 1.0, atol=1e-5)
    view = FamilySpaces(Scribbler(), family)
    seen = [view.reset(seed=0)[0]] + [view.step(ones[0])[0] for _ in range(2)]
    assert (ones == 1).all()
    np.testing.assert_allclose(np.diff(seen, axis=0), 1.0, atol=1e-5)


def test_what_a_caller_does_to_observations_is_no_matter() -> None:
    envs = FamilyVectorEnv([declare().task()])
    envs.reset(seed=0)[0][:] = np.nan
    assert np.isfinite(envs._before.readouts["observation"]).all()


MODEL = """<mujoco><option timestep="0.01"/><worldbody>
  <body name="cart"><joint name="x" type="slide" axis="1 0 0"/><geom size=".1" mass="1"/></body>
</worldbody><actuator><motor name="push" joint="x" gear="20" {}/></actuator></mujoco>"""


class Cart(MujocoEnv):
    """A cart of the user's own."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 20}  # noqa: RUF012
    path = ""

    def __init__(self, gain: float = 1.0, **kwargs: Any) -> None:
        super().__init__(self.path, 5, Box(-np.inf, np.inf, (2,), np.float64), **kwargs)

    def seen(self) -> NDArray[Any]:
        return np.concatenate([self.data.qpos, self.data.qvel])

    def reset_model(self) -> NDArray[Any]:
        self.set_state(self.init_qpos, self.init_qvel)  # type: ignore[no-untyped-call]
        return self.seen()

    def step(self, action: Any) -> Any:
        self.do_simulation(action, self.frame_skip)
        return self.seen(), 1.0, False, False, {}


def cart(folder: Path, range_of_the_motor: str) -> Family:
    path = folder / "cart.xml"
    path.write_text(MODEL.format(range_of_the_motor))
    made: Any = type("Changed", (Cart,), {"path": str(path)})
    gym.register(ID, entry_point=made, max_episode_steps=20)
    return from_gymnasium(
        {"name": "users", "environment": ID, "parameters": {"mass": {"body": "cart", "field": "mass", "train": [1, 2]}}}
    )


def test_a_motor_without_a_control_range_is_refused_by_name(tmp_path: Path) -> None:
    sentence = r"action 0 has a range of no width \(\[0, 0\]\): give the actuator 'push' a ctrlrange"
    with pytest.raises(MetaMapError, match=f"family 'users': {sentence}"):
        cart(tmp_path, "")


def test_unstable_physics_of_mujoco_end_the_episode(tmp_path: Path) -> None:
    """With the last observation again and reward 0, as in the package's own families."""
    cart(tmp_path, 'ctrlrange="-1 1"')
    env = GymnasiumFamilyEnv("users")
    env.reset(seed=0)
    before = env.step(np.ones(1))[0]
    env.env.unwrapped.data.qvel[:] = np.nan  # type: ignore[attr-defined]
    mujoco.set_mju_user_warning(lambda _: None)
    try:
        observation, reward, terminated, _, info = env.step(np.ones(1))
    finally:
        mujoco.set_mju_user_warning(None)
    np.testing.assert_array_equal(observation, before)
    assert (reward, terminated, info["diverged"]) == (0.0, True, True)
    assert not env.reset()[1].get("diverged")


# spaces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("box", "share"),
    [
        (Box(0, 4, (1,), np.int32), 0.2),
        (Box(-2, 2, (1,), np.int64), 0.2),
        (Box(0, 255, (1,), np.uint8), 1 / 256),
        (Box(-1, 1, (1,), np.int8), 1 / 3),
        (Box(3, 4, (1,), np.int16), 0.5),
    ],
)
def test_each_integer_of_a_box_has_an_equal_share(box: Box, share: float) -> None:
    take = ActionMap(box)
    cells = np.linspace(-1.0, 1.0, 2561)[:-1] + 1.0 / 2560  # middles of equal cells
    taken = np.array([take(np.array([value], np.float32)) for value in cells])
    values, counts = np.unique(taken, return_counts=True)
    assert taken.dtype == box.dtype
    np.testing.assert_array_equal(values, np.arange(int(box.low[0]), int(box.high[0]) + 1))
    np.testing.assert_allclose(counts / len(cells), share, atol=2 / len(cells))
    for end, bound in ((-1.0, box.low), (1.0, box.high), (-1.5, box.low), (7.0, box.high)):
        np.testing.assert_array_equal(take(np.array([end], np.float32)), bound)


@pytest.mark.parametrize(
    "space",
    [
        Box(-0.1, 0.3, (3,), np.float32),
        Box(-0.1, 0.7, (3,), np.float64),
        Box(np.float16(-0.1), np.float16(0.3), (2, 2), np.float16),
        Box(-1.0, 1.0, (2,), np.float16),
        Box(-1.0, 1.0, (2,), np.float64),
        Box(-5.0, 3.0, (), np.float32),
        Box(-3, 9, (2,), np.int8),
        Discrete(4, start=-2),
        Discrete(2, start=5),
    ],
)
def test_actions_are_of_the_space_also_at_its_ends(space: gym.Space[Any]) -> None:
    take = ActionMap(space)
    for value in (-1.0, -0.3, 0.0, 0.3, 1.0):
        assert space.contains(take(np.full(take.size, value, np.float32)))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(0.0, 0.0, (1,)), r"action 0 has a range of no width \(\[0, 0\]\): give it one"),
        (Box(np.array([-1.0, 2.0], np.float32), np.array([1.0, 2.0], np.float32)), "action 1 has a range of no width"),
        (Box(3, 3, (1,), np.int32), "action 0 has a range of no width"),
        (Box(-1.0, np.inf, (1,)), "finite bounds"),
        (Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,)), "finite bounds"),
        (Box(-1.0, 1.0, (0,)), "at least one action"),
        (Discrete(1), "at least two actions to choose from"),
        (MultiDiscrete([2, 3]), "type Box or Discrete"),
        (MultiBinary(3), "type Box or Discrete"),
    ],
)
def test_actions_without_effect_or_end_are_refused(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=f"family 'users': .*{message}"):
        declare(action_space=space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Discrete(3), "type Box.*FlattenObservation"),
        (DictSpace({"a": Box(0.0, 1.0, (1,))}), "type Box.*FlattenObservation"),
        (Text(3), "type Box"),
        (Box(0.0, 1.0, (0,)), "one number or more"),
    ],
)
def test_observations_that_are_no_numbers_are_refused(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(MetaMapError, match=f"family 'users': .*{message}"):
        declare(observation_space=space)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (Box(0, 255, (2, 3, 1), np.uint8), np.arange(6, dtype=np.uint8).reshape(2, 3, 1)),
        (Box(-1.0, 1.0, (), np.float32), 0.5),
        (Box(-1.0, 1.0, (2,), np.float16), np.array([[0.5], [0.25]])),
        (Box(-9, 9, (3,), np.int64), [1, 2, 3]),
        (Box(-1.0, 1.0, (1,)), 0.5),
    ],
)
def test_observations_are_flat_float64_whatever_they_were(space: gym.Space[Any], value: Any) -> None:
    env = started(observation_space=space, observation=lambda self: value)
    found = env.step(np.zeros(1))[0]
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.ravel(value))


def test_a_task_of_another_size_is_refused() -> None:
    def init(self: Plain, gain: float = 1.0) -> None:
        Plain.__init__(self, gain)
        self.observation_space = Box(-np.inf, np.inf, (3 if gain == 2.0 else 2,), np.float32)

    declare(__init__=init)
    with pytest.raises(MetaMapError, match=r"task gain=2: expected \(2, 1\) observations and actions"):
        GymnasiumFamilyEnv("users", {"gain": 2.0})


# seeds ------------------------------------------------------------------------------------------------------------


class OwnGenerator(Plain):
    """Seeds a generator of its own, as environments around other simulators do."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(gain)
        self.rng = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.x = self.rng.normal(size=2).astype(np.float32)
        return self.x, {}


class NeverGoesOn(OwnGenerator):
    """A new generator in each reset, from chance where there is no seed."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.rng = np.random.default_rng(seed)
        self.x = self.rng.normal(size=2).astype(np.float32)
        return self.x, {}


class HandsNothingOn(Plain):
    """Draws from Gymnasium's generator, and forgets to seed it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.x = self.np_random.normal(size=2).astype(np.float32)
        return self.x, {}


def starts(family: Family) -> NDArray[Any]:
    """First observations of three episodes and after a change of the task, one seed."""
    env = GymnasiumFamilyEnv(family.name)
    rows = [env.reset(seed=5)[0], env.reset()[0], env.reset()[0], env.reset(options={"parameters": {"gain": 2.0}})[0]]
    vector = FamilyVectorEnv([family.task()] * 2, autoreset_mode="same_step", horizon=1)
    alike, _ = vector.reset(seed=[5, 6])
    np.testing.assert_array_equal(alike[0], rows[0])
    np.testing.assert_array_equal(vector.step(np.zeros((2, 1)))[0][0], rows[1])
    return np.array(rows)


@pytest.mark.parametrize("kind", [Plain, OwnGenerator, NeverGoesOn, HandsNothingOn])
def test_the_same_seed_gives_the_same_episodes_whatever_generator_it_is(kind: type[Plain]) -> None:
    family = declare(kind)
    with warnings.catch_warnings(action="error"):
        first = starts(family)
    np.testing.assert_array_equal(first, starts(family))
    assert len(np.unique(first[:, 0])) == len(first)
    if kind is not HandsNothingOn:  # and as the environment itself has it
        own = gym.make(ID)
        np.testing.assert_array_equal(first[0], own.reset(seed=5)[0])
        if kind is not NeverGoesOn:
            np.testing.assert_array_equal(first[1], own.reset()[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation": lambda self: np.random.normal(size=2)}, "two resets with the same seed start differently"),  # noqa: NPY002
        ({"reward": lambda self: float(np.random.normal())}, "the same actions after a reset with the same seed"),  # noqa: NPY002
    ],
)
def test_what_no_seed_reproduces_is_noticed(changes: dict[str, Any], message: str) -> None:
    family = declare(**changes)
    state = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    with pytest.warns(UserWarning, match=f"'users': Users-v0 is not reproducible: {message}"):
        assert family.reproducibility.complaint  # type: ignore[attr-defined]
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index]  # noqa: NPY002
    GymnasiumFamilyEnv("users").reset(seed=0)  # told once


def test_a_checked_environment_copies_what_it_is_given() -> None:
    env = CheckedEnv(Plain(), "environment 'Plain'")
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.env.unwrapped.x[:] = 7.0  # type: ignore[attr-defined]
    np.testing.assert_array_equal(first, kept)
