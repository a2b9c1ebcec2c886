"""A geometric controller for quadrotors of known parameters: position, then attitude, then thrusts of the rotors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.family import Family
from metamap_envs.state import Array
from metamap_envs.task import Task

__all__ = ["GeometricController"]

# Found by a search over vehicles of the training split, for the mean return.
_POSITION_RATE, _POSITION_DAMPING = 2.5, 0.85  # rad/s and damping ratio of the fastest position loop
_ATTITUDE_RATE, _ATTITUDE_DAMPING = 1.2, 1.3  # in inverses of the rotors' time constant, and damping ratio
_LARGEST_ATTITUDE_RATE = 15.0  # rad/s
_RATE_PER_ROOT = 1.7  # largest attitude rate in roots of `torque_to_inertia`
_YAW_SHARE = 0.23  # of the attitude rate
_POSITION_SHARE = 0.25  # of the attitude rate; the position loop is no faster
_FARTHEST = 1.0  # m; larger errors count as that
_LARGEST_PULL = 0.7  # weights, along the horizon
_SHARE_OF_THRUST = 0.8, 0.7  # that may be used along the horizon, and to rise
_LEAST_THRUST = 0.1  # in weights
_MARGIN = 0.06  # share of a rotor's range at its ends that hovering leaves to torques
_YIELD = 0.4  # share of what a torque lacks by which thrust goes up or down for it
_SHARES = 0.04, 1.3  # of a rotor's largest thrust that may be said to hold a vehicle
_SMALL = 1e-9


class GeometricController:
    """Controls N vehicles of known parameters from their observations alone, without memory.

    A proportional-derivative law gives the acceleration that is wanted, its direction the attitude (Lee, Leok and
    McClamroch 2010), a second law the torque, and the inverse of the rotors' geometry their thrusts, where torques
    have to fit between what hovering leaves. Gains go with the rotors' time constants and the largest torque.

    Args:
        family: their family.
        tasks: N tasks.
        curve: share of a rotor's largest thrust by powers of its speed, [3].
    """

    def __init__(self, family: Family, tasks: Sequence[Task], curve: Array) -> None:
        models, rotors = [family.model(task) for task in tasks], slice(family.action_size)
        self._curve = curve
        self._pull = np.stack([model.opt.gravity for model in models])  # of gravity and wind, m/s^2
        self._gravity = -float(family.base_model.opt.gravity[2])
        sites = family.base_model.actuator_trnid[rotors, 0]
        bodies = [family.base_model.body(name).id for name in ("vehicle", "payload")]
        gears = np.stack([model.actuator_gear[rotors] for model in models])
        masses, places, own = (
            np.stack([getattr(model, field)[bodies] for model in models])
            for field in ("body_mass", "body_pos", "body_inertia")
        )
        self._mass, self._largest = masses.sum(axis=1), gears[:, :, 2]
        centre = np.einsum("nb,nbi->ni", masses, places) / self._mass[:, None]
        self._inertia = _whole_inertias(masses, places - centre[:, None], own)
        places_of_rotors = np.stack([model.site_pos[sites] for model in models])
        arms = places_of_rotors - centre[:, None]
        geometry = _geometry(arms, gears[:, :, 5] / self._largest)
        self._thrusts = np.linalg.inv(geometry)
        of = {name: np.array([task[name] for task in tasks]) for name in family.space.names}
        self._set_rates(of)
        self._set_limits()
        self.sensitivity = self._offsets(geometry, np.linalg.norm(places_of_rotors[:, 0], axis=1))
        constants = np.log(np.stack([of["motor_rise"], of["motor_fall"]], axis=1))
        self.hovering = np.concatenate([self._hovering(geometry), constants, self._pull[:, :2] / self._gravity], axis=1)
        """What hovering takes [N, 13]: set-points of the rotors (4); logarithms of what a change of them all lifts and
        one of a rotor turns about the three axes (4), of the largest thrust in weights (1), and of the rotors' time
        constants (2); the wind in weights (2)."""

    def _set_rates(self, of: dict[str, Array]) -> None:
        constant = 2.0 / (1.0 / of["motor_rise"] + 1.0 / of["motor_fall"])
        fastest = np.minimum(_LARGEST_ATTITUDE_RATE, _RATE_PER_ROOT * np.sqrt(of["torque_to_inertia"]))
        attitude = np.minimum(_ATTITUDE_RATE / constant, fastest)
        self._attitude = np.stack([attitude, attitude, _YAW_SHARE * attitude], axis=1)
        self._position = np.minimum(_POSITION_RATE, _POSITION_SHARE * attitude)[:, None]

    def _set_limits(self) -> None:
        most = self._largest.shape[1] * self._largest.min(axis=1) / self._mass  # m/s^2 with torques in balance
        aside = _SHARE_OF_THRUST[0] * np.sqrt(np.maximum(most**2 - self._gravity**2, 0.01))
        self._aside = np.minimum(_LARGEST_PULL * self._gravity, aside)
        self._rise = np.maximum(_SHARE_OF_THRUST[1] * (most - self._gravity), -0.5 * self._gravity)

    def _hovering(self, geometry: Array) -> Array:
        shares = np.clip(self._thrusts[:, :, 0] * self._mass[:, None] * self._gravity / self._largest, *_SHARES)
        root = np.sqrt(self._curve[1] ** 2 + 4.0 * self._curve[2] * (shares - self._curve[0]))
        wrenches = geometry * (self._largest * 0.5 * root)[:, None]
        lift = wrenches[:, :1].sum(axis=2) / self._mass[:, None]
        turns = np.abs(np.linalg.solve(self._inertia, wrenches[:, 1:])).mean(axis=2)
        most = self._largest.shape[1] * self._largest.min(axis=1, keepdims=True) / self._mass[:, None] / self._gravity
        points = (root - self._curve[1]) / self._curve[2] - 1.0
        return np.concatenate([points, np.log(np.concatenate([lift, turns, most], axis=1))], axis=1)

    def _offsets(self, geometry: Array, lengths: Array) -> Array:
        """Offsets in hovering for constant errors of the actions: height, sideways in arm lengths, yaw in rad."""
        shares = np.clip(self._thrusts[:, :, 0] * self._mass[:, None] * self._gravity / self._largest, 0.0, 1.0)
        slopes = 0.5 * np.sqrt(self._curve[1] ** 2 + 4.0 * self._curve[2] * np.maximum(shares - self._curve[0], 0.0))
        wrenches = geometry * (self._largest * slopes)[:, None]
        turns = np.linalg.solve(self._inertia, wrenches[:, 1:]) / (self._attitude**2)[:, :, None]
        metres = 1.0 / (self._position * lengths[:, None])[:, :, None] / self._position[:, :, None]
        rise = wrenches[:, :1] / self._mass[:, None, None] * metres
        return np.concatenate([rise, turns[:, :2] * self._gravity * metres, turns[:, 2:]], axis=1)

    def __call__(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Actions [N, 4] for raw observations [N, 22]."""
        position, rotation, velocity, rates = np.split(observations[:, :18].astype(np.float64), [3, 12, 15], axis=1)
        rotation = rotation.reshape(-1, 3, 3)
        force = self._acceleration(position, velocity) - self._pull
        thrust = self._mass * np.maximum(np.vecdot(force, rotation[:, :, 2]), _LEAST_THRUST * self._gravity)
        return self._actions(thrust, self._torque(_attitude_error(force, rotation), rates))

    def _acceleration(self, position: Array, velocity: Array) -> Array:
        error, rate = _shortened(position, np.full(len(position), _FARTHEST)), self._position
        wanted = -(rate**2) * error - 2.0 * _POSITION_DAMPING * rate * velocity
        rise = np.clip(wanted[:, 2:], -0.5 * self._gravity, self._rise[:, None])
        found: Array = np.concatenate([_shortened(wanted[:, :2], self._aside), rise], axis=1)
        return found

    def _torque(self, error: Array, rates: Array) -> Array:
        wanted = -(self._attitude**2) * error - 2.0 * _ATTITUDE_DAMPING * self._attitude * rates
        spin = np.einsum("nij,nj->ni", self._inertia, rates)
        torque: Array = np.einsum("nij,nj->ni", self._inertia, wanted) + np.cross(rates, spin)
        return torque

    def _actions(self, thrust: Array, torque: Array) -> NDArray[np.float32]:
        """Set-points whose thrusts have this sum and this torque, as far as they fit."""
        hover = self._thrusts[:, :, 0] * thrust[:, None] / self._largest
        change = np.einsum("nij,nj->ni", self._thrusts[:, :, 1:], torque) / self._largest
        least, square = self._curve[[0, 2]]
        shares = _fitted(np.clip(hover, least + _MARGIN, 1.0 - _MARGIN), change, least)
        root = np.sqrt(self._curve[1] ** 2 + 4.0 * square * np.maximum(shares - least, 0.0))
        actions: NDArray[np.float32] = ((root - self._curve[1]) / square - 1.0).astype(np.float32)
        return actions


