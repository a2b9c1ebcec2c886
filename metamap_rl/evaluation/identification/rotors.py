"""Identification of quadrotors in flight, whose rotor speeds are hidden, by least squares.

Rotor speeds follow from the actions and two time constants. Where these are given, accelerations are linear in the
rotors' thrusts: unknown are four numbers for the force, twelve for the torques and two for the wind. Of a grid of pairs
of time constants the one with the smallest residual is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metamap_envs.families._quadrotor import ARM, CURVE, GRAVITY, INERTIA, MASS, ROTORS, Quadrotor
from metamap_envs.state import Array
from metamap_envs.task import Task

__all__ = ["RotorIdentification", "effects", "like"]

_RISES = np.geomspace(0.028, 0.11, 8)  # s
_FALLS = np.geomspace(0.028, 0.33, 10)  # s
_MEMORY = 0.97  # factor on the weight of older transitions, each step
_SURPRISE = 0.1  # error of what was found, in weights and torques of one rotor, that is none of rounding
_MEMORY_AFTER_SURPRISE = 0.5
_RIDGE = 1e-4  # weight of the pull to what was found before, at first the usual vehicle, where the flight does not tell
_LEAST_SHARE = 0.05  # of a rotor's largest thrust that may hold a vehicle
_TORQUE_CONSTANT, _ARMS = 0.0158, (0.035, 0.215)  # m, the middle of those in training; m, of the masses there


class RotorIdentification:
    """Effects of the rotors of N vehicles, from all transitions so far, the older ones with less and less weight.

    Args:
        family: their family.
        observations: raw ones [N, 22] at the start of their episodes, where the last action says the rotors' speeds.
    """

    def __init__(self, family: Quadrotor, observations: NDArray[np.floating]) -> None:
        self._family, count = family, len(observations)
        self._rise, self._fall = (grid.ravel()[:, None] for grid in np.meshgrid(_RISES, _FALLS, indexing="ij"))
        pairs = len(self._rise)
        usual = family.closest_task({})
        self._usual = effects(family, usual)
        self._speeds = np.empty((count, pairs, 4))
        self._force, self._torque = np.zeros((count, pairs, 6, 7)), np.zeros((count, pairs, 4, 7))
        self._squares = np.zeros((count, pairs, 2))
        self._found: tuple[NDArray[np.intp], Array, Array] | None = None  # pair, force and torque of each
        self.start(observations, np.ones(count, dtype=np.bool_))

    def start(self, observations: NDArray[np.floating], where: NDArray[np.bool_]) -> None:
        """Begin new episodes of some of the vehicles; what was found stays."""
        self._speeds[where] = (observations[where, None, 18:].astype(np.float64) + 1.0) / 2.0

    def observe(
        self,
        before: NDArray[np.floating],
        actions: NDArray[np.floating],
        after: NDArray[np.floating],
        valid: NDArray[np.bool_],
    ) -> None:
        """Add a transition of each vehicle.

        Args:
            before: observations [N, 22].
            actions: [N, 4].
            after: next observations.
            valid: which of them count, bool [N].
        """
        after, speeds = np.where(valid[:, None], after, before), self._speeds
        seconds = self._family.step_seconds
        thrusts = self._thrusts(np.clip(actions.astype(np.float64), -1.0, 1.0), seconds)
        old, new = before.astype(np.float64), after.astype(np.float64)
        up = 0.5 * (old[:, 3:12] + new[:, 3:12]).reshape(-1, 3, 3)[:, :, 2]
        pull = (new[:, 12:15] - old[:, 12:15]) / seconds + GRAVITY * np.eye(3)[2]
        rates = 0.5 * (old[:, 15:18] + new[:, 15:18])
        turn = (new[:, 15:18] - old[:, 15:18]) / seconds + np.cross(rates, INERTIA * rates) / INERTIA
        rows = np.zeros((*thrusts.shape[:2], 3, 7))
        rows[..., :4] = up[:, None, :, None] * thrusts[:, :, None]
        rows[..., [0, 1], [4, 5]] = 1.0
        rows[..., 6] = pull[:, None]
        rows *= valid[:, None, None, None]
        moments = np.concatenate([thrusts, np.broadcast_to(turn[:, None], (*thrusts.shape[:2], 3))], axis=-1)
        moments *= valid[:, None, None]
        pull, turn = pull * valid[:, None], turn * valid[:, None]
        kept = np.where(valid, self._memory(rows, moments), 1.0)[:, None, None]
        self._force = kept[..., None] * self._force + np.einsum("npri,nprj->npij", rows[..., :6], rows)
        self._torque = kept[..., None] * self._torque + moments[..., :4, None] * moments[..., None, :]
        self._squares = kept * self._squares + np.stack([np.vecdot(pull, pull), np.vecdot(turn, turn)], -1)[:, None]
        self._speeds = np.where(valid[:, None, None], self._speeds, speeds)

    def _memory(self, rows: Array, moments: Array) -> Array:
        """Factors [N] on the weight of older transitions; smaller where what was found does not predict the new one."""
        if self._found is None:
            return np.full(len(rows), _MEMORY)
        chosen, force, torque = self._found
        here = np.arange(len(rows)), chosen
        pull = rows[here][..., 6] - np.einsum("nij,nj->ni", rows[here][..., :6], force)
        turn = moments[here][:, 4:] - np.einsum("nk,nkm->nm", moments[here][:, :4], torque)
        size = np.square(torque).mean(axis=(1, 2))
        errors = np.square(pull).sum(axis=1) / GRAVITY**2 + np.square(turn).sum(axis=1) / size
        return np.where(errors > _SURPRISE**2, _MEMORY_AFTER_SURPRISE, _MEMORY)

    def _thrusts(self, actions: Array, seconds: float) -> Array:
        """Mean shares of the largest thrusts over the step [N, pairs, 4]; the speeds go on."""
        wanted = np.broadcast_to(((actions + 1.0) / 2.0)[:, None], self._speeds.shape)
        tau = np.where(wanted >= self._speeds, self._rise, self._fall)
        decay, gap = np.exp(-seconds / tau), self._speeds - wanted
        mean = wanted + gap * (1.0 - decay) * (tau / seconds)
        square = wanted * (2.0 * mean - wanted) + gap * gap * (1.0 - decay * decay) * (tau / (2.0 * seconds))
        self._speeds = wanted + gap * decay
        thrusts: Array = CURVE[0] + CURVE[1] * mean + CURVE[2] * square
        return thrusts

    def tasks(self) -> list[Task]:
        """Vehicles of the family that fly like these."""
        count = len(self._squares)
        force, torque = self._usual
        before = self._found[1:] if self._found else (np.tile(force, (count, 1)), np.tile(torque, (count, 1, 1)))
        forces, force_error = _solved(self._force, before[0][:, None, :, None], self._squares[..., :1])
        torques, torque_error = _solved(self._torque, before[1][:, None], self._squares[..., 1:])
        scale = np.square(torque).mean() / np.square(force[:4]).mean()
        best = np.argmin(force_error + torque_error / scale, axis=1)
        chosen = np.arange(len(best)), best
        self._found = best, forces[chosen][..., 0], torques[chosen]
        constants = np.concatenate([self._rise, self._fall], axis=1)[best]
        return [like(self._family, *effects) for effects in zip(*self._found[1:], constants, strict=True)]


def like(family: Quadrotor, force: Array, torque: Array, constants: Array) -> Task:
    """A vehicle without payload on which the rotors have these effects, as far as the family has one.

    Args:
        family: the family; its further parameters are at the usual values.
        force: of each rotor over the mass, then of the wind along x and y, m/s^2 [6].
        torque: of each rotor over the inertia about the three axes, rad/s^2 [4, 3].
        constants: `motor_rise` and `motor_fall`, s.
    """
    balanced = np.array([GRAVITY, 0.0, 0.0, 0.0])
    shares = np.linalg.lstsq(np.vstack([force[:4], torque.T]), balanced, rcond=None)[0]  # that hold it still
    strengths = 1.0 / np.clip(shares, _LEAST_SHARE, 1.0)  # largest thrusts, in quarters of the weight
    tilting = np.abs(torque[:, :2]) * [1.0, INERTIA[1] / INERTIA[0]]  # over the inertia about x
    roll, yaw = np.sqrt(2.0) * tilting.mean(), np.abs(torque[:, 2]).mean()
    ratio = max(yaw * INERTIA[2] / (INERTIA[0] * max(roll, 1.0)), 1e-3)  # of torque constant and arm length
    arm = min(max(_TORQUE_CONSTANT / ratio, _ARMS[0]), _ARMS[1])  # any mass does, so one with a possible constant
    found = {
        "mass": MASS * (arm / ARM) ** 3,
        "thrust_to_weight": strengths.max(),
        "torque_to_inertia": roll * strengths.max() / strengths.mean(),
        "motor_rise": constants[0],
        "motor_fall": constants[1],
        "torque_constant": ratio * arm,
        "arm": 1.0,
        "payload": 0.0,
        **{f"rotor_{number}": strength / strengths.max() for number, strength in enumerate(strengths, 1)},
        "wind_x": force[4] / GRAVITY,
        "wind_y": force[5] / GRAVITY,
    }
    return family.closest_task({name: float(value) for name, value in found.items()})


def effects(family: Quadrotor, task: Task) -> tuple[Array, Array]:
    """Force and torque of a vehicle without payload, as `like` takes them."""
    strengths = np.array([task[f"rotor_{number}"] for number in range(1, len(ROTORS) + 1)])
    thrusts = strengths * GRAVITY * task["thrust_to_weight"] / len(ROTORS)
    wind = GRAVITY * np.array([task["wind_x"], task["wind_y"]])
    roll = task["torque_to_inertia"] / np.sqrt(2.0)
    arm = float(family.arms(task.values[None])[0])
    yaw = task["torque_constant"] / arm * task["torque_to_inertia"] * INERTIA[0] / INERTIA[2]
    signs = np.array([[-1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
    torque: Array = strengths[:, None] * signs * [roll, roll * INERTIA[0] / INERTIA[1], yaw]
    return np.concatenate([thrusts, wind]), torque


def _solved(moments: Array, usual: Array, squares: Array) -> tuple[Array, Array]:
    """Least squares of [N, P, K, K + M] moments with a pull to ``usual`` [K, M]: [N, P, K, M], and residuals [N, P]."""
    size = moments.shape[-2]
    left, right = moments[..., :size], moments[..., size:]
    ridge = _RIDGE * np.eye(size)
    found: Array = np.asarray(np.linalg.solve(left + ridge, right + ridge @ usual), dtype=np.float64)
    explained: Array = np.einsum("npkm,npkm->np", found, 2.0 * right - left @ found)
    return found, np.maximum(squares[..., 0] - explained, 0.0)
