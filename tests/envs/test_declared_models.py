"""Fields of MuJoCo's model, in random models: equal to a model compiled with the value, or refused in a sentence."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator
from random import Random
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco import MujocoEnv
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from test_family_physics import assert_equal_models, numbers

from metamap_envs import Family, MetaMapError, from_gymnasium, registry
from metamap_envs.from_gymnasium.fields import FIELDS

pytestmark = pytest.mark.filterwarnings("ignore:.*settotalmass")  # deprecated, and in Gymnasium's half_cheetah.xml


class XmlEnv(MujocoEnv):
    """Any model, read from a text by the constructor."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 250}  # noqa: RUF012

    def __init__(self, xml: str, **kwargs: Any) -> None:
        self.xml = xml
        space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        super().__init__(".", 2, space, **kwargs)
        size = self.model.nq + self.model.nv
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = mujoco.MjModel.from_xml_string(self.xml)
        return model, mujoco.MjData(model)

    def _set_action_space(self) -> gym.spaces.Box:
        self.action_space = gym.spaces.Box(-1.0, 1.0, (max(1, self.model.nu),), np.float32)
        return self.action_space

    def reset_model(self) -> Any:
        self.set_state(self.init_qpos, self.init_qvel)
        return np.concatenate([self.data.qpos, self.data.qvel])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.do_simulation(action[: self.model.nu], self.frame_skip)
        return np.concatenate([self.data.qpos, self.data.qvel]), float(self.data.qpos[0]), False, False, {}


@contextlib.contextmanager
def registered(creator: Any = XmlEnv) -> Iterator[None]:
    """What is declared or registered within is gone afterwards."""
    before, declared = dict(gym.registry), dict(registry._DECLARED)
    gym.registry.pop("Xml-v0", None)
    gym.register("Xml-v0", entry_point=creator, max_episode_steps=50)
    try:
        yield
    finally:
        gym.registry.clear()
        gym.registry.update(before)
        registry._DECLARED.clear()
        registry._DECLARED.update(declared)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with registered():
        yield


def declare(xml: str, **entry: object) -> Family:
    """A family with one parameter, p, of a model."""
    return declare_many(xml, {"p": entry})


def declare_many(xml: str, parameters: dict[str, dict[str, object]]) -> Family:
    document = {"name": "xml", "environment": "Xml-v0", "arguments": {"xml": xml}, "parameters": parameters}
    registry._DECLARED.pop("xml", None)
    return from_gymnasium(document)


def assert_same_models(found: mujoco.MjModel, expected: mujoco.MjModel) -> None:
    """Equal in every number, but for rounding: bodies given as geoms are added up, those given as numbers are not."""
    others = numbers(expected)
    for name, array in numbers(found).items():
        scale = float(np.abs(others[name]).max(initial=0.0)) if others[name].dtype.kind == "f" else 0.0
        np.testing.assert_allclose(array, others[name], rtol=1e-9, atol=1e-10 * scale, err_msg=name)
    for name in ("timestep", "impratio", "wind", "disableflags", "enableflags"):
        np.testing.assert_array_equal(getattr(found.opt, name), getattr(expected.opt, name), err_msg=name)
    for name in ("meaninertia", "meanmass", "meansize", "extent", "center"):
        np.testing.assert_allclose(getattr(found.stat, name), getattr(expected.stat, name), rtol=1e-9, atol=1e-12)


def rollout(model: mujoco.MjModel) -> Any:
    """Positions and velocities after a few steps under a fixed control."""
    data = mujoco.MjData(model)
    data.ctrl[:] = 0.3
    data.qvel[:] = 0.1
    for _ in range(20):
        mujoco.mj_step(model, data)
    return np.concatenate([data.qpos, data.qvel])


# random models ------------------------------------------------------------------------------------------------------

_SETTINGS: dict[str, Any] = {
    "deadline": None,
    "phases": [Phase.generate],  # a failure is shown as it was drawn: to shrink it takes long
    "suppress_health_check": list(HealthCheck),
}
_TARGETS = 3
"""Of each random model, drawn at random."""

number = st.floats(0.2, 5.0).map(lambda value: float(f"{value:.3g}"))
maybe = st.booleans()