def _fitted(hover: Array, change: Array, least: float) -> Array:
    """Thrusts between the least one and 1 near ``hover + change``: hovering yields to the torque, then this shrinks."""
    change = change * np.minimum(1.0, (1.0 - least) / np.maximum(np.ptp(change, axis=1), _SMALL))[:, None]
    wanted = hover + change
    lacks = np.maximum(least - wanted.min(axis=1), 0.0) - np.maximum(wanted.max(axis=1) - 1.0, 0.0)
    hover = np.clip(hover + _YIELD * lacks[:, None], least, 1.0)
    room = np.where(change > 0.0, 1.0 - hover, hover - least)
    fits = np.minimum(1.0, np.min(room / np.maximum(np.abs(change), _SMALL), axis=1))
    fitted: Array = hover + fits[:, None] * change
    return fitted


def _whole_inertias(masses: Array, places: Array, own: Array) -> Array:
    """Inertia [N, 3, 3] about the common centre of bodies with masses [N, B] at places [N, B, 3]."""
    squares = np.vecdot(places, places)[..., None, None] * np.eye(3) - places[..., :, None] * places[..., None, :]
    whole: Array = np.einsum("nb,nbij->nij", masses, squares) + own.sum(axis=1)[:, :, None] * np.eye(3)
    return whole


