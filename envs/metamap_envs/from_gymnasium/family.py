"""A family whose environments are Gymnasium's own, made for each task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.flat_observations import FlatObservations
from metamap_envs.from_gymnasium.actions import check_actions
from metamap_envs.from_gymnasium.changes import LiveChanges
from metamap_envs.from_gymnasium.making import creator_of, make_env, make_with_fields
from metamap_envs.from_gymnasium.reproducible import Reproducibility, try_out
from metamap_envs.from_gymnasium.simulator import GymnasiumSimulator
from metamap_envs.from_gymnasium.targets import Argument, ModelField, Target
from metamap_envs.simulator import Engine
from metamap_envs.state import Array, State
from metamap_envs.task import Task
from metamap_envs.user_env import CheckedEnv

__all__ = ["GymnasiumFamily"]


class GymnasiumFamily(Family):
    """A declared family; `from_gymnasium` makes one subclass of this for each declaration.

    Observations are the environment's, flat and in float64; a Dict of Boxes in the order of its keys. Actions are in
    [-1, 1]: a Box of another range, the task's own, is scaled to it; a Discrete space of 2 is one number, whose sign
    chooses (above 0: the second), one of n > 2 is n numbers, the largest of which chooses (the first of equal ones). A
    MultiDiscrete or MultiBinary space is such numbers for each of its choices, one after another.

    Reward: the environment's own.
    """

    entry_point = "metamap_envs.declared_env:GymnasiumFamilyEnv"
    spec: ClassVar[EnvSpec]
    arguments: ClassVar[Mapping[str, Any]]
    targets: ClassVar[Mapping[str, Target]]
    load: ClassVar[int | None]
    """Which of the models that the constructor loads is the environment's; None if there is none or it is unknown."""

    # environments of tasks ----------------------------------------------------------------------------------------

    def make(self, task: Task, **kwargs: Any) -> gym.Env[Any, Any]:
        """A new environment with a task's values in it; at the defaults, the environment as Gymnasium makes it.

        Args:
            task: of this family.
            **kwargs: more arguments of the constructor, e.g. ``render_mode``.

        Raises:
            MetaMapError: a task of another family, or the environment refuses it.
        """
        for name, target in self.targets.items():
            if isinstance(target, Argument) and target.name in kwargs:
                raise MetaMapError(
                    f"family {self.name!r}: the argument {target.name!r} is the parameter {name!r}; give it as one"
                )
        arguments, attributes = {**self.arguments, **kwargs}, dict[str, Any]()
        fields: list[tuple[ModelField, float]] = []
        for name, value in self.check_task(task).parameters:
            target = self.targets[name]
            if isinstance(target, ModelField):
                if value != target.own:  # to the bit the environment's own model where nothing is changed
                    fields.append((target, value))
            elif (result := target.result(value)) != target.own:
                (arguments if isinstance(target, Argument) else attributes)[target.name] = result
        rate = self._frame_rate(fields)
        return make_with_fields(lambda: make_env(self.spec, arguments, attributes, rate), fields, self.load)

    def _frame_rate(self, fields: Sequence[tuple[ModelField, float]]) -> dict[str, Any] | None:
        """The class's metadata at another time step, with which Gymnasium's constructor compares the frame rate."""
        found = next(((target, value) for target, value in fields if target.field == "timestep"), None)
        metadata = getattr(creator_of(self.spec), "metadata", None)
        if found is None or not self.frame_skip or not metadata or "render_fps" not in metadata:
            return None
        target, value = found
        seconds = value * self._own.unwrapped.model.opt.timestep if target.scale else value  # type: ignore[attr-defined]
        return {"metadata": {**metadata, "render_fps": int(np.round(1.0 / (seconds * self.frame_skip)))}}

    @cached_property
    def _own(self) -> gym.Env[Any, Any]:
        """The environment at its own values; never stepped."""
        return make_env(self.spec, self.arguments)

    def label(self, task: Task) -> str:
        """Name of the environment of a task in messages."""
        return f"family {self.name!r}: environment {self.base_id!r}, task {task.describe()}"

    @cached_property
    def live(self) -> LiveChanges:
        """Changes of the task in running environments."""
        return LiveChanges(self)

    @cached_property
    def reproducibility(self) -> Reproducibility:
        """Result of a trial of the environment, with a warning if the same seed does not give the same episode."""
        task = self.task()
        found = try_out(lambda: CheckedEnv(self.make(task), self.label(task)))
        if found.complaint:
            warnings.warn(
                f"family {self.name!r}: {self.base_id} is not reproducible: {found.complaint}; returns on the same "
                "reset seeds differ by chance, and so do base policy and experts from run to run",
                stacklevel=2,
            )
        return found

    def engine(self, tasks: Sequence[Task], num_threads: int = 0) -> Engine:
        """Environments of Gymnasium, one for each task."""
        return GymnasiumSimulator(self, tasks, num_threads)

    @property
    def own_spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """The environment's own observations and actions, at its defaults."""
        return self._own.observation_space, self._own.action_space

    @cached_property
    def own_observations(self) -> FlatObservations:
        """How the environment's own observations become flat."""
        return FlatObservations(self._own.observation_space, f"family {self.name!r}")

    # sizes --------------------------------------------------------------------------------------------------------

    @cached_property
    def observation_size(self) -> int:
        """Length of a flat observation, O."""
        return self.own_observations.size

    @cached_property
    def action_size(self) -> int:
        """Numbers in an action, A."""
        return check_actions(self._own, f"family {self.name!r}")

    @property
    def action_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """-1 and 1, float32 [A] each."""
        ones = np.ones(self.action_size, dtype=np.float32)
        return -ones, ones

    @cached_property
    def step_seconds(self) -> float:
        """Simulated seconds of one step: the environment's ``dt``, else what its frame rate says."""
        base = self._own.unwrapped
        seconds = getattr(base, "dt", None)
        return float(seconds) if seconds else 1.0 / float(base.metadata.get("render_fps") or 30)

    # what `FamilyVectorEnv` asks for --------------------------------------------------------------------------------

    def observe(self, state: State) -> Array:
        """The environments' observations, a copy: the caller may write into it."""
        return state.readouts["observation"].copy()

    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The environments' rewards, without terms."""
        return after.readouts["reward"], {}

    def terminated(self, after: State, values: Array) -> NDArray[np.bool_]:
        """Where the environments say so."""
        return after.readouts["terminated"].astype(np.bool_, copy=False)

    def truncated(self, after: State) -> NDArray[np.bool_]:
        """Where the environments say so, besides the horizon."""
        return after.readouts["truncated"].astype(np.bool_, copy=False)

    # MuJoCo ---------------------------------------------------------------------------------------------------------

    def compile(self) -> mujoco.MjModel:
        """The environment's model, where it has one."""
        return self.model(self.task())

    def model(self, task: Task) -> mujoco.MjModel:
        """The model of a task, where the environment has one."""
        model = getattr(self.make(task).unwrapped, "model", None)
        if not hasattr(model, "opt"):
            raise MetaMapError(f"family {self.name!r} has no MuJoCo model: it is {self.base_id}")
        return model

    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Unavailable: the environment's own reset draws it.

        Raises:
            MetaMapError: always.
        """
        raise MetaMapError(
            f"family {self.name!r} runs {self.base_id} itself, not its physics alone; "
            f"make it with gym.make({self.gym_id!r})"
        )
