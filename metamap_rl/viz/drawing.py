"""Pictures of a MuJoCo model: MuJoCo's renderer, or without OpenGL a flat drawing in software."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.opengl import drawing
from metamap_rl.viz.marks import Ball, Colour, Marks

__all__ = ["Drawer", "MujocoDrawer", "PlanarDrawer", "Renderer", "View", "make_drawer"]

Picture = NDArray[np.uint8]
Renderer = Literal["auto", "mujoco", "planar"]
"""MuJoCo's OpenGL renderer, flat drawing in software, or the first of them that works."""

_ROOM = 1.15  # half the picture's height, in robot radii
_SMALLEST_RADIUS = 0.05  # m
_SAMPLES = 3  # the software drawing is made this many times too large, then scaled down
_SKY, _LIGHT_TILE, _DARK_TILE, _TABLE = (233, 238, 243), (188, 205, 190), (92, 108, 98), (226, 229, 232)
_TILE = 0.5  # m, length of a tile of the drawn ground
_LINE = (150, 165, 180)  # of the grid in the air
_HIGH = 3.0  # robot radii above the ground, from which on it flies
_GOAL: Colour = (207, 35, 51)  # of goals and headings
_GOAL_RADIUS = 0.3  # m
_BALL, _ARROW = 0.075, 0.025  # radius of a marked joint's ball, and of an arrow's shaft, in half heights of the picture
_NOTHING = Marks()
_FREE = mujoco.mjtJoint.mjJNT_FREE.value
_HINGE = mujoco.mjtJoint.mjJNT_HINGE.value  # numbers: numpy's integers equal the bindings' names only one way round
_WALKING = (mujoco.mjtJoint.mjJNT_SLIDE.value, mujoco.mjtJoint.mjJNT_FREE.value)
_LONG = (mujoco.mjtGeom.mjGEOM_CAPSULE.value, mujoco.mjtGeom.mjGEOM_CYLINDER.value)
_ENDLESS = (mujoco.mjtGeom.mjGEOM_PLANE.value, mujoco.mjtGeom.mjGEOM_HFIELD.value)


class Drawer(Protocol):
    """Protocol: draws a robot in a configuration."""

    name: ClassVar[str]

    def draw(self, qpos: NDArray[np.float64], marks: Marks = _NOTHING) -> Picture:
        """A picture, uint8 [height, width, 3], of positions [nq] with what is marked."""
        ...

    def close(self) -> None:
        """Release the renderer's resources."""
        ...


