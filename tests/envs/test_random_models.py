"""Fields of MuJoCo's model, in random models: equal to a model compiled with the value, or refused in a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from helpers.xml_models import assert_same_models, declare, registered
from metamap_envs import MetaMapError
from metamap_envs.from_gymnasium.fields import FIELDS

pytestmark = pytest.mark.filterwarnings("ignore:.*settotalmass")  # deprecated, and in Gymnasium's half_cheetah.xml


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with registered():
        yield


def rollout(model: mujoco.MjModel) -> Any:
    """Positions and velocities after a few steps under a fixed control."""
    data = mujoco.MjData(model)
    data.ctrl[:] = 0.3
    data.qvel[:] = 0.1
    for _ in range(20):
        mujoco.mj_step(model, data)
    return np.concatenate([data.qpos, data.qvel])


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
