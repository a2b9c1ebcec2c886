"""Environments of users: what Gymnasium's API does not allow is one sentence, edges of spaces work or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from numpy.typing import NDArray

from helpers.plain_family import declare, started
from helpers.user_envs import ID, Plain
from metamap_envs import Family, FamilySpaces, FamilyVectorEnv, MetaMapError, from_gymnasium, get_family
from metamap_envs.declared_env import GymnasiumFamilyEnv

pytestmark = pytest.mark.usefixtures("forgets_declared_families")


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
