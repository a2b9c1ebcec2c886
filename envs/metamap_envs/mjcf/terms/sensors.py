"""The model's sensors, and contacts."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from metamap_envs.mjcf.binding import Binding, Measure, Step
from metamap_envs.mjcf.terms.base import Quantity, RewardTerm, quantity, reward
from metamap_envs.state import Array, State

__all__ = ["ContactReward", "Contacts", "SensorReward", "Sensors"]


def _sensors(binding: Binding, names: tuple[str, ...]) -> Callable[[State], Array]:
    keys = [binding.sensor(name) for name in names]
    return lambda state: np.concatenate([state.readouts[key] for key in keys], axis=1)


@quantity("sensors")
class Sensors(Quantity):
    """All numbers of sensors of the model, in their own units.

    Attributes:
        names: of the sensors.
    """

    short: ClassVar[str] = "names"

    names: tuple[str, ...]

    def bind(self, binding: Binding) -> Measure:
        """Look up the sensors."""
        return Measure(_sensors(binding, self.names))


@reward("sensors")
class SensorReward(RewardTerm):
    """Sum of all numbers of sensors of the model, in their own units.

    Attributes:
        names: of the sensors.
    """

    short: ClassVar[str] = "names"
    places: ClassVar[bool] = True

    names: tuple[str, ...]

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Look up the sensors."""
        of = _sensors(binding, self.names)
        return lambda step: of(step.after).sum(axis=1)


def _contacts(binding: Binding, geoms: tuple[str, ...], bodies: tuple[str, ...]) -> Callable[[State], Array]:
    keys = [binding.contact("geom", name) for name in geoms] + [binding.contact("body", name) for name in bodies]
    return lambda state: np.concatenate([state.readouts[key] > 0 for key in keys], axis=1).astype(np.float64)


def _check_any(geoms: tuple[str, ...], bodies: tuple[str, ...]) -> None:
    if not geoms and not bodies:
        raise ValueError("needs geoms, bodies or both")


@quantity("contacts")
class Contacts(Quantity):
    """1 for each geom or body that touches anything, else 0; of the last MuJoCo step of the environment step.

    Attributes:
        geoms: names of geoms.
        bodies: names of bodies, all geoms of which count.
    """

    short: ClassVar[str] = "geoms"
    flags: ClassVar[bool] = True

    geoms: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Contacts:
        _check_any(self.geoms, self.bodies)
        return self

    def bind(self, binding: Binding) -> Measure:
        """Look up the geoms and add sensors for them."""
        return Measure(_contacts(binding, self.geoms, self.bodies))


@reward("contacts")
class ContactReward(RewardTerm):
    """How many of the geoms and bodies touch anything; give it a negative weight where they should not.

    Attributes:
        geoms: names of geoms.
        bodies: names of bodies, all geoms of which count.
    """

    short: ClassVar[str] = "geoms"

    geoms: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> ContactReward:
        _check_any(self.geoms, self.bodies)
        return self

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Look up the geoms and add sensors for them."""
        of = _contacts(binding, self.geoms, self.bodies)
        return lambda step: of(step.after).sum(axis=1)
