"""Identification of what lies between action and actuators as a linear map, by simulating the unchanged robot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from metamap_agents.policy.spec import PolicySpec
from metamap_envs.rollout import Rollout
from metamap_envs.state import Array
from metamap_envs.task import Task
from metamap_rl.evaluation.identification.prediction import Predictor

__all__ = ["LinearActuators", "identify_actuators", "undone"]

_STEP = 1e-3  # of a finite difference; contacts make smaller ones noisy
_PRIOR = 0.03  # weight of the pull to the unchanged robot, where D does not tell
_EVALUATIONS = 20
_SMALLEST = 0.1  # singular values below, relative to the largest, are not inverted


@dataclass(frozen=True)
class LinearActuators:
    """An action a acts as ``matrix @ a + offset`` does on the unchanged robot.

    Attributes:
        matrix: [A, A].
        offset: [A].
        cost: mean squared error of predicted next observations, in units of their change within the rollout.
    """

    matrix: Array
    offset: Array
    cost: float


def identify_actuators(rollout: Rollout, unchanged: Task, *, from_reset: bool = True) -> LinearActuators:
    """Find the linear map that explains a rollout best, by least squares over one-step predictions.

    The map has A (A + 1) numbers; a short rollout leaves some of them at the unchanged robot's, to which all are pulled
    a little. Commands beyond the range of the actuators are clipped by the simulator, as on the unchanged robot.

    Args:
        rollout: n transitions of a family whose observations hold the state.
        unchanged: the task whose simulator is used.
        from_reset: whether the first transition starts an episode.

    Raises:
        MetaMapError: a family whose observations do not hold the state.
    """
    return _Fit(rollout, unchanged, from_reset).best()


def undone(spec: PolicySpec, phi: NDArray[np.float32], found: LinearActuators) -> NDArray[np.float32]:
    """Weights [P] of a policy of the unchanged robot whose actions go through the inverse of a linear map.

    Directions in which the map hardly acts are left out (pseudo-inverse).
    """
    inverse = np.linalg.pinv(found.matrix, rcond=_SMALLEST)
    parts, last = dict(spec.split(phi)), f"layers.{len(spec.hidden)}"
    weight, bias = parts[f"{last}.weight"], parts[f"{last}.bias"]
    changed: Mapping[str, Any] = {
        f"{last}.weight": (inverse @ weight).astype(np.float32),
        f"{last}.bias": (inverse @ (bias - found.offset)).astype(np.float32),
    }
    return spec.join({**parts, **changed})


class _Fit:
    """Least squares over matrix and offset, as one matrix [A, A + 1] that acts on actions with a 1 at the end."""

    def __init__(self, rollout: Rollout, unchanged: Task, from_reset: bool) -> None:
        self._rollout, self._unchanged, self._from_reset = rollout, unchanged, from_reset
        rows = Predictor(rollout, from_reset=from_reset).rows
        self._all = np.pad(rollout.actions.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0)
        self._inputs = self._all[rows]
        self._size = rollout.actions.shape[1]
        self._start = np.eye(self._size, self._size + 1)

    def best(self) -> LinearActuators:
        if not len(self._inputs):
            return LinearActuators(self._start[:, :-1], self._start[:, -1], float("nan"))
        found = least_squares(self._residuals, self._start.ravel(), jac=self._slopes, max_nfev=_EVALUATIONS)
        both = found.x.reshape(self._start.shape)
        return LinearActuators(both[:, :-1], both[:, -1], float(np.mean(self._errors(self._commands(both)) ** 2)))

    def _commands(self, both: Array) -> Array:
        commands: Array = self._all @ both.T
        return commands

    def _errors(self, commands: Array) -> Array:
        """Errors of predicted next observations [m, O] under commands [n, A] to the unchanged robot."""
        as_commanded = replace(self._rollout, actions=commands.astype(np.float32))
        predictor = Predictor(as_commanded, from_reset=self._from_reset)
        errors: Array = predictor.residuals([self._unchanged])[0, :, :-1]
        return errors

    def _residuals(self, flat: Array) -> Array:
        pull = _PRIOR * (flat - self._start.ravel())
        return np.concatenate([self._errors(self._commands(flat.reshape(self._start.shape))).ravel(), pull])

    def _slopes(self, flat: Array) -> Array:
        """Derivatives of the residuals [M, A (A + 1)]: those by each command, times the inputs."""
        commands = self._commands(flat.reshape(self._start.shape))
        steps = _STEP * np.eye(self._size)
        by_command = np.stack(
            [(self._errors(commands + step) - self._errors(commands - step)) / (2 * _STEP) for step in steps], axis=2
        )
        slopes = by_command[:, :, :, None] * self._inputs[:, None, None, :]
        return np.concatenate([slopes.reshape(-1, flat.size), _PRIOR * np.eye(flat.size)])
