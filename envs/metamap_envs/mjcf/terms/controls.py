"""Actions and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_envs.mjcf.actuation import Actuation
from metamap_envs.mjcf.binding import Binding, Measure, Step
from metamap_envs.mjcf.terms.base import Quantity, RewardTerm, quantity, reward
from metamap_envs.state import Array, Readout, State, sum_of_squares

__all__ = ["ActionCost", "ActionRate", "Energy", "LastAction"]


def _last_action(binding: Binding) -> Callable[[State], Array]:
    key, actuation = binding.read(Readout("ctrl")), Actuation.of(binding.model)
    return lambda state: actuation.actions(state.readouts[key])


@quantity("last_action")
class LastAction(Quantity):
    """The last action, in [-1, 1]; at the start that of controls of 0."""

    def bind(self, binding: Binding) -> Measure:
        """Have the controls read."""
        return Measure(_last_action(binding))


@reward("action_cost")
class ActionCost(RewardTerm):
    """``-sum(a^2)``, a the action as it was given."""

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[Any]]:
        """Needs nothing of the model."""
        return lambda step: -sum_of_squares(step.actions)


@reward("action_rate")
class ActionRate(RewardTerm):
    """``-sum((a - a')^2)``, a' the action before, each clipped to [-1, 1]; the first one follows controls of 0."""

    remembers: ClassVar[bool] = True

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Have the controls read."""
        of = _last_action(binding)
        return lambda step: -sum_of_squares(of(step.after) - of(step.before))


@reward("energy")
class Energy(RewardTerm):
    """``-sum(|force times velocity|)`` of the actuators, W: of the last MuJoCo step of the environment step."""

    def bind(self, binding: Binding) -> Callable[[Step], NDArray[np.float64]]:
        """Have forces and velocities read."""
        force, velocity = (binding.read(Readout(field)) for field in ("actuator_force", "actuator_velocity"))
        return lambda step: -np.abs(step.after.readouts[force] * step.after.readouts[velocity]).sum(axis=1)
