"""HalfCheetah whose actuators have unknown signs and strengths, and obey late."""

from __future__ import annotations

import mujoco

from metamap_envs.families.cheetah_actuators import CheetahActuators
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.registry import register_family
from metamap_envs.task import Task

__all__ = ["CheetahActuatorsDelay"]

_LONGEST = 4  # control steps
_EARLY = 0.5  # MuJoCo steps: so much earlier than whole control steps, lest rounding of the time moves a change of ctrl

_DELAY = Parameter(
    name="delay",
    unit="control steps",
    low=0.0,
    high=float(_LONGEST),
    default=0.0,
    choices=tuple(float(steps) for steps in range(_LONGEST + 1)),
    train_choices=(1.0, 2.0, 3.0),
    out_choices=(float(_LONGEST),),
    description="control steps of 0.05 s from an action to its effect; no delay is the default, and in no split",
)


@register_family
class CheetahActuatorsDelay(CheetahActuators):
    """`cheetah-actuators` whose actions take effect 1 to 3 control steps after they were given, 4 outside.

    In control step t all actuators apply the action of step t - delay, and none in the first steps of an episode. The
    observation is that of `cheetah-actuators`: it does not hold the actions that are still to come. Past actions are
    MuJoCo's control history, which is part of the state: copies and snapshots have it, and a reset clears it. Where the
    delay changes in mid-episode, the rule holds with the new delay from the next step on: with a shorter one the
    actions between are never applied, with a longer one some that were applied are applied again. Signs and strengths
    act when an action is applied.

    Reward: ``-|v - 2| - 0.05 sum(a^2)``, v the mean forward velocity over the step in m/s, a the action as given.
    Horizon 200.
    Source: signs and strengths are those of `cheetah-actuators` (DMA*-SH), whose splits are by sign pattern; here they
    are by pattern and delay. The delay is ours: 50 to 150 ms, of the order of a robot's on a network.
    """

    name = "cheetah-actuators-delay"
    description = "HalfCheetah at 2 m/s whose six actuators have unknown signs and strengths, and a delay"
    space = ParameterSpace((*CheetahActuators.space.parameters, _DELAY))
    physics_parameters = frozenset(space.names)
    unobserved_positions = None  # the actions still to come are part of the state

    def compile(self) -> mujoco.MjModel:
        """Compile half_cheetah.xml with a history of controls that is long enough for any delay."""
        spec = self.read_spec()
        for actuator in spec.actuators:
            actuator.nsample = _LONGEST * self.frame_skip + 1
        return self.compile_spec(spec)

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Set gears and the delay; of the controls in the history the last before it counts."""
        steps = max(task["delay"] * self.frame_skip - _EARLY, 0.0)
        model.actuator_delay[:] = steps * model.opt.timestep
        return super().apply(model, task)
