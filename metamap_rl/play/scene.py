"""A model as the player draws it: the tree of its bodies with their joints, and convex shapes on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from metamap_rl.viz.drawing import View

__all__ = ["scene_of", "view_of"]

_DECIMALS = 4
_SHOWN_GROUPS = 3  # MuJoCo's viewers show the groups 0, 1 and 2
_CORNERS = 40  # most corners of a simplified mesh
_KINDS = {
    mujoco.mjtGeom.mjGEOM_PLANE.value: "plane",
    mujoco.mjtGeom.mjGEOM_SPHERE.value: "sphere",
    mujoco.mjtGeom.mjGEOM_CAPSULE.value: "capsule",
    mujoco.mjtGeom.mjGEOM_ELLIPSOID.value: "ellipsoid",
    mujoco.mjtGeom.mjGEOM_CYLINDER.value: "cylinder",
    mujoco.mjtGeom.mjGEOM_BOX.value: "box",
    mujoco.mjtGeom.mjGEOM_MESH.value: "mesh",
}
_JOINTS = {
    mujoco.mjtJoint.mjJNT_FREE.value: "free",
    mujoco.mjtJoint.mjJNT_BALL.value: "ball",
    mujoco.mjtJoint.mjJNT_SLIDE.value: "slide",
    mujoco.mjtJoint.mjJNT_HINGE.value: "hinge",
}


def scene_of(model: mujoco.MjModel) -> dict[str, Any]:
    """Bodies, joints and shapes of a model, as JSON values: all that is needed to draw it from its positions."""
    used = {"bodies": [_body(model, index) for index in range(model.nbody)], "geoms": [], "meshes": []}
    meshes: dict[int, int] = {}
    for index in range(model.ngeom):
        if _shown(model, index):
            used["geoms"].append(_geom(model, index, meshes, used["meshes"]))
    return used


def view_of(model: mujoco.MjModel) -> dict[str, Any]:
    """The camera that shows a robot: as films see it."""
    view = View.of(model)
    return {
        "above": view.above,
        "centre": _rounded(view.centre),
        "half_height": round(float(view.half_height), _DECIMALS),
        "root": view.root,
        "flies": bool(view.flies),
        "sideways": _turns(model, view.root),
    }


def _turns(model: mujoco.MjModel, root: int) -> bool:
    """Whether a robot may walk in any direction."""
    return bool(root and model.jnt_type[model.body_jntadr[root]] == mujoco.mjtJoint.mjJNT_FREE.value)


def _body(model: mujoco.MjModel, index: int) -> dict[str, Any]:
    first, count = int(model.body_jntadr[index]), int(model.body_jntnum[index])
    return {
        "parent": int(model.body_parentid[index]),
        "pos": _rounded(model.body_pos[index]),
        "quat": _rounded(model.body_quat[index]),
        "joints": [_joint(model, joint) for joint in range(first, first + count)],
    }


def _joint(model: mujoco.MjModel, index: int) -> dict[str, Any]:
    address = int(model.jnt_qposadr[index])
    return {
        "kind": _JOINTS[int(model.jnt_type[index])],
        "at": address,
        "pos": _rounded(model.jnt_pos[index]),
        "axis": _rounded(model.jnt_axis[index]),
        "zero": round(float(model.qpos0[address]), 6),
    }


def _shown(model: mujoco.MjModel, index: int) -> bool:
    visible = model.geom_group[index] < _SHOWN_GROUPS and _colour(model, index)[3] > 0
    return bool(visible) and int(model.geom_type[index]) in _KINDS


def _colour(model: mujoco.MjModel, index: int) -> NDArray[np.float64]:
    material = int(model.geom_matid[index])
    colour: NDArray[np.float64] = model.mat_rgba[material] if material >= 0 else model.geom_rgba[index]
    return colour


def _geom(model: mujoco.MjModel, index: int, known: dict[int, int], meshes: list[dict[str, Any]]) -> dict[str, Any]:
    found = {
        "kind": _KINDS[int(model.geom_type[index])],
        "body": int(model.geom_bodyid[index]),
        "size": _rounded(model.geom_size[index]),
        "pos": _rounded(model.geom_pos[index]),
        "quat": _rounded(model.geom_quat[index]),
        "colour": [round(255 * float(share)) for share in _colour(model, index)[:3]],
    }
    if found["kind"] == "mesh":
        mesh = int(model.geom_dataid[index])
        if mesh not in known:
            known[mesh] = len(meshes)
            meshes.append(_mesh(model, mesh))
        found["mesh"] = known[mesh]
    return found


def _mesh(model: mujoco.MjModel, index: int) -> dict[str, Any]:
    """A mesh's convex hull with few corners: those that are outermost in directions spread over the sphere."""
    start, count = int(model.mesh_vertadr[index]), int(model.mesh_vertnum[index])
    corners = np.unique(np.asarray(model.mesh_vert[start : start + count], dtype=np.float64), axis=0)
    outermost = np.unique((corners @ _directions(_CORNERS).T).argmax(axis=0))
    corners = corners[outermost]
    hull = ConvexHull(corners, qhull_options="QJ")  # joggled, as a thin mesh may be all but flat
    faces = [_outwards(face, corners, equation) for face, equation in zip(hull.simplices, hull.equations, strict=True)]
    return {"corners": [_rounded(corner) for corner in corners], "faces": faces}


def _outwards(face: NDArray[np.intp], corners: NDArray[np.float64], equation: NDArray[np.float64]) -> list[int]:
    """Corners of a triangle, anticlockwise seen from outside."""
    a, b, c = corners[face]
    turned = np.cross(b - a, c - a) @ equation[:3] < 0
    order: list[int] = face[[0, 2, 1] if turned else [0, 1, 2]].tolist()
    return order


def _directions(count: int) -> NDArray[np.float64]:
    """Unit vectors spread evenly over the sphere [count, 3]: Fibonacci's spiral."""
    place = np.arange(count) + 0.5
    height, turn = 1 - 2 * place / count, np.pi * (1 + 5**0.5) * place
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


def _rounded(values: NDArray[np.float64] | Sequence[float]) -> list[float]:
    found: list[float] = np.round(np.asarray(values, dtype=np.float64), _DECIMALS).tolist()
    return found
