"""A family of a user's own MJCF model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, one_line
from metamap_envs.family import Family
from metamap_envs.from_gymnasium.fields import ModelField, changed_model
from metamap_envs.mjcf.actuation import Actuation
from metamap_envs.mjcf.binding import Measure, Step
from metamap_envs.mjcf.lengths import stretch
from metamap_envs.mjcf.starts import Starts
from metamap_envs.state import Array, State
from metamap_envs.task import Task

__all__ = ["End", "MjcfFamily", "RewardPart"]


class RewardPart(NamedTuple):
    """A term of the reward: its name in infos, its weight, and what gives its values [N]."""

    label: str
    weight: float
    of: Callable[[Step], NDArray[Any]]


class End(NamedTuple):
    """Numbers outside whose bounds an episode ends; without bounds, where one is not 0."""

    of: Callable[[State], NDArray[Any]]
    low: float | None
    high: float | None

    def reached(self, state: State) -> NDArray[np.bool_]:
        """Where an episode ends, bool [N]; a number on its bound is outside, as is NaN."""
        numbers = self.of(state)
        low, high = (-np.inf if self.low is None else self.low), (np.inf if self.high is None else self.high)
        outside = numbers != 0 if self.low is self.high is None else ~((low < numbers) & (numbers < high))
        reached: NDArray[np.bool_] = np.logical_or.reduce(outside, axis=1)
        return reached


class MjcfFamily(Family):
    """A declared family of an MJCF model; one subclass of this is made for each declaration.

    Observations are the numbers of the declared terms, one after another. Actions are in [-1, 1], and scaled to the
    actuators' ranges of control.

    Reward: the sum of the declared terms, each times its weight.
    """

    spec: ClassVar[mujoco.MjSpec]
    """Of the model, with the sensors that terms need; all else as in the file."""
    fields: ClassVar[Mapping[str, ModelField]]
    """What parameters write, by name."""
    links: ClassVar[Mapping[str, str]]
    """Bodies whose lengths parameters scale, by name."""
    measures: ClassVar[tuple[Measure, ...]]
    sizes: ClassVar[tuple[int, ...]]
    """How many numbers each measure gives."""
    parts: ClassVar[tuple[RewardPart, ...]]
    ends: ClassVar[tuple[End, ...]]
    starts: ClassVar[Starts]
    actuation: ClassVar[Actuation]
    holds: ClassVar[bool]
    """Whether observations hold all of the state that physics, reward and ends depend on."""

    # physics ----------------------------------------------------------------------------------------------------------

    def compile(self) -> mujoco.MjModel:
        """Compile the model at the defaults of all parameters."""
        return self.compile_task(self.task())

    def compile_task(self, task: Task) -> mujoco.MjModel:
        """Compile the model with the values of a task, as if they stood in the file.

        Raises:
            MetaMapError: MuJoCo's compiler refuses a value, or makes another number of it.
        """
        spec = self.spec.copy()
        longer = {body: task[name] for name, body in self.links.items() if task[name] != 1.0}
        for body, factor in longer.items():
            stretch(spec, body, factor)
        try:
            own = spec.compile()
        except ValueError as error:
            raise MetaMapError(f"MuJoCo's compiler refuses lengths times {longer}: {one_line(error)}") from None
        fields = [
            (target, task[name])
            for name, target in self.fields.items()
            if task[name] != target.own or (longer and not target.scale)
        ]
        return changed_model(spec, own, fields) if fields else own

    def _seconds(self, values: Array) -> Any:
        """Simulated seconds of a step, a number, or [N] where the time step is a parameter."""
        for name, target in self.fields.items():
            if target.field == "timestep":
                steps = values[:, self.space.names.index(name)]
                return self.frame_skip * (steps * self.spec.option.timestep if target.scale else steps)
        return self.step_seconds

    # behaviour --------------------------------------------------------------------------------------------------------

    @property
    def action_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """-1 and 1, float32 [A] each."""
        ones = np.ones(self.action_size, dtype=np.float32)
        return -ones, ones

    @property
    def observation_size(self) -> int:
        """Length of an observation, O."""
        return sum(self.sizes)

    def controls(self, actions: NDArray[Any], activations: Array, values: Array) -> NDArray[Any]:
        """Actions scaled to the actuators' ranges."""
        return self.actuation.controls(actions)

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """The declared start with its noise."""
        return self.starts.draw(self.base_model, generator)

    def observe(self, state: State) -> Array:
        """Numbers of the declared terms."""
        return np.concatenate([measure.of(state) for measure in self.measures], axis=1)

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Sum of the declared terms, and each by its name, times its weight."""
        step = Step(
            before,
            after,
            actions,
            values,
            self.space.names,
            self._seconds(values),
            lambda: self.terminated(after, values),
        )
        terms = {part.label: part.weight * part.of(step) for part in self.parts}
        first, *others = terms.values()
        total = np.asarray(first, np.float64)
        for term in others:
            total = total + term
        return total, terms

    def terminated(self, after: State, values: Array) -> NDArray[np.bool_]:
        """Where a declared number is outside its bounds."""
        found = np.zeros(len(after.qpos), dtype=np.bool_)
        for end in self.ends:
            found |= end.reached(after)
        return found

    def states_of(self, observations: Array, values: Array) -> tuple[Array, Array] | None:
        """Positions and velocities that observations were made of; NaN where a velocity was clipped.

        Angles that are observed by cosine and sine are in [-pi, pi].
        """
        if not self.holds:
            return None
        qpos = np.tile(self.starts.qpos, (len(observations), 1))
        qvel = np.full((len(observations), self.base_model.nv), np.nan)
        column = 0
        for measure, size in zip(self.measures, self.sizes, strict=True):
            numbers = observations[:, column : column + size]
            column += size
            if measure.cos_sin:
                numbers = np.arctan2(numbers[:, size // 2 :], numbers[:, : size // 2])
            if measure.qpos:
                qpos[:, measure.qpos] = numbers
            if measure.qvel:
                qvel[:, measure.qvel] = np.where(np.abs(numbers) < measure.limit, numbers, np.nan)
        return qpos, qvel
