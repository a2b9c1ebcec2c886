"""Velocities, and targets that are tracked: of velocities, poses and places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from metamap_envs.errors import MetaMapError
from metamap_envs.mjcf.binding import Binding, Step
from metamap_envs.mjcf.terms.base import RewardTerm, reward
from metamap_envs.mjcf.terms.places import AXES, Axes, Axis
from metamap_envs.settings import Number
from metamap_envs.state import Array, State, sum_of_squares

__all__ = ["Alive", "TrackPlace", "TrackPose", "TrackVelocity", "Velocity"]

Value = Number | str
_FORMS: dict[str, Callable[[Any, float], Any]] = {
    "distance": lambda error, scale: -error,
    "squared": lambda error, scale: -(error**2),
    "gaussian": lambda error, scale: np.exp(-((error / scale) ** 2)),
}


class _Tracking(RewardTerm):
    """A term that is largest where an error is 0.

    Attributes:
        form: ``-e``, ``-e^2`` or ``exp(-(e / scale)^2)`` of the error e.
        scale: of the last, in the error's unit.
    """

    form: Literal["distance", "squared", "gaussian"] = "distance"
    scale: Number = Field(default=1.0, gt=0)

    def _of(self, error: Array) -> Array:
        result: Array = _FORMS[self.form](error, self.scale)
        return result


class _Moving(RewardTerm):
    """Something whose velocity is meant: a hinge or slide, or a body or site along an axis of the world."""

    joint: str | None = None
    body: str | None = None
    site: str | None = None
    axis: Axis = "x"

    @model_validator(mode="after")
    def _check_one(self) -> _Moving:
        given = [kind for kind in ("joint", "body", "site") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of joint, body and site; got {' and '.join(given) or 'none of them'}")
        return self

    def _velocity(self, binding: Binding) -> Callable[[Step], Array]:
        of = self._coordinate(binding)
        return lambda step: (of(step.after) - of(step.before)) / step.seconds

    def _coordinate(self, binding: Binding) -> Callable[[State], Array]:
        if self.joint is not None:
            (where,) = binding.positions([binding.one_axis(self.joint)])
            return lambda state: state.qpos[:, where]
        kind, name = ("body", self.body) if self.body is not None else ("site", self.site)
        key, axis = binding.place(kind, str(name)), AXES.index(self.axis)
        return lambda state: state.readouts[key][:, axis]


@reward("velocity")
class Velocity(_Moving):
    """Mean velocity over the step, m/s or rad/s: of a joint, or of a body or site along an axis.

    Attributes:
        joint: a hinge or slide.
        body: a body.
        site: a site.
        axis: of the world, for bodies and sites.
    """

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Look up the object."""
        return self._velocity(binding)


@reward("track_velocity")
class TrackVelocity(_Tracking, _Moving):
    """Error between the mean velocity over the step and a target, m/s or rad/s.

    Attributes:
        target: a number or a parameter.
    """

    target: Value

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Look up object and parameter."""
        velocity, target = self._velocity(binding), binding.value(self.target)
        return lambda step: self._of(np.abs(velocity(step) - target(step.values)))


@reward("track_pose")
class TrackPose(_Tracking):
    """Distance of hinges and slides from a pose: the root of the sum of squares, rad and m.

    Attributes:
        joints: their names; default all hinges and slides.
        target: numbers or parameters, one for each joint; or the name of a keyframe.
    """

    joints: tuple[str, ...] | None = None
    target: tuple[Value, ...] | str
    places: ClassVar[bool] = True

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Look up joints, keyframe and parameters."""
        names = binding.names("joint") if self.joints is None else self.joints
        where = binding.positions([binding.one_axis(name) for name in names])
        if isinstance(self.target, str):
            key = binding.model.key_qpos[binding.number("key", self.target)]
            target = binding.vector(key[where].tolist())
        elif len(self.target) == len(where):
            target = binding.vector(self.target)
        else:
            raise MetaMapError(f"target: expected {len(where)} values, one for each joint, got {len(self.target)}")
        return lambda step: self._of(np.sqrt(sum_of_squares(step.after.qpos[:, where] - target(step.values))))


@reward("track_place")
class TrackPlace(_Tracking):
    """Distance of a site or body from a place, m.

    Attributes:
        site: a site.
        body: a body.
        target: numbers or parameters, one for each axis; or the name of another site or body of the same kind.
        axes: which of x, y and z count.
    """

    places: ClassVar[bool] = True

    site: str | None = None
    body: str | None = None
    target: tuple[Value, ...] | str
    axes: Axes = AXES

    @model_validator(mode="after")
    def _check_one(self) -> TrackPlace:
        if (self.site is None) == (self.body is None):
            raise ValueError("needs one of site and body")
        if not isinstance(self.target, str) and len(self.target) != len(self.axes):
            raise ValueError(f"target: expected {len(self.axes)} values for the axes {self.axes}")
        return self

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Look up object, target and parameters."""
        kind, name = ("site", self.site) if self.site is not None else ("body", self.body)
        key, where = binding.place(kind, str(name)), [AXES.index(axis) for axis in self.axes]
        target = self._target(binding, kind, where)

        def of(step: Step) -> Array:
            offset = step.after.readouts[key][:, where] - target(step)
            return self._of(np.sqrt(np.vecdot(offset, offset)))

        return of

    def _target(self, binding: Binding, kind: str, where: list[int]) -> Callable[[Step], Array]:
        if isinstance(self.target, str):
            other = binding.place(kind, self.target)
            return lambda step: step.after.readouts[other][:, where]
        vector = binding.vector(self.target)
        return lambda step: vector(step.values)


@reward("alive")
class Alive(RewardTerm):
    """1 in each step in which the episode does not end, else 0."""

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Needs nothing of the model."""
        return lambda step: (~step.ended()).astype(np.float64)
