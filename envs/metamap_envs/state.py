"""State that a family's formulas read: positions, velocities and derived quantities of N environments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import mujoco

__all__ = ["Array", "Readout", "State", "sum_of_squares"]

Array = NDArray[np.float64]


def sum_of_squares(actions: NDArray[Any]) -> NDArray[Any]:
    """Row sums of squares, [N, A] to [N], with the bits of Gymnasium's ``np.sum(np.square(action))`` of one row."""
    total: NDArray[Any] = np.add.reduce(np.square(actions), axis=1)  # np.sum without its Python wrapper
    return total


@dataclass(frozen=True)
class Readout:
    """A derived MuJoCo quantity that observations or rewards need.

    Attributes:
        field: `MjData` field, one row per object ("xpos").
        object_type: named access of that field's objects ("body", "site", "geom", "sensor"); empty for the whole field.
        name: the object. Of a sensor in "sensordata" it is the first number, or all of them.
        whole: whether all numbers of a sensor are meant.
    """

    field: str
    object_type: str = ""
    name: str = ""
    whole: bool = False

    def row(self, model: mujoco.MjModel) -> int | slice:
        """Row of the field that the object has in a model; rows of a whole sensor or of the whole field."""
        if not self.object_type:
            return slice(None)
        index = int(getattr(model, self.object_type)(self.name).id)
        if self.object_type != "sensor":
            return index
        start = int(model.sensor_adr[index])
        return slice(start, start + int(model.sensor_dim[index])) if self.whole else start


@dataclass(frozen=True)
class State:
    """Input of a family's observation, reward and termination, for N environments.

    Attributes:
        qpos: generalised positions, float64 [N, nq].
        qvel: generalised velocities, float64 [N, nv].
        readouts: derived quantities by the family's key, float64 [N, ...]. As in Gymnasium they are those that
            `mj_step` leaves behind, computed before its last integration, unless the family has `current_readouts`.
    """

    qpos: Array
    qvel: Array
    readouts: Mapping[str, Array] = field(default_factory=dict)

    def where(self, rows: NDArray[np.bool_], other: State) -> State:
        """This state in ``rows``, bool [N], and another one elsewhere."""

        def chosen(mine: Array, its: Array) -> Array:
            return np.where(rows.reshape(-1, *[1] * (mine.ndim - 1)), mine, its)

        readouts = {key: chosen(self.readouts[key], other.readouts[key]) for key in self.readouts}
        return State(chosen(self.qpos, other.qpos), chosen(self.qvel, other.qvel), readouts)