@st.composite
def joints(draw: st.DrawFn, name: str, free: bool) -> str:
    kind = draw(st.sampled_from(["hinge", "hinge", "slide", "ball", *(["free"] if free else [])]))
    if kind == "free":
        return f'<freejoint name="{name}"/>'
    text = f'<joint name="{name}" type="{kind}" axis="{draw(st.sampled_from(["0 1 0", "1 0 0", "0 0 1"]))}"'
    if kind != "ball":
        text += ' range="-0.8 0.8"'
    spring = draw(st.sampled_from(["", "damped", "springdamper"]))
    if spring == "damped":
        text += f' damping="{draw(number)}" stiffness="{draw(number)}" frictionloss="0.1"'
    elif spring:
        text += f' springdamper="{draw(st.floats(0.05, 0.5)):.3f} {draw(number)}"'
    if draw(maybe):
        text += f' armature="{draw(st.floats(0.01, 0.5)):.3f}"'
    return text + "/>"


@st.composite
def bodies(draw: st.DrawFn, index: int, count: int) -> str:
    """A chain of bodies, each with geoms, an inertia of its own, or both."""
    shape = draw(
        st.sampled_from(
            ['type="sphere" size="0.1"', 'type="capsule" size="0.05 0.2"', 'type="box" size="0.1 0.15 0.2"']
        )
    )
    weight = draw(st.sampled_from(["", 'mass="1.5"', 'density="700"', 'class="heavy"']))
    touch = draw(st.sampled_from(["", f'friction="{draw(number)} 0.01 0.001"', 'contype="0" conaffinity="0"']))
    text = f'<body name="b{index}" pos="0.1 0 0.3">{draw(joints(f"j{index}", index == 0))}'
    if draw(maybe):
        text += '<inertial pos="0.02 0 0.01" mass="0.8" diaginertia="0.02 0.015 0.01"/>'
    text += f'<geom name="g{index}" {shape} {weight} {touch}/>'
    if draw(maybe):
        text += '<geom type="sphere" size="0.07" pos="0 0.1 0"/>'
    text += f'<site name="s{index}"/>'
    if index + 1 < count:
        text += draw(bodies(index + 1, count))
    return text + "</body>"


@st.composite
def actuators(draw: st.DrawFn, count: int, kinds: list[str], tendons: list[str]) -> list[str]:
    found = []
    for index, kind in enumerate(kinds):
        if kind not in ("hinge", "slide"):
            continue
        where = f'name="a{index}" joint="j{index}" gear="{draw(number)}"'
        found.append(
            draw(
                st.sampled_from(
                    [
                        f"<motor {where}/>",
                        f'<position {where} kp="{draw(number)}" kv="{draw(number)}"/>',
                        f'<position {where} kp="{draw(number)}" dampratio="{draw(number)}"/>',
                        f'<position {where} kp="{draw(number)}"/>',
                        f'<velocity {where} kv="{draw(number)}"/>',
                        f'<intvelocity {where} kp="{draw(number)}" actrange="-1 1"/>',
                        f'<damper {where} kv="{draw(number)}" ctrlrange="0 1"/>',
                        f'<cylinder {where} area="{draw(number)}" timeconst="0.1"/>',
                        f'<muscle {where} force="{draw(number)}"/>',
                        f"<muscle {where}/>",
                        f'<general {where} gaintype="affine" gainprm="2 1 0" biastype="affine" biasprm="0.1 -1 -0.2"/>',
                        f'<general {where} gainprm="3" biastype="affine" biasprm="0.1 -2 -0.2"/>',
                    ]
                )
            )
        )
    for tendon in tendons:
        kind = draw(st.sampled_from(["", "motor", "position"]))
        if kind:
            found.append(
                f'<{kind} name="a_{tendon}" tendon="{tendon}"'
                + (' kp="3" dampratio="0.7"/>' if kind == "position" else "/>")
            )
    return found


