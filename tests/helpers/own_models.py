"""Families of MJCF models, declared as users do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium.envs.mujoco

from metamap_envs import Family, load_family
from metamap_envs.yaml_text import dump_yaml, read_yaml

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own-mujoco"
ROBOT = """<mujoco><option timestep="0.005" integrator="implicitfast" density="1"/>
<worldbody><geom name="floor" type="plane" size="5 5 0.1"/>
<body name="rest" pos="0 0 -1"><site name="goal" pos="1 0 1.5"/></body>
<body name="torso" pos="0 0 0.5"><freejoint name="root"/><geom name="torso" type="box" size="0.2 0.1 0.05"/>
<site name="head" pos="0.2 0 0"/>
<body name="leg" pos="0.2 0 0"><joint name="hip" axis="0 1 0" damping="0.5" stiffness="1" armature="0.01"
frictionloss="0.1"/>
<geom name="leg" type="capsule" fromto="0 0 0 0 0 -0.3" size="0.03" friction="2"/>
<body name="foot" pos="0 0 -0.3"><joint name="knee" axis="0 1 0"/><geom name="foot" size="0.05" condim="6"/>
</body></body></body>
</worldbody>
<actuator><position name="hip" joint="hip" kp="20" kv="1" ctrlrange="-1.5 0.5"/>
<motor name="knee" joint="knee" gear="3" ctrlrange="-2 2"/></actuator>
<sensor><gyro name="gyro" site="head"/><jointpos name="bend" joint="knee"/></sensor>
<keyframe><key name="high" qpos="0 0 1 1 0 0 0 0.1 0.2"/></keyframe></mujoco>"""


def document(**changes: Any) -> dict[str, Any]:
    """Declaration of the robot above with other keys."""
    own = {
        "name": "test-robot",
        "model": "robot.xml",
        "parameters": {"weight": {"body": "torso", "field": "mass", "how": "scale", "train": [0.5, 2.0]}},
        "observation": ["positions", "velocities"],
        "reward": [{"velocity": {"body": "torso"}}],
    }
    return {**own, **copy.deepcopy(changes)}


def declare(folder: Path, xml: str = ROBOT, **changes: Any) -> Family:
    """The robot's family, from files in a folder."""
    (folder / "robot.xml").write_text(xml)
    (folder / "robot.yml").write_text(dump_yaml(document(**changes)))
    return load_family(folder / "robot.yml")


def example() -> dict[str, Any]:
    """Declaration of the documentation's example."""
    found: dict[str, Any] = read_yaml(EXAMPLE / "arm.yml")
    return found


def installed_model(name: str) -> str:
    """Text of one of Gymnasium's own models."""
    return (Path(str(gymnasium.envs.mujoco.__file__)).parent / "assets" / name).read_text()
