"""Scenes: what is drawn of a model."""

from __future__ import annotations

import json

import mujoco
import numpy as np

from metamap_envs.registry import get_family
from metamap_rl.play.scene import scene_of, view_of

TETRAHEDRON = "0 0 0  1 0 0  0 1 0  0 0 1"
EVERY_SHAPE = f"""
<mujoco><asset><mesh name="tip" vertex="{TETRAHEDRON}"/><material name="paint" rgba=".2 .4 .6 1"/></asset>
<worldbody>
  <geom type="plane" size="5 5 .1"/>
  <body pos="0 0 1"><freejoint/>
    <geom type="box" size=".1 .2 .3" material="paint"/>
    <geom type="mesh" mesh="tip"/>
    <geom type="sphere" size=".1" rgba="1 1 1 0"/>
    <geom type="capsule" size=".1 .2" group="3"/>
    <body><joint type="ball"/><geom type="ellipsoid" size=".1 .2 .3"/>
      <body><joint type="slide"/><joint type="hinge"/><geom type="cylinder" size=".1 .2"/></body></body>
  </body>
</worldbody></mujoco>"""


def test_a_scene_holds_all_that_is_seen_and_is_json() -> None:
    scene = scene_of(mujoco.MjModel.from_xml_string(EVERY_SHAPE))
    assert [geom["kind"] for geom in scene["geoms"]] == ["plane", "box", "mesh", "ellipsoid", "cylinder"]
    assert scene["geoms"][1]["colour"] == [51, 102, 153]
    assert [[joint["kind"] for joint in body["joints"]] for body in scene["bodies"]] == [
        [],
        ["free"],
        ["ball"],
        ["slide", "hinge"],
    ]
    assert json.loads(json.dumps(scene)) == scene


def test_faces_of_a_mesh_look_outwards() -> None:
    mesh = scene_of(mujoco.MjModel.from_xml_string(EVERY_SHAPE))["meshes"][0]
    corners = np.array(mesh["corners"])
    assert len(mesh["faces"]) == 4
    for a, b, c in (corners[face] for face in mesh["faces"]):
        assert np.cross(b - a, c - a) @ (a - corners.mean(axis=0)) > 0


def test_the_camera_follows_what_walks_and_looks_down_on_what_is_flat() -> None:
    assert view_of(get_family("cheetah-velocity").base_model)["root"] == 1
    assert view_of(get_family("ant-goal").base_model)["sideways"]
    reacher = view_of(get_family("reacher-goal").base_model)
    assert reacher["above"]
    assert not reacher["root"]
