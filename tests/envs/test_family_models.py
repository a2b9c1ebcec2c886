"""Models of each family against models that were compiled with its values in the MJCF."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from helpers.models import assert_equal_models, explicit_bodies
from metamap_envs import Task, get_family, list_families
from metamap_envs.assets import gymnasium_asset
from metamap_envs.families._half_cheetah import ACTUATORS
from metamap_envs.families._quadrotor import Quadrotor


def compiled_cheetah_actuators(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)
    for name in ACTUATORS:
        spec.actuator(name).gear[0] *= task[f"sign_{name}"] * task[f"strength_{name}"]
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_cheetah_actuators_delay(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)
    for name in ACTUATORS:
        actuator = spec.actuator(name)
        actuator.gear[0] *= task[f"sign_{name}"] * task[f"strength_{name}"]
        actuator.nsample, actuator.delay = 21, 0.05 * task["delay"] - 0.005
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_cheetah_direction(task: Task) -> mujoco.MjModel:
    model = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0).compile()
    mujoco.mj_setTotalmass(model, 14.0 * task["mass"])
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_cheetah_dynamics(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)
    for joint in spec.joints:
        joint.damping = joint.damping * task["damping"]
    for geom in spec.geoms:
        geom.friction = geom.friction * task["friction"]
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0 * task["mass"])
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_cheetah_crippled(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)
    spec.actuator(ACTUATORS[int(task["crippled_joint"])]).gear[0] = 0.0
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0 * task["mass"])
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_cheetah_union(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("half_cheetah.xml", settotalmass=-1.0)
    if (dead := int(task["crippled_joint"])) >= 0:
        spec.actuator(ACTUATORS[dead]).gear[0] = 0.0
    for joint in spec.joints:
        joint.damping = joint.damping * task["damping"]
    for geom in spec.geoms:
        geom.friction = geom.friction * task["friction"]
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0 * task["mass"])
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_by_powers(asset: str, task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset(asset)
    bodies = [body.name for body in spec.bodies[1:]]
    mass, inertia = 1.5 ** task["mass_power"], 1.5 ** task["inertia_power"]
    explicit_bodies(spec, dict.fromkeys(bodies, mass), dict.fromkeys(bodies, inertia))
    for geom in spec.geoms:
        geom.friction = geom.friction * 1.5 ** task["friction_power"]
    for joint in spec.joints:
        joint.damping = joint.damping * 1.3 ** task["damping_power"]
    return spec.compile()


def compiled_hopper_dynamics(task: Task) -> mujoco.MjModel:
    return compiled_by_powers("hopper.xml", task)


def compiled_walker_dynamics(task: Task) -> mujoco.MjModel:
    return compiled_by_powers("walker2d_v5.xml", task)


def compiled_walker_gravity(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("walker2d_v5.xml")
    spec.option.gravity = (0.0, 0.0, -task["gravity"])
    return spec.compile()


def compiled_swimmer_viscosity(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("swimmer.xml")
    spec.option.viscosity, spec.option.density = task["viscosity"], 1000.0 * task["density"]
    return spec.compile()


def compiled_cartpole_swingup(task: Task) -> mujoco.MjModel:
    spec = gymnasium_asset("inverted_pendulum.xml")
    explicit_bodies(spec, {"pole": task["pole_mass"]}, {"pole": task["pole_mass"]})
    spec.joint("hinge").limited = mujoco.mjtLimited.mjLIMITED_FALSE
    spec.actuator("slide").ctrlrange = (-1.0, 1.0)
    spec.actuator("slide").gear[0] = 300.0 * task["sign_motor"] * task["strength_motor"]
    spec.option.gravity = (0.0, 0.0, -task["gravity"])
    return spec.compile()


PENDULUM = """
<mujoco>
  <option timestep="0.05" gravity="0 0 -10"/>
  <worldbody>
    <light pos="0 -2 3" dir="0 0.6 -0.8"/>
    <body name="pole" pos="0 0 0.75">
      <inertial mass="{mass}" pos="0 0 {centre}" diaginertia="{inertia} {inertia} {axial}"/>
      <joint name="hinge" axis="0 1 0"/>
      <geom type="capsule" name="rod" fromto="0 0 0 0 0 {length}" size="0.05" contype="0" conaffinity="0"
        rgba="0.8 0.3 0.3 1"/>
    </body>
  </worldbody>
  <actuator><motor name="motor" joint="hinge" ctrlrange="-1 1" gear="{gear}"/></actuator>
