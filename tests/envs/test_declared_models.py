"""Fields of MuJoCo's model in single cases: equal to a model compiled with the value, or refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import pytest

from helpers.xml_models import SERVO, arm, assert_same_models, declare, declare_many, registered
from metamap_envs import MetaMapError

pytestmark = pytest.mark.filterwarnings("ignore:.*settotalmass")  # deprecated, and in Gymnasium's half_cheetah.xml


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with registered():
        yield


def test_a_mass_changes_what_the_compiler_derives_from_it() -> None:
    for xml in (arm(), arm('<motor joint="hinge"/>', joint='springdamper="0.1 1"')):
        family = declare(xml, body="link", field="mass", how="scale", train=[0.5, 4.0])
        spec = mujoco.MjSpec.from_string(xml)
        spec.geom("rod").mass = 4.0
        assert_same_models(family.model(family.task({"p": 4.0})), spec.compile())
    family = declare(arm(), joint="hinge", field="armature", train=[0.01, 1.0])
    spec = mujoco.MjSpec.from_string(arm())
    spec.joint("hinge").armature = 0.5
    assert_same_models(family.model(family.task({"p": 0.5})), spec.compile())


@pytest.mark.parametrize("servo", ["position", "intvelocity", "velocity"])
def test_the_strength_of_a_servo(servo: str) -> None:
    text = {
        "position": '<position name="servo" joint="hinge" kp="{}" dampratio="1" ctrlrange="-1 1"/>',
        "intvelocity": '<intvelocity name="servo" joint="hinge" kp="{}" actrange="-1 1"/>',
        "velocity": '<velocity name="servo" joint="hinge" kv="{}"/>',
    }[servo]
    field = "kv" if servo == "velocity" else "kp"
    family = declare(arm(text.format(50)), actuator="servo", field=field, train=[10.0, 100.0])
    assert family.task()["p"] == 50.0
    expected = mujoco.MjModel.from_xml_string(arm(text.format(100)))
    found = family.model(family.task({"p": 100.0}))
    assert_same_models(found, expected)
    assert found.actuator_gainprm[0, 0] == 100.0


def touching(rod: str = "", floor: str = "", more: str = "") -> str:
    """A rod that lies in the floor."""
    xml = arm(more=more).replace('pos="0 0 -1"', 'pos="0 0 0"').replace('axis="0 1 0"', 'axis="0 1 0.5"')
    return xml.replace('name="rod"', f'name="rod" {rod}').replace('name="floor"', f'name="floor" {floor}')


def constraints_of(xml: str, field: str, index: int, value: float) -> list[Any]:
    """All numbers of MuJoCo's constraints, with a field of the rod at a value."""
    model = mujoco.MjModel.from_xml_string(xml)
    getattr(model.geom("rod"), field)[index] = value
    data = mujoco.MjData(model)
    data.qvel[:] = 0.1
    mujoco.mj_forward(model, data)
    return [data.efc_J.tolist(), data.efc_D.tolist(), data.efc_aref.tolist()]


EXCLUDED = '<contact><exclude body1="link" body2="world"/></contact>'


