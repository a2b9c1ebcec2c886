"""What the families from dm_control's suite share: models, HyperZero's grids and rewards, episodes of 1,000 steps."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property
from typing import ClassVar

import mujoco
import numpy as np

from metamap_envs.assets import dm_control_asset
from metamap_envs.family import Family
from metamap_envs.parameters import Parameter, ParameterSpace
from metamap_envs.state import Array
from metamap_envs.task import Task

__all__ = ["VALUE_AT_MARGIN", "Dmc", "at_least", "choice_grid", "close_to_at_least", "grid", "random_joints"]

VALUE_AT_MARGIN = 0.1  # HyperZero's `overwrite_all`; dm_control's default
_TRAINING_SHARE = 0.2  # HyPoGen: 20 % of the settings train, 80 % test


def at_least(values: Array, target: Array | float, margin: Array | float, value_at_margin: float) -> Array:
    """dm_control's linear `tolerance` with bounds (target, inf): 1 from ``target`` on, less below it, never under 0.

    Args:
        values: [N].
        target: least value that is worth 1.
        margin: distance below the target at which it is worth ``value_at_margin``, above 0.
        value_at_margin: in [0, 1).
    """
    short = np.maximum(target - values, 0.0) / margin * (1.0 - value_at_margin)
    worth: Array = np.where(short < 1.0, 1.0 - short, 0.0)
    return worth


def close_to_at_least(values: Array, target: float, margin: float) -> Array:
    """dm_control's Gaussian `tolerance` with bounds (target, inf), worth 0.1 at the margin."""
    short = np.maximum(target - values, 0.0) / margin
    scale = math.sqrt(-2.0 * math.log(VALUE_AT_MARGIN))
    worth: Array = np.exp(-0.5 * np.square(short * scale))
    return worth


def choice_grid(low: float, high: float, step: float, *, both_signs: bool = False) -> tuple[float, ...]:
    """The numbers from ``low`` to ``high``, with their negatives before them if asked for."""
    positive = tuple(round(low + step * index, 6) for index in range(round((high - low) / step) + 1))
    return (*(-value for value in reversed(positive)), *positive) if both_signs else positive


def grid(*parameters: Parameter) -> ParameterSpace:
    """A grid of settings, of which 20 % are trained on."""
    return ParameterSpace(parameters, training_share=_TRAINING_SHARE)


def random_joints(model: mujoco.MjModel, generator: np.random.Generator) -> Array:
    """Positions [nq]: limited joints uniform in their range, other hinges in [-pi, pi], other slides at 0."""
    qpos = np.zeros(model.nq)
    for joint in range(model.njnt):
        if model.jnt_limited[joint]:
            qpos[joint] = generator.uniform(*model.jnt_range[joint])
        elif model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE:
            qpos[joint] = generator.uniform(-math.pi, math.pi)
    return qpos


class Dmc(Family):
    """Base of the families from dm_control's suite; all their joints have one number each.

    Models are those of the installed dm_control, whose Python code is not imported. As there, derived quantities are
    those of the state after the step, episodes have 1,000 steps and do not end before, and no reward is above 1, so
    that returns are at most 1,000.
    """

    requires = ("dm_control", "dmc")
    current_readouts = True
    horizon = 1000
    model_file: ClassVar[str]
    total_mass: ClassVar[float | None] = None
    """kg, where the file has the deprecated settotalmass; it is scaled to after compilation."""

    @cached_property
    def _models(self) -> dict[float | None, mujoco.MjModel]:
        return {}

    def model(self, task: Task) -> mujoco.MjModel:
        """As in `Family`, but compiled once for each length, since the draw of a start needs it too."""
        length = dict(task.parameters).get("length")
        if length not in self._models:
            self._models[length] = super().model(task)
        return self._models[length]

    def compile(self) -> mujoco.MjModel:
        """Compile the installed model as it is."""
        return self._compile(self._read_spec())

    def compile_task(self, task: Task) -> mujoco.MjModel:
        """Compile the installed model with the task's length, if it has one."""
        spec = self._read_spec()
        if "length" in self.space.names:
            self.set_length(spec, task["length"])
        return self._compile(spec)

    def _read_spec(self) -> mujoco.MjSpec:
        return dm_control_asset(self.model_file, settotalmass=None if self.total_mass is None else -1.0)

    def _compile(self, spec: mujoco.MjSpec) -> mujoco.MjModel:
        self.edit(spec)
        model = spec.compile()
        if self.total_mass is not None:
            mujoco.mj_setTotalmass(model, self.total_mass)
            mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def edit(self, spec: mujoco.MjSpec) -> None:
        """Change what dm_control changes for all tasks. Default: nothing."""

    @staticmethod
    @abstractmethod
    def set_length(spec: mujoco.MjSpec, length: float) -> None:
        """Write a length, in m, into the model as HyperZero's Contextual Control Suite does."""