@st.composite
def models(draw: st.DrawFn) -> str:
    """MJCF of a small robot above a floor, with anything that the compiler derives numbers for."""
    count = draw(st.integers(1, 3))
    tree = draw(bodies(0, count))
    kinds = [
        "free" if f'<freejoint name="j{i}"' in tree else tree.split(f'<joint name="j{i}" type="')[1].split('"')[0]
        for i in range(count)
    ]
    scalar = [index for index, kind in enumerate(kinds) if kind in ("hinge", "slide")]
    tendons, equalities, contacts = [], [], []
    names = []
    if scalar and draw(maybe):
        names.append("fixed")
        terms = "".join(f'<joint joint="j{index}" coef="{draw(number)}"/>' for index in scalar)
        tendons.append(f'<fixed name="fixed" stiffness="{draw(number)}" damping="0.1">{terms}</fixed>')
    if count > 1 and draw(maybe):
        names.append("cable")
        tendons.append('<spatial name="cable" range="0 2" stiffness="2"><site site="s0"/><site site="s1"/></spatial>')
    if count > 1 and draw(maybe):
        equalities.append(
            draw(
                st.sampled_from(['<connect body1="b0" body2="b1" anchor="0 0 0.1"/>', '<weld body1="b0" body2="b1"/>'])
            )
        )
    if len(scalar) > 1 and draw(maybe):
        equalities.append(f'<joint joint1="j{scalar[0]}" joint2="j{scalar[1]}" polycoef="0 0.5 0 0 0"/>')
    for index in range(count):
        kind = draw(st.sampled_from(["", "", "derived", "own"]))
        if kind:
            contacts.append(
                f'<pair geom1="floor" geom2="g{index}"' + (' friction="1 1 0.1 0.1 0.1"/>' if kind == "own" else "/>")
            )
    if count > 1 and draw(maybe):
        contacts.append('<exclude body1="b0" body2="b1"/>')
    medium = draw(st.sampled_from(["", 'density="20" viscosity="0.1" wind="1 0 0"']))
    total = draw(st.sampled_from(["", "", f'settotalmass="{draw(number)}"']))
    inertia = draw(st.sampled_from(["", "", 'inertiafromgeom="true"', 'boundmass="0.3" boundinertia="0.005"']))
    moving = draw(actuators(count, kinds, names))
    statistic = draw(st.sampled_from(["", "", '<statistic extent="3"/>']))
    return f"""<mujoco><compiler autolimits="true" {inertia} {total}/>
    <option timestep="0.002" integrator="implicitfast" {medium}/>{statistic}
    <default><geom friction="0.8 0.02 0.003"/>
    <default class="heavy"><geom density="3000" friction="1.4"/></default></default>
    <worldbody><geom name="floor" type="plane" size="5 5 0.1" pos="0 0 -1"/>{tree}</worldbody>
    <tendon>{"".join(tendons)}</tendon><equality>{"".join(equalities)}</equality><contact>{"".join(contacts)}</contact>
    <actuator>{"".join(moving)}</actuator></mujoco>"""


# what they are compared with -----------------------------------------------------------------------------------------


def is_servo(raw: Any, *, index: int) -> bool:
    fixed = raw.gaintype == mujoco.mjtGain.mjGAIN_FIXED and raw.biastype == mujoco.mjtBias.mjBIAS_AFFINE
    return bool(fixed and raw.gainprm[0] == -raw.biasprm[index] != 0)


def compiled(xml: str, kind: str, name: str, field: str, index: int | None, factor: float) -> mujoco.MjModel:
    """The model with a number of its text times a factor."""
    spec = mujoco.MjSpec.from_string(xml)
    if kind == "option":
        found = getattr(spec.option, field)
        if index is None:
            setattr(spec.option, field, found * factor)
        else:
            found[index] *= factor
        return spec.compile()
    owner = getattr(spec, kind)(name)
    if kind == "body":
        return compiled_body(spec, owner, field, index, factor)
    if field == "kp":
        owner.gainprm[0] *= factor
        owner.biasprm[1] *= factor
    elif field == "kv" and is_servo(owner, index=2) and not owner.biasprm[1]:
        owner.gainprm[0] *= factor
        owner.biasprm[2] *= factor
    elif field == "kv":
        held = owner.gainprm if owner.biastype == mujoco.mjtBias.mjBIAS_NONE else owner.biasprm
        held[2] *= factor
    else:
        held = getattr(owner, field)
        if isinstance(held, np.ndarray):
            held[index or 0] *= factor
        else:
            setattr(owner, field, held * factor)
    return spec.compile()


def compiled_body(spec: Any, body: Any, field: str, index: int | None, factor: float) -> mujoco.MjModel:
    """By its geoms' densities where that is the same, else by the compiled bodies."""
    plain = spec.compiler.settotalmass <= 0 and spec.compiler.boundmass == 0
    if field == "mass" and plain:
        explicit = (
            body.explicitinertial and spec.compiler.inertiafromgeom != mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_TRUE
        )
        if explicit:
            body.mass *= factor
            body.inertia *= factor
        for geom in [] if explicit else body.geoms:
            geom.density *= factor
            geom.mass *= factor  # not a number where the density counts
        return spec.compile()
    own = spec.compile()
    spec.compiler.settotalmass = -1.0
    spec.compiler.boundmass = spec.compiler.boundinertia = 0.0
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    for each in spec.bodies[1:]:
        same = own.body(each.name)
        each.explicitinertial = True
        each.mass, each.inertia, each.ipos, each.iquat = same.mass[0], same.inertia, same.ipos, same.iquat
    if field == "mass":
        body.mass *= factor
        body.inertia *= factor
    else:
        body.inertia[index] *= factor
    return spec.compile()


