"""Actions in [-1, 1] and the controls of a model's actuators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.state import Array

__all__ = ["Actuation"]


@dataclass(frozen=True)
class Actuation:
    """The scaling of actions to controls.

    Attributes:
        middle: of the controls, [A].
        half: of their range, [A].
        plain: whether all ranges are [-1, 1], so that controls are actions to the bit.
    """

    middle: Array
    half: Array
    plain: bool

    @classmethod
    def of(cls, model: mujoco.MjModel) -> Actuation:
        """That of a model.

        Raises:
            MetaMapError: there is no actuator, or one without a range.
        """
        if not model.nu:
            raise MetaMapError("the model has no actuators, so that there is nothing to act with")
        low, high = model.actuator_ctrlrange.T
        for index in range(model.nu):
            if not model.actuator_ctrllimited[index] or not low[index] < high[index]:
                name = model.actuator(index).name or f"number {index}"
                raise MetaMapError(f"actuator {name!r} has no ctrlrange, of which -1 and 1 would be the ends; give one")
        return cls((low + high) / 2, (high - low) / 2, bool((low == -1).all() and (high == 1).all()))

    def controls(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Controls [N, A] of actions [N, A]."""
        return actions if self.plain else self.middle + self.half * actions

    def actions(self, controls: Array) -> Array:
        """Actions [N, A] of controls [N, A], clipped to [-1, 1]."""
        return np.clip((controls - self.middle) / self.half, -1.0, 1.0)