@dataclass(frozen=True)
class View:
    """The camera of a drawing.

    Attributes:
        above: from above, x to the right and y upwards; else from the side, x to the right and z upwards.
        centre: centre of the picture, [3], m.
        half_height: half of the visible height, m.
        root: body that the camera follows along x; 0, the world, for a robot that stays in place.
        flies: whether the ground is far below the robot; the camera then follows it everywhere.
        roams: whether it walks in any direction; the camera then follows it along y, too.
    """

    above: bool
    centre: NDArray[np.float64]
    half_height: float
    root: int
    flies: bool = False
    roams: bool = False

    @classmethod
    def of(cls, model: mujoco.MjModel) -> View:
        """The view of a model: along the axis of its hinges, following a robot that can walk."""
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        hinges = model.jnt_type == _HINGE
        upright = np.abs(data.xaxis[hinges][:, 2]) > 0.9
        above = bool(hinges.any() and upright.all())
        moved = model.body_weldid != 0
        parts = np.flatnonzero(moved[model.geom_bodyid])
        root = int(np.flatnonzero(moved)[0]) if moved.any() else 0
        middle = data.xpos[root].copy()
        ends = np.linalg.norm(data.geom_xpos[parts] - middle, axis=1) + model.geom_rbound[parts]
        radius = max(float(ends.max(initial=0.0)), _SMALLEST_RADIUS)
        first = int(model.body_jntadr[root])
        walks = first >= 0 and model.jnt_type[first] in _WALKING and not model.jnt_limited[first]
        planes = np.flatnonzero(np.isin(model.geom_type, _ENDLESS))
        floor = float(data.geom_xpos[planes, 2].max()) if planes.size else 0.0
        flies = first >= 0 and model.jnt_type[first] == _FREE and middle[2] - floor > _HIGH * radius
        if not above and not flies:
            middle[2] = 0.72 * radius  # the ground in the lower part of the picture
        roams = bool(walks and not above and model.jnt_type[first] == _FREE)
        return cls(above, middle, _ROOM * radius, root if walks or flies else 0, flies, roams)

    def centre_of(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Current centre of the picture, [3]."""
        centre = self.centre.copy()
        if self.root:
            centre[0] = data.xpos[self.root, 0]
        if self.roams:
            centre[1] = data.xpos[self.root, 1]
        if self.flies:
            centre[1:] = data.xpos[self.root, 1:]
        return centre

    def arrow_of(self, data: mujoco.MjData, heading: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ends [3] of an arrow on the ground below the robot."""
        start = np.array([data.xpos[self.root, 0], data.xpos[self.root, 1], 0.02])
        return start, start + 0.9 * self.half_height * np.array([math.cos(heading), math.sin(heading), 0.0])


class MujocoDrawer:
    """MuJoCo's renderer, with one OpenGL context for all drawings of a model.

    Args:
        model: the model; a copy is drawn, without shadows, reflections and multisampling, which dominate the time of
            rendering on a CPU.
        width: pixels.
        height: pixels.

    Raises:
        MetaMapError: no working OpenGL.
    """

    name: ClassVar[str] = "mujoco"

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._model = copy.copy(model)
        self._model.mat_reflectance[:] = 0.0
        self._model.vis.quality.shadowsize = 0
        self._model.vis.quality.offsamples = 0
        self._model.vis.headlight.ambient[:] = 0.4
        self._model.vis.headlight.diffuse[:] = 0.55
        self._model.vis.headlight.specular[:] = 0.1
        self._model.vis.global_.offwidth = max(width, self._model.vis.global_.offwidth)
        self._model.vis.global_.offheight = max(height, self._model.vis.global_.offheight)
        self._data = mujoco.MjData(self._model)
        self._plain = self._model.geom_rgba.copy(), self._model.geom_matid.copy()
        self._tints: Mapping[int, Colour] = {}
        self._view = View.of(model)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.azimuth, self._camera.elevation = 90.0, -89.9 if self._view.above else -9.0
        half_angle = np.radians(self._model.vis.global_.fovy) / 2.0
        self._camera.distance = self._view.half_height / np.tan(half_angle)
        with drawing():
            self._renderer = mujoco.Renderer(self._model, height, width)
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0

    def draw(self, qpos: NDArray[np.float64], marks: Marks = _NOTHING) -> Picture:
        """A picture, uint8 [height, width, 3], of positions [nq] with what is marked."""
        _place(self._model, self._data, qpos)
        self._tint(marks.tints)
        self._camera.lookat[:] = self._view.centre_of(self._data)
        self._renderer.update_scene(self._data, self._camera)
        for ball in marks.balls:
            self._add("SPHERE", (_BALL * self._view.half_height,) * 3, _world(self._data, ball), ball.colour)
        if marks.goal is not None and not self._view.above:
            self._add("CYLINDER", (_GOAL_RADIUS, 0.005, 0.0), np.array([*marks.goal, 0.01]), _GOAL, 0.6)
        if marks.heading is not None:
            arrow = self._add("ARROW", (1.0, 1.0, 1.0), np.zeros(3), _GOAL)
            ends, wide = self._view.arrow_of(self._data, marks.heading), _ARROW * self._view.half_height
            mujoco.mjv_connector(arrow, mujoco.mjtGeom.mjGEOM_ARROW, wide, *ends)
        picture: Picture = self._renderer.render().copy()
        return picture

    def _tint(self, tints: Mapping[int, Colour]) -> None:
        """Give bodies their colours."""
        if tints == self._tints:
            return
        self._tints = dict(tints)
        self._model.geom_rgba[:], self._model.geom_matid[:] = self._plain
        for body, colour in tints.items():
            own = self._model.geom_bodyid == body
            self._model.geom_rgba[own, :3], self._model.geom_matid[own] = np.array(colour) / 255.0, -1

    def _add(
        self, kind: str, size: tuple[float, ...], place: NDArray[np.float64], colour: Colour, alpha: float = 1.0
    ) -> mujoco.MjvGeom:
        """Add a shape to the scene of this picture."""
        scene = self._renderer.scene
        geom = scene.geoms[scene.ngeom]
        shade = np.array([*(channel / 255.0 for channel in colour), alpha], dtype=np.float32)
        kind_of = getattr(mujoco.mjtGeom, f"mjGEOM_{kind}")
        mujoco.mjv_initGeom(geom, kind_of, np.array(size), place, np.eye(3).ravel(), shade)
        scene.ngeom += 1
        return geom

    def close(self) -> None:
        """Release the OpenGL context."""
        self._renderer.close()


class PlanarDrawer:
    """A flat drawing of a model's capsules, cylinders, spheres, boxes (as their balls) and ground.

    Args:
        model: the model.
        width: pixels.
        height: pixels.
    """

    name: ClassVar[str] = "planar"

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._view = View.of(model)
        self._size = (width, height)
        self._axes = [0, 1] if self._view.above else [0, 2]
        self._scale = _SAMPLES * height / (2.0 * self._view.half_height)  # pixels per metre
        depth = [1, 2][self._view.above]
        mujoco.mj_forward(model, self._data)
        far_first = self._data.geom_xpos[:, depth] * (1 if self._view.above else -1)
        self._order = [int(index) for index in np.argsort(far_first, kind="stable")]

    def draw(self, qpos: NDArray[np.float64], marks: Marks = _NOTHING) -> Picture:
        """A picture, uint8 [height, width, 3], of positions [nq] with what is marked."""
        _place(self._model, self._data, qpos)
        width, height = (_SAMPLES * pixels for pixels in self._size)
        image = Image.new("RGB", (width, height), _TABLE if self._view.above else _SKY)
        pen = ImageDraw.Draw(image)
        centre = self._view.centre_of(self._data)[self._axes]
        if self._view.flies:
            self._grid(pen, centre)
        elif not self._view.above:
            self._ground(pen, centre)
            if marks.goal is not None:
                left, y = self._pixel(np.array([marks.goal[0] - _GOAL_RADIUS, 0.0]), centre)
                pen.rectangle((left, y, left + 2 * _GOAL_RADIUS * self._scale, y + 3 * _SAMPLES), fill=_GOAL)
        for index in self._order:
            self._geom(pen, index, centre, marks.tints)
        for ball in marks.balls:
            x, y = self._pixel(_world(self._data, ball)[self._axes], centre)
            reach = _BALL * self._view.half_height * self._scale
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=ball.colour, outline=(255, 255, 255))
        if marks.heading is not None:
            self._arrow(pen, centre, marks.heading)
        return np.asarray(image.resize(self._size, Image.Resampling.BOX))

    def close(self) -> None:
        """Nothing to release."""

    def _pixel(self, point: NDArray[np.float64], centre: NDArray[np.float64]) -> tuple[float, float]:
        width, height = (_SAMPLES * pixels for pixels in self._size)
        right, up = (point - centre) * self._scale
        return width / 2.0 + right, height / 2.0 - up

    def _grid(self, pen: ImageDraw.ImageDraw, centre: NDArray[np.float64]) -> None:
        """Lines in the air, fixed in the world, by which a flight shows."""
        width, height = (_SAMPLES * pixels for pixels in self._size)
        reach, apart = np.array([width, height]) / self._scale / 2.0, self._view.half_height / 2.0
        for axis in (0, 1):
            for line in range(math.ceil((centre - reach)[axis] / apart), int((centre + reach)[axis] // apart) + 1):
                x, y = self._pixel(np.full(2, line * apart), centre)
                ends = (x, 0.0, x, height) if axis == 0 else (0.0, y, width, y)
                pen.line(ends, fill=_LINE, width=_SAMPLES)

    def _ground(self, pen: ImageDraw.ImageDraw, centre: NDArray[np.float64]) -> None:
        """Ground tiles under z = 0, in two rows, fixed in the world."""
        width, height = (_SAMPLES * pixels for pixels in self._size)
        _, horizon = self._pixel(np.zeros(2), centre)
        reach = width / self._scale / 2.0
        first, last = int((centre[0] - reach) // _TILE), int((centre[0] + reach) // _TILE)
        for row, (top, bottom) in enumerate(((horizon, (horizon + height) / 2), ((horizon + height) / 2, height))):
            for tile in range(first, last + 1):
                left, _ = self._pixel(np.array([tile * _TILE, 0.0]), centre)
                colour = _LIGHT_TILE if (tile + row) % 2 else _DARK_TILE
                pen.rectangle((left, top, left + _TILE * self._scale, max(bottom, top)), fill=colour)

    def _arrow(self, pen: ImageDraw.ImageDraw, centre: NDArray[np.float64], heading: float) -> None:
        """An arrow on the ground."""
        ends = self._view.arrow_of(self._data, heading)
        (x0, y0), (x1, y1) = (self._pixel(end[self._axes], centre) for end in ends)
        wide = max(1.0, _ARROW * self._view.half_height * self._scale)
        pen.line((x0, y0, x1, y1), fill=_GOAL, width=round(2 * wide))
        size = max(np.hypot(x1 - x0, y1 - y0), 1.0)
        along, across = (np.array([x1 - x0, y1 - y0]) / size), (np.array([y0 - y1, x1 - x0]) / size)
        tip, back = np.array([x1, y1]) + 3 * wide * along, np.array([x1, y1])
        pen.polygon([tuple(tip), tuple(back + 3 * wide * across), tuple(back - 3 * wide * across)], fill=_GOAL)

    def _geom(
        self, pen: ImageDraw.ImageDraw, index: int, centre: NDArray[np.float64], tints: Mapping[int, Colour]
    ) -> None:
        """One geom: a thick line with round ends, or a disc."""
        kind, size = self._model.geom_type[index], self._model.geom_size[index]
        place = self._data.geom_xpos[index]
        axis = self._data.geom_xmat[index].reshape(3, 3)[:, 2]
        half, radius = 0.0, float(self._model.geom_rbound[index])
        if kind in _ENDLESS:
            return
        if kind in _LONG:
            radius, half = float(size[0]), float(size[1])
        red, green, blue = (int(255 * share) for share in self._model.geom_rgba[index, :3])
        own = tints.get(int(self._model.geom_bodyid[index]), (red, green, blue))
        ends = [self._pixel((place + side * half * axis)[self._axes], centre) for side in (-1, 1)]
        thick = max(radius * self._scale, 1.0)
        for grow, colour in ((0.35 * _SAMPLES, (40, 40, 40)), (0.0, own)):
            if half:
                pen.line([*ends], fill=colour, width=round(2 * (thick + grow)))
            for x, y in ends:
                reach = thick + grow
                pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)


def make_drawer(model: mujoco.MjModel, width: int, height: int, renderer: Renderer = "auto") -> Drawer:
    """Make a drawer of a model.

    Args:
        model: the model.
        width: pixels.
        height: pixels.
        renderer: see `Renderer`.

    Raises:
        MetaMapError: an unknown renderer, or "mujoco" without a working OpenGL.
    """
    if renderer not in ("auto", "mujoco", "planar"):
        raise unknown_name("renderer", renderer, ("auto", "mujoco", "planar"))
    if renderer == "planar":
        return PlanarDrawer(model, width, height)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a back end that is being given up
            return MujocoDrawer(model, width, height)
    except MetaMapError:
        if renderer == "mujoco":
            raise
        return PlanarDrawer(model, width, height)


def _world(data: mujoco.MjData, ball: Ball) -> NDArray[np.float64]:
    """Place of a ball in the world, [3]."""
    found: NDArray[np.float64] = data.xpos[ball.body] + data.xmat[ball.body].reshape(3, 3) @ np.array(ball.place)
    return found


def _place(model: mujoco.MjModel, data: mujoco.MjData, qpos: NDArray[np.float64]) -> None:
    """Set the robot's configuration."""
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