def _geometry(arms: Array, spins: Array) -> Array:
    """Sum of thrusts, and torques about the common centre, [N, 4, 4] for thrusts of 1 N of the rotors."""
    return np.stack([np.ones_like(spins), arms[:, :, 1], -arms[:, :, 0], spins], axis=1)


def _attitude_error(force: Array, rotation: Array) -> Array:
    """Rotation vector [N, 3], in the body's axes, from the attitude that pulls along a force, nose along x."""
    up = force / np.linalg.norm(force, axis=1, keepdims=True)
    nose = (1.0, 0.0, 0.0) - up * up[:, :1]
    nose /= np.linalg.norm(nose, axis=1, keepdims=True)
    wanted = np.stack([nose, np.cross(up, nose), up], axis=2)
    apart = np.einsum("nij,nik->njk", wanted, rotation)
    skew = 0.5 * np.stack(
        [apart[:, 2, 1] - apart[:, 1, 2], apart[:, 0, 2] - apart[:, 2, 0], apart[:, 1, 0] - apart[:, 0, 1]], axis=1
    )
    angle = np.arccos(np.clip((np.trace(apart, axis1=1, axis2=2) - 1.0) / 2.0, -1.0, 1.0))
    longer: Array = skew * np.minimum(angle / np.maximum(np.sin(angle), 1e-3), 3.0)[:, None]
    return longer


def _shortened(vectors: Array, longest: Array) -> Array:
    """Vectors [N, D] that are no longer than some lengths [N]."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), _SMALL)
    shortened: Array = vectors * np.minimum(1.0, longest / lengths)[:, None]
    return shortened
