"""Places and attitudes of sites and bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import StringConstraints

from metamap_envs.mjcf.binding import Binding, Measure, Step
from metamap_envs.mjcf.terms.base import Quantity, RewardTerm, quantity, reward
from metamap_envs.state import Array, State

__all__ = ["AXES", "Axes", "Axis", "Bodies", "Sites", "Upright", "UprightReward"]

AXES = "xyz"
Axes = Annotated[str, StringConstraints(pattern="^(x|y|z|xy|xz|yz|xyz)$")]
Axis = Annotated[str, StringConstraints(pattern="^[xyz]$")]


def _places(binding: Binding, kind: str, names: tuple[str, ...], axes: str, minus: str | None) -> Measure:
    keys = [binding.place(kind, name) for name in names]
    origin = None if minus is None else binding.place(kind, minus)
    where = [AXES.index(axis) for axis in axes]

    def of(state: State) -> Array:
        start = 0.0 if origin is None else state.readouts[origin][:, where]
        return np.concatenate([state.readouts[key][:, where] - start for key in keys], axis=1)

    return Measure(of)


@quantity("sites")
class Sites(Quantity):
    """Places of sites in the world, m.

    Attributes:
        names: of the sites.
        axes: which of x, y and z.
        minus: a site from which they are measured, along the world's axes.
    """

    short: ClassVar[str] = "names"

    names: tuple[str, ...]
    axes: Axes = AXES
    minus: str | None = None

    def bind(self, binding: Binding) -> Measure:
        """Look up the sites."""
        return _places(binding, "site", self.names, self.axes, self.minus)


@quantity("bodies")
class Bodies(Quantity):
    """Places of bodies' frames in the world, m.

    Attributes:
        names: of the bodies.
        axes: which of x, y and z.
        minus: a body from which they are measured, along the world's axes.
    """

    short: ClassVar[str] = "names"

    names: tuple[str, ...]
    axes: Axes = AXES
    minus: str | None = None

    def bind(self, binding: Binding) -> Measure:
        """Look up the bodies."""
        return _places(binding, "body", self.names, self.axes, self.minus)


def _uprightness(binding: Binding, body: str, axis: str) -> Callable[[State], Array]:
    key, place = binding.rotation(body), 6 + AXES.index(axis)
    return lambda state: state.readouts[key][:, place]


@quantity("upright")
class Upright(Quantity):
    """Cosine of the angle between an axis of a body and the vertical, in [-1, 1].

    Attributes:
        body: which.
        axis: of the body, that points up where it stands.
    """

    short: ClassVar[str] = "body"

    body: str
    axis: Axis = "z"

    def bind(self, binding: Binding) -> Measure:
        """Look up the body."""
        of = _uprightness(binding, self.body, self.axis)
        return Measure(lambda state: of(state)[:, None])


@reward("upright")
class UprightReward(RewardTerm):
    """Cosine of the angle between an axis of a body and the vertical, in [-1, 1].

    Attributes:
        body: which.
        axis: of the body, that points up where it stands.
    """

    short: ClassVar[str] = "body"

    body: str
    axis: Axis = "z"

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Look up the body."""
        of = _uprightness(binding, self.body, self.axis)
        return lambda step: of(step.after)