def targets_of(xml: str) -> list[tuple[str, str, str, int | None]]:
    """Every (kind, object, field, element) that a model offers."""
    model = mujoco.MjSpec.from_string(xml).compile()
    named = {"body": model.nbody, "joint": model.njnt, "geom": model.ngeom, "actuator": model.nu}
    found: list[tuple[str, str, str, int | None]] = []
    for kind, count in named.items():
        names = [getattr(model, kind)(index).name for index in range(count)]
        for name, field in itertools.product([name for name in names if name], FIELDS[kind]):
            several = {"inertia": (0, 2), "friction": (0, 1), "solimp": (0, 1), "solref": (0,), "gear": (0,)}
            found += [
                (kind, name, field, index)
                for index in several.get(field, (0, 1, 2) if field[-3:] == "prm" else (None,))
            ]
    for field in FIELDS["option"]:
        found.append(("option", "", field, {"gravity": 2, "wind": 0}.get(field)))
    return found


def check_target(xml: str, kind: str, name: str, field: str, index: int | None, factor: float) -> str:
    """A target times a factor equals the compiled model, or is refused in a sentence; returns its field if it is."""
    entry: dict[str, object] = {"option": field} if kind == "option" else {kind: name, "field": field}
    try:
        family = declare(xml, **entry, index=index, how="scale", train=[min(factor, 1.0), max(factor, 1.0)])
        found = family.model(family.task({"p": factor}))
    except MetaMapError as error:
        sentence = str(error)
    else:
        expected = compiled(xml, kind, name, field, index, factor)
        assert_same_models(found, expected)
        np.testing.assert_allclose(rollout(found), rollout(expected), rtol=1e-6, atol=1e-8)
        return field
    assert "\n" not in sentence
    return ""


def check_models(count: int) -> set[str]:
    """Some targets of each of so many random models; returns the fields that were not always refused."""
    written: set[str] = set()

    @settings(max_examples=count, derandomize=True, database=None, **_SETTINGS)
    @given(xml=models(), factor=st.sampled_from([0.5, 1.3, 2.0]), random=st.randoms(use_true_random=False))
    def check(xml: str, factor: float, random: Random) -> None:
        try:
            mujoco.MjSpec.from_string(xml).compile()
        except ValueError:  # a muscle whose range of lengths is not found
            assume(False)
        of_field: dict[str, list[tuple[str, str, str, int | None]]] = {}
        for target in targets_of(xml):
            of_field.setdefault(target[2], []).append(target)
        for field in random.sample(sorted(of_field), _TARGETS):
            written.add(check_target(xml, *random.choice(of_field[field]), factor))

    check()
    return written


def test_fields_of_random_models_equal_compiled_ones_or_are_refused() -> None:
    assert len(check_models(50)) > 6  # not all refused


@pytest.mark.slow
def test_fields_of_many_random_models_equal_compiled_ones_or_are_refused() -> None:
    assert len(check_models(500)) > 12  # of 20 fields


# single cases -------------------------------------------------------------------------------------------------------

ARM = """<mujoco><option timestep="0.002" integrator="implicitfast" gravity="0 0 0"/><worldbody>
<geom name="floor" type="plane" size="5 5 0.1" pos="0 0 -1"/>
<body name="link"><joint name="hinge" axis="0 1 0" {joint}/>
<geom name="rod" type="capsule" fromto="0 0 0 0.5 0 0" size="0.03" mass="1"/>
<body name="tip" pos="0.5 0 0"><joint name="ball" type="ball" damping="0.2"/><geom size="0.05"/></body></body>
</worldbody>
<actuator>{actuator}</actuator>{more}</mujoco>"""
SERVO = '<position name="servo" joint="hinge" kp="50" dampratio="1" ctrlrange="-1 1"/>'


def arm(actuator: str = SERVO, joint: str = "", more: str = "") -> str:
    return ARM.format(actuator=actuator, joint=joint, more=more)


def flagged(flag: str) -> str:
    return arm(more=f"<option><flag {flag}/></option>")


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


PAIRED = arm(more='<contact><pair geom1="floor" geom2="rod" friction="1 1 .1 .1 .1"/></contact>')


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


# environments whose model comes about in other ways -----------------------------------------------------------------


class CachedEnv(XmlEnv):
    """Copies a model that was compiled before."""

    models: ClassVar[dict[str, mujoco.MjModel]] = {}

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = copy.copy(self.models[self.xml])
        return model, mujoco.MjData(model)