</mujoco>
"""


def compiled_pendulum_swingup(task: Task) -> mujoco.MjModel:
    mass, length = task["mass"], task["length"]
    written = PENDULUM.format(
        mass=mass,
        length=length,
        centre=length / 2,
        inertia=mass * length**2 / 12,
        axial=1e-3 * mass,
        gear=2.0 * task["strength_motor"],
    )
    return mujoco.MjModel.from_xml_string(written)


def compiled_cheetah_length(task: Task) -> mujoco.MjModel:
    """The numbers of half_cheetah.xml, typed in and scaled, written into its text."""
    half, thigh, shin = task["torso_length"] / 2, task["thigh_length"], task["shin_length"]
    higher = max(0.25 * thigh + 0.14 * shin - 0.39, 0.24 * thigh + 0.18 * shin - 0.42)
    text = (Path(gym.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml").read_text()
    for old, new in {
        'settotalmass="14"': "",
        '"torso" pos="0 0 .7"': f'"torso" pos="0 0 {0.7 + higher}"',
        '"-.5 0 0 .5 0 0"': f'"{-half} 0 0 {half} 0 0"',
        'pos=".6 0 .1"': f'pos="{half + 0.1} 0 .1"',
        '"bthigh" pos="-.5 0 0"': f'"bthigh" pos="{-half} 0 0"',
        '"fthigh" pos=".5 0 0"': f'"fthigh" pos="{half} 0 0"',
        'pos=".1 0 -.13" size="0.046 .145"': f'pos="{0.1 * thigh} 0 {-0.13 * thigh}" size="0.046 {0.145 * thigh}"',
        '"bshin" pos=".16 0 -.25"': f'"bshin" pos="{0.16 * thigh} 0 {-0.25 * thigh}"',
        'pos="-.14 0 -.07"': f'pos="{-0.14 * shin} 0 {-0.07 * shin}"',
        '"bfoot" pos="-.28 0 -.14"': f'"bfoot" pos="{-0.28 * shin} 0 {-0.14 * shin}"',
        'pos="-.07 0 -.12" size="0.046 .133"': f'pos="{-0.07 * thigh} 0 {-0.12 * thigh}" size="0.046 {0.133 * thigh}"',
        '"fshin" pos="-.14 0 -.24"': f'"fshin" pos="{-0.14 * thigh} 0 {-0.24 * thigh}"',
        'pos=".065 0 -.09"': f'pos="{0.065 * shin} 0 {-0.09 * shin}"',
        'size="0.046 .106"': f'size="0.046 {0.106 * shin}"',
        '"ffoot" pos=".13 0 -.18"': f'"ffoot" pos="{0.13 * shin} 0 {-0.18 * shin}"',
        'rgba="0.9 0.6 0.6 1" size="0.046 .15"': f'rgba="0.9 0.6 0.6 1" size="0.046 {0.15 * shin}"',
    }.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    model = mujoco.MjModel.from_xml_string(text)
    mujoco.mj_setTotalmass(model, 14.0)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def written_into(name: str, changes: dict[str, str]) -> mujoco.MjModel:
    """A model of dm_control with pieces of its file's text replaced."""
    package = importlib.util.find_spec("dm_control")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "suite"
    text = (folder / f"{name}.xml").read_text()
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    files = {f"./common/{path.name}": path.read_bytes() for path in (folder / "common").glob("*.xml")}
    return mujoco.MjModel.from_xml_string(text, files)


def compiled_dmc_cheetah(task: Task) -> mujoco.MjModel:
    """What HyperZero's Contextual Control Suite writes into dm_control's cheetah.xml."""
    length = task["length"]
    model = written_into(
        "cheetah",
        {
            'settotalmass="14"': "",
            'fromto="-.5 0 0 .5 0 0"': f'fromto="-{length} 0 0 {length} 0 0"',
            'pos=".6 0 .1"': f'pos="{length + 0.1} 0 0.1"',
            '"bthigh" pos="-.5 0 0"': f'"bthigh" pos="-{length} 0 0"',
            '"fthigh" pos=".5 0 0"': f'"fthigh" pos="{length} 0 0"',
        },
    )
    mujoco.mj_setTotalmass(model, 14.0)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def compiled_dmc_walker(task: Task) -> mujoco.MjModel:
    """What it writes into walker.xml."""
    return written_into("walker", {'"torso" size="0.07 0.3"': f'"torso" size="0.07 {task["length"]}"'})


def compiled_dmc_finger(task: Task) -> mujoco.MjModel:
    """What it writes into finger.xml, with the damping that dm_control's `spin` sets."""
    length = task["length"]
    return written_into(
        "finger",
        {
            'fromto="0 0 0 0 0 -.16"': f'fromto="0 0 0 0 0 -{length}"',
            'fromto="0 0 -.13 0 0 -.161"': f'fromto="0 0 -{length - 0.03} 0 0 -{length + 0.001}"',
            '"spinner" pos=".2 0 .4"': f'"spinner" pos="{length + 0.04} 0 0.4"',
            'size=".04 .09"': f'size="0.04 {length - 0.07}"',
            'frictionloss=".1" damping=".5"': 'frictionloss=".1" damping=".03"',
        },
    )


