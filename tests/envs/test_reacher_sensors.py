"""The order of the sensors of `reacher-sensors`."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from metamap_envs import FamilyEnv, FamilyVectorEnv, get_family

FAMILY = get_family("reacher-sensors")
CODES = st.tuples(*(st.sampled_from(parameter.choices) for parameter in FAMILY.space.parameters))


def test_every_code_is_another_order() -> None:
    codes = np.array(list(itertools.product(*(parameter.choices for parameter in FAMILY.space.parameters))))
    orders = FAMILY.wiring(codes)
    assert orders is not None
    assert len({tuple(order) for order in orders.tolist()}) == 720
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(6), (720, 1)))
    np.testing.assert_array_equal(FAMILY.wiring(FAMILY.task().values[None]), [np.arange(6)])


@given(CODES)
def test_the_state_is_what_the_sensors_show_in_any_order(code: tuple[float, ...]) -> None:
    task = FAMILY.task(dict(zip(FAMILY.space.names, code, strict=True)))
    env = FamilyEnv(FAMILY.name, task=task)
    seen, _ = env.reset(seed=3)
    seen, *_ = env.step(np.array([0.7, -0.4], dtype=np.float32))
    states = FAMILY.states_of(seen[None], task.values[None])
    assert states is not None
    np.testing.assert_allclose(states[0][0], env.data.qpos, atol=1e-6)
    np.testing.assert_allclose(states[1][0], env.data.qvel, atol=1e-6)


def test_physics_and_reward_do_not_depend_on_the_order() -> None:
    tasks = [FAMILY.task(), *FAMILY.sample("test-in", 3, 0)]
    envs = FamilyVectorEnv(tasks)
    seen, _ = envs.reset(seed=[5] * 4)
    for _ in range(4):
        seen, rewards, *_ = envs.step(np.tile([[0.5, 0.3]], (4, 1)).astype(np.float32))
    assert (rewards == rewards[0]).all()
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.tile(np.sort(seen[:1], axis=1), (4, 1)))
    orders = FAMILY.wiring(np.stack([task.values for task in tasks]))
    np.testing.assert_array_equal(seen, seen[0][orders])


def test_a_change_in_mid_episode_rewires_the_next_observation() -> None:
    env = FamilyEnv(FAMILY.name)
    env.reset(seed=1)
    other = FAMILY.sample("train", 1, 2)[0]
    before = env.data.qpos.copy()
    env.set_task(other)
    np.testing.assert_array_equal(env.data.qpos, before)
    action = np.array([0.2, 0.1], dtype=np.float32)
    seen, *_ = env.step(action)
    plain = FAMILY.observe(env._before)
    np.testing.assert_array_equal(seen, plain[0][FAMILY.wiring(other.values[None])[0]])
