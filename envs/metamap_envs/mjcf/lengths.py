"""Links of other lengths, in a model's specification."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from metamap_envs.errors import MetaMapError

__all__ = ["check_link", "stretch"]

_ALONG = (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER)
_SOLID = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_ELLIPSOID)


def check_link(spec: mujoco.MjSpec, name: str) -> None:
    """Refuse a body whose link cannot be made longer.

    Raises:
        MetaMapError: the sentence names the body and the obstacle.
    """
    body = spec.body(name)
    if body.explicitinertial:
        raise MetaMapError(f"length of {name!r}: the body has an <inertial>, which does not follow its length")
    if len(body.frames):
        raise MetaMapError(f"length of {name!r}: the body holds a <frame>; write the positions without it")
    if len({tuple(joint.pos) for joint in body.joints}) > 1:
        raise MetaMapError(f"length of {name!r}: its joints are at different places, so that the link has no one end")
    others = [geom for geom in body.geoms if geom.type not in (*_ALONG, *_SOLID, mujoco.mjtGeom.mjGEOM_SPHERE)]
    if others:
        raise MetaMapError(
            f"length of {name!r}: expected capsules, cylinders, boxes, ellipsoids and spheres, and geom "
            f"{others[0].name!r} is none of them"
        )
    if not len(body.geoms) and not len(body.bodies):
        raise MetaMapError(f"length of {name!r}: the body has neither geoms nor children, so no length")


def stretch(spec: mujoco.MjSpec, name: str, factor: float) -> None:
    """Make a link longer by a factor: what lies in the body's frame moves away from its joint, thickness stays.

    Capsules and cylinders grow along their axis, boxes and ellipsoids along their longest side. Masses follow where
    they come from densities.

    Args:
        spec: changed.
        name: of the body, which `check_link` admits.
        factor: on its length.
    """
    body = spec.body(name)
    joints = list(body.joints)
    anchor = np.array(joints[0].pos) if joints else np.zeros(3)
    for geom in body.geoms:
        _stretch_geom(geom, anchor, factor)
    for each in (*body.sites, *body.bodies):
        each.pos = anchor + factor * (each.pos - anchor)


def _stretch_geom(geom: Any, anchor: Any, factor: float) -> None:
    if np.isfinite(geom.fromto).all():
        ends = np.array(geom.fromto).reshape(2, 3)
        geom.fromto = (anchor + factor * (ends - anchor)).ravel()
        return
    geom.pos = anchor + factor * (geom.pos - anchor)
    if geom.type in _ALONG:
        geom.size[1] *= factor
    elif geom.type in _SOLID:
        geom.size[int(np.argmax(geom.size))] *= factor
