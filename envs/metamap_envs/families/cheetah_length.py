"""HalfCheetah whose torso, thighs and shins are of unknown lengths."""

from __future__ import annotations

from typing import Any

import mujoco
from numpy.typing import NDArray

from metamap_envs.families._half_cheetah import HalfCheetah
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["CheetahLength"]

_LEGS = (("bthigh", "bshin", "bfoot"), ("fthigh", "fshin", "ffoot"))
_HEAD_OFFSET = 0.1  # m, of the head's centre beyond the torso's end

_TORSO = Parameter(
    name="torso_length",
    unit="m",
    low=0.5,
    high=1.5,
    default=1.0,
    train=((0.6, 1.4),),
    out=((0.5, 0.6), (1.4, 1.5)),
    description="distance from hip to shoulder",
)


def _link(link: str) -> Parameter:
    return Parameter(
        name=f"{link}_length",
        unit="1",
        low=0.5,
        high=1.5,
        default=1.0,
        train=((0.75, 1.25),),
        out=((0.6, 0.75), (1.25, 1.4)),
        description=f"factor on the length of both {link}s",
    )


@register_family
class CheetahLength(HalfCheetah):
    """HalfCheetah-v5 with other lengths of torso, thighs and shins, compiled anew for each task.

    Lengths alone change: thickness, torques, stiffness and the total of 14 kg stay, and the masses of the links share
    that total by their volumes. The torso starts as much higher as its longer leg is longer, and heights are
    observed from there, so that no start is deeper in the floor and no first observation tells the lengths.

    Reward: ``v - 0.1 sum(a^2)``, as in HalfCheetah-v5, v the mean forward velocity over the step in m/s. Horizon 200.
    Source: the torso's range is that of HyperZero's and HyPoGen's dm_control cheetah, .3 to .7 m from its middle to
    either end; factors on thighs and shins are added here.
    """

    name = "cheetah-length"
    description = "HalfCheetah whose torso, thighs and shins are of unknown lengths"
    space = ParameterSpace((_TORSO, _link("thigh"), _link("shin")))
    physics_parameters = frozenset(space.names)
    structural_parameters = physics_parameters

    def compile_task(self, task: Task) -> mujoco.MjModel:
        """Compile half_cheetah.xml with the task's lengths."""
        spec = self.read_spec()
        end = task["torso_length"] / 2
        spec.geom("torso").fromto = (-end, 0.0, 0.0, end, 0.0, 0.0)
        spec.geom("head").pos[0] = end + _HEAD_OFFSET
        spec.body("bthigh").pos[0], spec.body("fthigh").pos[0] = -end, end
        growth = []
        for thigh, shin, foot in _LEGS:
            growth.append(
                _stretch(spec, thigh, shin, task["thigh_length"]) + _stretch(spec, shin, foot, task["shin_length"])
            )
        spec.body("torso").pos[2] += max(growth)
        return self.compile_spec(spec)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Forward velocity and the control cost."""
        return self.forward_reward(before, after, actions)


def _stretch(spec: mujoco.MjSpec, link: str, child: str, factor: float) -> float:
    """Lengthen a link, with what hangs on its end. Returns by how much lower, in m, that hangs."""
    geom, end = spec.geom(link), spec.body(child)
    hanging = -float(end.pos[2])
    geom.pos *= factor
    geom.size[1] *= factor
    end.pos *= factor
    return hanging * (factor - 1.0)
