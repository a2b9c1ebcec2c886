"""What a task hides, as drawings show it: joints in the colour of their condition, a goal or heading on the ground."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metamap_envs.family import Family
from metamap_envs.task import Task
from metamap_rl.viz.joints import Joint, actuator_factors, condition_of

__all__ = ["CONDITION_COLOURS", "Ball", "Colour", "Marks", "marks_of", "task_words"]

Colour = tuple[int, int, int]

CONDITION_COLOURS: Mapping[str, Colour] = {"weak": (238, 130, 98), "broken": (207, 35, 51), "flipped": (222, 30, 110)}
"""Of joints that are not healthy; those of the player."""


@dataclass(frozen=True)
class Ball:
    """A ball at a joint.

    Attributes:
        body: it is fixed to.
        place: of its centre in that body's frame [3].
        colour: of the ball.
    """

    body: int
    place: tuple[float, ...]
    colour: Colour


@dataclass(frozen=True)
class Marks:
    """What is marked in a drawing.

    Attributes:
        tints: colour of bodies, by index.
        balls: at joints.
        goal: place on the ground, m; None for none.
        heading: wanted direction of motion on the ground, rad from the x axis; None for none.
    """

    tints: Mapping[int, Colour] = field(default_factory=dict)
    balls: tuple[Ball, ...] = ()
    goal: tuple[float, float] | None = None
    heading: float | None = None


def marks_of(family: Family, task: Task, joints: Sequence[Joint]) -> Marks:
    """The marks of a task.

    Args:
        family: of the task.
        task: whose parameters are shown.
        joints: of the family that can be broken.
    """
    tints, balls = {}, []
    for joint, condition, _ in _unhealthy(family, task, joints):
        if joint.body:
            tints[joint.body] = CONDITION_COLOURS[condition]
            balls.append(Ball(joint.body, joint.place, CONDITION_COLOURS[condition]))
    values = dict(task.parameters)
    goal = None
    if "goal_radius" in values and "goal_angle" in values:
        radius, angle = values["goal_radius"], values["goal_angle"]
        goal = radius * math.cos(angle), radius * math.sin(angle)
    return Marks(tints, tuple(balls), goal, _heading(family, values))


def _heading(family: Family, values: Mapping[str, float]) -> float | None:
    """Angle of a parameter ``direction``, which is an angle or a sign along the x axis."""
    if "direction" not in values:
        return None
    (parameter,) = (one for one in family.space.parameters if one.name == "direction")
    if parameter.choices:
        return 0.0 if values["direction"] > 0 else math.pi
    return values["direction"]


def _unhealthy(family: Family, task: Task, joints: Sequence[Joint]) -> list[tuple[Joint, str, float]]:
    """Joints that are not healthy, with condition and factor of their actuators."""
    if not joints:
        return []
    factors = actuator_factors(family, task)
    found = [(joint, condition_of(float(factors[joint.index])), float(factors[joint.index])) for joint in joints]
    return [one for one in found if one[1] != "healthy"]


def task_words(family: Family, task: Task, joints: Sequence[Joint]) -> list[tuple[str, Colour | None]]:
    """A task in words, each with its colour: joints that are not healthy, then parameters that are none of a joint's.

    For example "bshin flipped -1.2", "target_velocity 1.25 m/s".
    """
    found: list[tuple[str, Colour | None]] = [
        (f"{joint.name} {condition} {factor:.2g}", CONDITION_COLOURS[condition])
        for joint, condition, factor in _unhealthy(family, task, joints)
    ]
    own = {name for joint in joints for changed in joint.conditions.values() for name in changed}
    for parameter in family.space.parameters:
        if parameter.name not in own:
            unit = "" if parameter.unit in ("", "1") else f" {parameter.unit}"
            found.append((f"{parameter.name} {task[parameter.name]:.3g}{unit}", None))
    return found or [("all joints healthy", None)]
