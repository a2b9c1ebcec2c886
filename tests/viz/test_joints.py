"""Joints that can be broken, found by their effect on the model."""

from __future__ import annotations

import numpy as np
import pytest

from metamap_envs.registry import get_family
from metamap_rl.viz.joints import CONDITIONS, actuator_factors, condition_of, joints_of, with_condition

FAMILIES = ("cartpole-swingup", "cheetah-actuators", "cheetah-crippled", "quadrotor-hover", "pendulum-swingup")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_condition_is_that_joints_alone_and_goes_back(name: str) -> None:
    family = get_family(name)
    joints = joints_of(family)
    assert joints
    for joint in joints:
        for condition in joint.conditions:
            task = with_condition(family, family.task(), joint, condition)
            factors = actuator_factors(family, task)
            assert condition_of(factors[joint.index]) == condition
            assert np.allclose(np.delete(factors, joint.index), 1.0)
            assert with_condition(family, task, joint, "healthy") == family.task()


def test_conditions_come_in_the_order_of_clicks() -> None:
    for joint in joints_of(get_family("cheetah-actuators")):
        assert tuple(joint.conditions) == CONDITIONS


def test_two_joints_break_together_where_each_has_parameters_of_its_own() -> None:
    family = get_family("cheetah-actuators")
    one, other, *_ = joints_of(family)
    task = with_condition(family, with_condition(family, family.task(), one, "flipped"), other, "broken")
    factors = actuator_factors(family, task)
    assert [condition_of(factors[joint.index]) for joint in (one, other)] == ["flipped", "broken"]


def test_a_family_whose_actuators_are_certain_has_no_joints_to_break() -> None:
    assert joints_of(get_family("reacher-goal")) == ()