class SpecEnv(XmlEnv):
    """Compiles a specification, and something else before it."""

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        mujoco.MjModel.from_xml_string("<mujoco/>")
        model = mujoco.MjSpec.from_string(self.xml).compile()
        self.total = float(model.body_mass.sum())
        return model, mujoco.MjData(model)


class RandomEnv(XmlEnv):
    """Draws a mass for each episode."""

    def reset_model(self) -> Any:
        self.model.body_mass[1] = self.np_random.uniform(0.5, 2.0)
        return super().reset_model()


class ResettingEnv(XmlEnv):
    """Sets gravity back when a second episode begins."""

    episodes = 0

    def reset_model(self) -> Any:
        self.episodes += 1
        if self.episodes > 1:
            self.model.opt.gravity[2] = -9.81
        return super().reset_model()


class SteppingEnv(XmlEnv):
    """Sets gravity back in its fifth step."""

    steps = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 5:
            self.model.opt.gravity[2] = -9.81
        return super().step(action)


class SharingEnv(CachedEnv):
    """Takes a model that was compiled before for its own."""

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self.models[self.xml], mujoco.MjData(self.models[self.xml])


class WritingEnv(XmlEnv):
    """Writes a mass itself."""

    def __init__(self, xml: str, payload: float = 1.0, **kwargs: Any) -> None:
        super().__init__(xml, **kwargs)
        self.model.body_mass[1] = payload


PLAIN = arm('<motor name="m" joint="hinge"/>')


def test_a_specification_is_compiled_with_the_value() -> None:
    with registered(SpecEnv):
        family = declare(arm(), body="link", field="mass", how="scale", train=[0.5, 4.0])
        env: Any = family.make(family.task({"p": 4.0})).unwrapped  # type: ignore[attr-defined]
    spec = mujoco.MjSpec.from_string(arm())
    spec.geom("rod").mass = 4.0
    assert_same_models(env.model, spec.compile())
    assert env.total == pytest.approx(spec.compile().body_mass.sum())


def test_a_model_without_a_specification_is_written_where_nothing_else_depends_on_it() -> None:
    CachedEnv.models.update({xml: mujoco.MjModel.from_xml_string(xml) for xml in (PLAIN, arm())})
    with registered(CachedEnv):
        family = declare(PLAIN, body="link", field="mass", how="scale", train=[0.5, 4.0])
        spec = mujoco.MjSpec.from_string(PLAIN)
        spec.geom("rod").mass = 4.0  # means of the model, which nothing looks at, stay as they are
        assert_equal_models(family.model(family.task({"p": 4.0})), spec.compile())
        with pytest.raises(MetaMapError, match=r"dampratio.*compiled model"):
            declare(arm(), body="link", field="mass", how="scale", train=[0.5, 4.0])


def test_a_value_that_the_environments_own_code_overwrites_is_refused() -> None:
    with registered(RandomEnv), pytest.raises(MetaMapError, match="sets it again in reset or step"):
        declare(PLAIN, body="link", field="mass", train=[0.5, 4.0])
    with registered(WritingEnv):
        with pytest.raises(MetaMapError, match="something else in the model or in the environment's code sets it"):
            declare(PLAIN, body="link", field="mass", train=[0.5, 4.0])
        parameters = {"a": {"argument": "payload", "train": [0.5, 2.0]}, "b": {**MASS, "how": "set", "train": [0.5, 2]}}
        with pytest.raises(MetaMapError, match=r"'[ab]'"):
            declare_many(PLAIN, parameters)


@pytest.mark.parametrize("creator", [ResettingEnv, SteppingEnv])
def test_a_value_that_is_set_back_later_is_refused(creator: Any) -> None:
    with registered(creator), pytest.raises(MetaMapError, match="sets it again in reset or step"):
        declare(PLAIN, option="gravity", index=2, train=[-12, -5])


def test_a_model_that_all_environments_hold_is_refused_and_left_as_it_is() -> None:
    model = SharingEnv.models[PLAIN] = mujoco.MjModel.from_xml_string(PLAIN)
    with registered(SharingEnv), pytest.raises(MetaMapError, match="one and the same MuJoCo model"):
        declare(PLAIN, body="link", field="mass", how="scale", train=[0.5, 4.0])
    assert_same_models(model, mujoco.MjModel.from_xml_string(PLAIN))


def test_a_time_step_of_an_environment_that_checks_its_frame_rate() -> None:
    family = declare(PLAIN, option="timestep", train=[0.001, 0.004])
    env: Any = family.make(family.task({"p": 0.004})).unwrapped  # type: ignore[attr-defined]
    assert (env.dt, env.metadata["render_fps"]) == (0.008, 125)