@pytest.mark.parametrize(
    ("xml", "field", "index", "train", "reason"),
    [
        (touching(), "friction", 0, (0.5, 2.0), ""),
        (touching(), "friction", 0, (0.5, 0.9), "the higher one counts"),
        (touching('priority="1"'), "friction", 0, (0.5, 0.9), ""),
        (touching('condim="1"', 'condim="1"'), "friction", 0, (0.5, 2.0), "condim 1"),
        (touching('condim="1"'), "friction", 0, (0.5, 2.0), ""),
        (touching('condim="1" priority="1"'), "friction", 0, (0.5, 2.0), "condim 1"),
        (touching(), "friction", 1, (0.5, 2.0), "condim 3"),
        (touching(floor='condim="4"'), "friction", 1, (0.5, 2.0), ""),
        (touching(floor='condim="4"'), "friction", 2, (0.5, 2.0), "condim 4"),
        (touching(floor='condim="6"'), "friction", 2, (0.5, 2.0), ""),
        (touching(floor='priority="1"'), "friction", 0, (0.5, 2.0), "'floor'.*priority"),
        (touching(floor='priority="1"'), "solref", 0, (0.5, 2.0), "'floor'.*priority"),
        (touching(), "solref", 0, (0.5, 2.0), ""),
        (touching('solmix="0"'), "solref", 0, (0.5, 2.0), "solmix"),
        (touching('solmix="0"'), "solimp", 0, (0.5, 0.9), "solmix"),
        (touching('solmix="0"', 'solmix="0"'), "solref", 0, (0.5, 2.0), ""),
        (touching('solmix="0" priority="1"'), "solref", 0, (0.5, 2.0), ""),
        (touching(more=EXCLUDED), "friction", 0, (0.5, 2.0), "exclude"),
        (touching('contype="0" conaffinity="0"'), "friction", 0, (0.5, 2.0), "contype"),
        (touching('contype="0"'), "friction", 0, (0.5, 2.0), ""),
        (touching(more='<option><flag constraint="disable"/></option>'), "friction", 0, (0.5, 2.0), "disable"),
    ],
)
def test_a_number_of_a_geom_is_refused_where_no_contact_takes_it(
    xml: str, field: str, index: int, train: tuple[float, float], reason: str
) -> None:
    low, high = (constraints_of(xml, field, index, value) for value in train)
    assert (low == high) == bool(reason), "what MuJoCo does"
    if not reason:
        declare(xml, geom="rod", field=field, index=index, train=train)
        return
    with pytest.raises(MetaMapError, match=reason) as caught:
        declare(xml, geom="rod", field=field, index=index, train=train)
    assert all(word in str(caught.value) for word in (f"{field!r}[{index}]", "geom 'rod'", "changes nothing"))


def test_a_friction_counts_where_the_other_geoms_varies_too() -> None:
    entry = {"field": "friction", "index": 0, "train": [0.5, 0.9]}
    declare_many(touching(), {"rod": {"geom": "rod", **entry}, "floor": {"geom": "floor", **entry}})


BALL = '<motor name="m" joint="ball" gear="1 2 3"/>'


@pytest.mark.parametrize(
    ("actuator", "entry", "reason"),
    [
        (SERVO, {"actuator": "servo", "field": "gear", "index": 0}, ""),
        (SERVO, {"actuator": "servo", "field": "gear", "index": 1}, "1 of the 6"),
        (BALL, {"actuator": "m", "field": "gear", "index": 2}, ""),
        (BALL, {"actuator": "m", "field": "gear", "index": 3}, "3 of the 6"),
        (SERVO.replace("/>", ' group="1"/>'), {"actuator": "servo", "field": "kp"}, "actuatorgroupdisable"),
        (SERVO, {"actuator": "servo", "field": "kp"}, ""),
    ],
)
def test_a_number_that_its_actuator_does_not_read_is_refused(
    actuator: str, entry: dict[str, object], reason: str
) -> None:
    xml = arm(actuator, more='<option actuatorgroupdisable="1"/>')
    if not reason:
        declare(xml, **entry, train=[0.5, 2.0])
        return
    with pytest.raises(MetaMapError, match=reason) as caught:
        declare(xml, **entry, train=[0.5, 2.0])
    assert str(entry["field"]) in str(caught.value)


def test_a_joint_with_several_axes_has_one_number() -> None:
    family = declare(arm(), joint="ball", field="damping", train=[0.1, 3.0])
    assert family.task()["p"] == 0.2
    np.testing.assert_array_equal(family.model(family.task({"p": 2.5})).joint("ball").damping, 2.5)