def compiled_quadrotor(task: Task) -> mujoco.MjModel:
    family = cast("Quadrotor", get_family(task.family))
    spec, arm = family.read_spec(), 0.028 * math.sqrt(2.0) * math.cbrt(task["mass"] / 0.0306) * task["arm"]
    factor, thrust = arm / (0.028 * math.sqrt(2.0)), task["thrust_to_weight"] * task["mass"] * 9.81 / 4
    for each in (*spec.geoms, *spec.sites):
        each.pos, each.size, each.fromto = each.pos * factor, each.size * factor, each.fromto * factor
    vehicle, payload = spec.body("vehicle"), spec.body("payload")
    vehicle.mass, payload.mass = task["mass"], task["mass"] * task["payload"]
    vehicle.inertia = vehicle.inertia / vehicle.inertia[0] * arm * thrust / task["torque_to_inertia"]
    payload.pos, payload.inertia = payload.pos * factor, np.full(3, 0.4 * payload.mass * (0.15 * arm) ** 2)
    for number, sign in enumerate((-1, 1, -1, 1)):
        gear = thrust * task[f"rotor_{number + 1}"]
        spec.actuators[number].gear = (0, 0, gear, 0, 0, sign * task["torque_constant"] * gear)
    spec.option.gravity = 9.81 * np.array([task["wind_x"], task["wind_y"], -1.0])
    return spec.compile()


def compiled_go1(task: Task) -> mujoco.MjModel:
    spec = cast("Any", get_family(task.family)).read_spec()
    payload, box = spec.body("payload"), spec.geom("payload")
    payload.mass, payload.pos = task["payload"], [task["payload_x"], task["payload_y"], 0.1]
    payload.inertia, box.rgba[3] = np.full(3, 0.4 * task["payload"] * 0.08**2), min(task["payload"] / 6.0, 1.0)
    for leg in ("FL", "FR", "RL", "RR"):
        spec.geom(leg).friction[0] = task["friction"]
    for index, servo in enumerate(spec.actuators[:12]):
        strength, (scale, home, torque) = (
            task["motor_strength"],
            ((0.3, 0, 23.7), (0.6, 0.9, 23.7), (0.6, -1.8, 35.55))[index % 3],
        )
        if index == task["weak_joint"]:
            strength *= task["joint_strength"]
            for geom in spec.joint(f"{servo.name}_joint").parent.geoms:
                geom.rgba[:3] += (1.0 - task["joint_strength"]) * (np.array([1.0, 0.1, 0.1]) - geom.rgba[:3])
        servo.gainprm[0] = strength * task["kp"] * scale
        servo.biasprm[:3] = strength * np.array([task["kp"] * home, -task["kp"], -task["kd"]])
        servo.forcerange = strength * torque * np.array([-1.0, 1.0])
        half = 0.5 * dict(task.parameters).get(f"offset_{servo.name}", 0.0)
        spec.joint(f"{servo.name}_joint").parent.quat = [np.cos(half), 0.0, np.sin(half) * (index % 3 > 0), 0.0]
    return spec.compile()


COMPILED = {
    "quadrotor-hover": compiled_quadrotor,
    "quadrotor-tracking": compiled_quadrotor,
    "dmc-cheetah-length": compiled_dmc_cheetah,
    "dmc-cheetah-speed-length": compiled_dmc_cheetah,
    "dmc-walker-length": compiled_dmc_walker,
    "dmc-walker-speed-length": compiled_dmc_walker,
    "dmc-finger-length": compiled_dmc_finger,
    "dmc-finger-speed-length": compiled_dmc_finger,
    "cheetah-actuators": compiled_cheetah_actuators,
    "cheetah-actuators-delay": compiled_cheetah_actuators_delay,
    "cheetah-direction": compiled_cheetah_direction,
    "cheetah-dynamics": compiled_cheetah_dynamics,
    "cheetah-crippled": compiled_cheetah_crippled,
    "cheetah-union": compiled_cheetah_union,
    "cheetah-velocity-actuators": compiled_cheetah_actuators,
    "cheetah-length": compiled_cheetah_length,
    "pendulum-swingup": compiled_pendulum_swingup,
    "hopper-dynamics": compiled_hopper_dynamics,
    "walker-dynamics": compiled_walker_dynamics,
    "walker-gravity": compiled_walker_gravity,
    "swimmer-viscosity": compiled_swimmer_viscosity,
    "cartpole-swingup": compiled_cartpole_swingup,
}


if "go1-velocity" in list_families():
    COMPILED |= dict.fromkeys(("go1-velocity", "go1-uneven"), compiled_go1)


def test_every_family_that_changes_physics_is_here() -> None:
    changed = {name for name in list_families() if get_family(name).physics_parameters}
    assert set(COMPILED) == changed - {"cheetah-network"}  # its network is between action and control


@pytest.mark.parametrize("name", COMPILED)
def test_values_written_into_the_mjcf_before_compilation_give_the_same_model(name: str) -> None:
    family, rtol = get_family(name), 0.0 if COMPILED[name] is compiled_cheetah_actuators else 1e-9
    for split in ("train", "test-out" if family.space.has_outside else "test-in"):
        task = next(task for task in family.sample(split, 4, 0) if family.model(task) is not family.base_model)
        assert_equal_models(family.model(task), COMPILED[name](task), rtol=rtol)
    with pytest.raises(AssertionError):
        assert_equal_models(family.base_model, COMPILED[name](task), rtol=rtol)
