"""Joints that can be broken: settings of a family's parameters, found by their effect on its actuators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.family import Family
from metamap_envs.parameters import Parameter
from metamap_envs.task import Task

__all__ = ["CONDITIONS", "Joint", "actuator_factors", "condition_of", "conditions_of", "joints_of", "with_condition"]

CONDITIONS = ("healthy", "weak", "broken", "flipped")
"""In the order that clicks go through."""

_BROKEN, _HEALTHY, _STRONG = 0.2, 0.9, 1.1  # bounds of an actuator's factor


@dataclass(frozen=True)
class Joint:
    """An actuator whose strength or sign is a parameter of its family.

    Attributes:
        name: of the actuator.
        index: of the actuator.
        body: body that it moves; 0, the world, where it drives no single joint.
        place: anchor of its joint in that body's frame [3].
        conditions: by name the parameters that bring it about, of those that the family allows.
    """

    name: str
    index: int
    body: int
    place: tuple[float, ...]
    conditions: Mapping[str, Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"name": self.name, "body": self.body, "place": self.place, "conditions": list(self.conditions)}


def actuator_factors(family: Family, task: Task) -> NDArray[np.float64]:
    """Strength of each actuator under a task in units of the base model's, negative if it is flipped, [nu]."""
    base, model = family.base_model, family.model(task)
    size = np.maximum(np.vecdot(base.actuator_gear, base.actuator_gear), 1e-12)
    gears = np.vecdot(model.actuator_gear, base.actuator_gear) / size
    own = base.actuator_gainprm[:, 0]
    gains = np.divide(model.actuator_gainprm[:, 0], own, out=np.ones_like(own), where=own != 0)
    found: NDArray[np.float64] = gears * gains
    return found


def condition_of(factor: float) -> str:
    """The name of an actuator's condition."""
    if factor < 0:
        return "flipped"
    return "broken" if factor <= _BROKEN else "weak" if factor < _HEALTHY else "healthy"


def joints_of(family: Family) -> tuple[Joint, ...]:
    """The joints whose actuators single parameters of the family affect; empty where none does."""
    healthy: dict[str, float] = {}
    found: dict[int, dict[str, dict[str, float]]] = {}
    unstructured = [one for one in family.space.parameters if one.name not in family.structural_parameters]
    for parameter in unstructured:
        for value in _values(parameter):
            changed = actuator_factors(family, family.task({parameter.name: value}))
            affected = np.flatnonzero(np.abs(changed - 1.0) > 1e-9)
            if len(affected) != 1:
                continue
            index, factor = int(affected[0]), float(changed[affected[0]])
            healthy[parameter.name] = parameter.default
            own = found.setdefault(index, {"healthy": {}})
            own["healthy"][parameter.name] = parameter.default
            if factor < _STRONG:
                own.setdefault(condition_of(factor), {parameter.name: value})
    return tuple(_joint(family, index, own) for index, own in sorted(found.items()) if len(own) > 1)


def _values(parameter: Parameter) -> Iterator[float]:
    """Values of a parameter to try, those of training first."""
    if parameter.choices:
        yield from (choice for choice in parameter.choices if choice != parameter.default)
        return
    yield from (low for low, _ in parameter.train if low != parameter.default)
    if parameter.low != parameter.default:
        yield parameter.low


def _joint(family: Family, index: int, own: Mapping[str, Mapping[str, float]]) -> Joint:
    model = family.base_model
    name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_ACTUATOR.value, index) or f"actuator {index}"
    body, place = _anchor(model, index)
    ordered = {condition: dict(own[condition]) for condition in CONDITIONS if condition in own}
    return Joint(name, index, body, place, ordered)


def _anchor(model: mujoco.MjModel, index: int) -> tuple[int, tuple[float, ...]]:
    """Body that an actuator moves, and the place on it that stands for the joint."""
    target = int(model.actuator_trnid[index, 0])
    if model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_JOINT.value:
        return int(model.jnt_bodyid[target]), tuple(np.round(model.jnt_pos[target], 4).tolist())
    if model.actuator_trntype[index] == mujoco.mjtTrn.mjTRN_SITE.value:
        return int(model.site_bodyid[target]), tuple(np.round(model.site_pos[target], 4).tolist())
    return 0, (0.0, 0.0, 0.0)


def conditions_of(family: Family, task: Task, joints: Sequence[Joint]) -> dict[str, str]:
    """The present condition of each joint, by name."""
    if not joints:
        return {}
    factors = actuator_factors(family, task)
    return {joint.name: condition_of(float(factors[joint.index])) for joint in joints}


def with_condition(family: Family, task: Task, joint: Joint, condition: str) -> Task:
    """The task with one joint in another condition; all other parameters stay."""
    values = {**dict(task.parameters), **joint.conditions["healthy"], **joint.conditions[condition]}
    return family.task(values)