@pytest.mark.parametrize(
    ("xml", "entry", "expected"),
    [
        (arm(), {"actuator": "servo", "field": "gainprm", "index": 0}, "moves where it settles; declare field: kp"),
        (arm(), {"actuator": "servo", "field": "biasprm", "index": 1}, "declare field: kp"),
        (
            arm(),
            {"actuator": "servo", "field": "biasprm", "index": 2},
            "computes biasprm.2. from the servo's dampratio",
        ),
        (arm(), {"actuator": "servo", "field": "kv"}, "the compiler computes it from the servo's dampratio"),
        (arm('<motor name="m" joint="hinge"/>'), {"actuator": "m", "field": "kp"}, "kp belongs to position servos"),
        (arm('<motor name="m" joint="hinge"/>'), {"actuator": "m", "field": "biasprm", "index": 1}, "changes nothing"),
        (
            arm('<motor joint="hinge"/><motor joint="hinge"/>'),
            {"actuator": "hinge", "field": "gear", "index": 0},
            "2 actua",
        ),
        (arm(joint='springdamper="0.1 1"'), {"joint": "hinge", "field": "stiffness"}, "computes it from springdamper"),
        (arm(), {"joint": "ball", "field": "damping", "index": 1}, "one number for all axes"),
        (arm(), {"body": "link", "field": "inertia", "index": 0}, "A . B >= C"),
        (arm(), {"option": "wind", "index": 0}, "changes nothing, as density and viscosity are 0"),
        (
            arm(more='<option><flag contact="disable"/></option>'),
            {"geom": "rod", "field": "solref", "index": 0},
            "disables",
        ),
        (arm(more='<option><flag gravity="disable"/></option>'), {"option": "gravity", "index": 2}, "disables it"),
        (
            arm(more='<option><flag override="enable"/></option>'),
            {"geom": "rod", "field": "friction", "index": 0},
            "overrid",
        ),
    ],
)
def test_a_field_that_would_not_do_what_it_says_is_refused(xml: str, entry: dict[str, object], expected: str) -> None:
    with pytest.raises(MetaMapError, match=expected) as caught:
        declare(xml, **entry, train=[0.5, 20.0])
    assert "\n" not in str(caught.value)


MASS = {"body": "link", "field": "mass", "how": "scale", "train": [0.5, 2.0]}


@pytest.mark.parametrize(
    "other",
    [
        {"body": "link", "field": "inertia", "index": 1, "how": "scale", "train": [0.9, 1.1]},
        {"body": "*", "field": "mass", "how": "scale", "train": [0.5, 2.0]},
        {"body": "link", "field": "mass", "train": [0.5, 2.0]},
        {"body": "*", "field": "inertia", "how": "scale", "train": [0.5, 2.0]},
    ],
)
def test_two_parameters_of_one_number_are_refused_in_any_order(other: dict[str, object]) -> None:
    for parameters in ({"a": MASS, "b": other}, {"b": other, "a": MASS}):
        with pytest.raises(MetaMapError, match=r"the parameters '[ab]' and '[ab]' write the same thing"):
            declare_many(arm(), parameters)


def test_two_parameters_of_a_model_in_any_order() -> None:
    parameters: dict[str, dict[str, object]] = {
        "mass": MASS,
        "strength": {"actuator": "servo", "field": "kp", "train": [10, 100]},
        "gear": {"actuator": "servo", "field": "gear", "index": 0, "train": [0.5, 2.0]},
        "x": {"option": "gravity", "index": 0, "train": [-1, 1]},
        "z": {"option": "gravity", "index": 2, "train": [-1, 1]},
    }
    values = {"mass": 2.0, "strength": 80.0, "gear": 1.5, "x": 0.5, "z": -0.5}
    family = declare_many(arm(), parameters)
    found = family.model(family.task(values))
    family = declare_many(arm(), dict(reversed(parameters.items())))
    assert_same_models(found, family.model(family.task(values)))
    spec = mujoco.MjSpec.from_string(arm(SERVO.replace("50", "80").replace("/>", ' gear="1.5"/>')))
    spec.geom("rod").mass = 2.0
    spec.option.gravity = [0.5, 0.0, -0.5]
    assert_same_models(found, spec.compile())
