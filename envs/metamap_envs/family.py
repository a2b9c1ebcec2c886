"""Families of environments: a base environment and the parameters that vary in it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any, ClassVar, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.parameters import ParameterSpace, Split, parse_split
from metamap_envs.seeds import read_seed
from metamap_envs.simulator import Engine, Simulator
from metamap_envs.state import Array, Readout, State
from metamap_envs.task import CUSTOM_SPLIT, Task

__all__ = ["Controller", "Family", "gym_id_of", "instance_of"]

_MOST_TASKS = 1_000_000  # that may be drawn at once: more do not fit into memory


class Controller(Protocol):
    """A control law of N tasks, without memory."""

    @property
    def sensitivity(self) -> Array:
        """What errors of the actions lead to, float64 [N, E, A]: E numbers of which 1 is about as bad as any other."""

    def __call__(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Actions [N, A] in [-1, 1] for raw observations [N, O]."""


class Family(ABC):
    """A base environment with a declared, bounded parameter space.

    A subclass is one module of `metamap_envs.families`, read top to bottom: parameters, physics, start, observation,
    reward, end of episode. All methods work on N environments at once, and both the single environment and the
    vector environment call them, so the two cannot disagree.

    Attributes:
        name: name in the registry, e.g. "cheetah-velocity".
        version: number at the end of the Gymnasium id; a change of behaviour is a new version.
        base_id: the Gymnasium environment whose physics it is, or dm_control's, as "dm_control/cheetah-run"; its own id
            where the physics are its own.
        embodiment: the robot, e.g. "half-cheetah". Families of one embodiment have the same observation and action
            sizes and the same action range, so that one policy fits all of them.
        space: the parameters.
        horizon: steps after which an episode is truncated.
        frame_skip: MuJoCo steps per environment step.
        readouts: derived quantities to hand to observation and reward, by key.
        current_readouts: whether those that depend on positions and velocities are of the state after the step, by a
            `mj_step1` after it as in dm_control.
        unobserved_positions: how many leading positions an observation leaves out, which otherwise consists of all
            positions and velocities; None for any other observation. See `states_of`.
        inner_loop: whether `controls` depends on the state, and is therefore called before every MuJoCo step instead of
            once per environment step.
        action_factors: of each action the names of the parameters whose product multiplies it in the physics, such as
            the sign and strength of its motor; empty where no action has any.
        requires: module that has its model, which only an extra of this distribution installs, and that extra; None if
            it is always there.
        camera: viewer settings, as Gymnasium's `default_camera_config`.
        description: one human-readable sentence.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 0
    base_id: ClassVar[str]
    embodiment: ClassVar[str]
    space: ClassVar[ParameterSpace]
    horizon: ClassVar[int]
    frame_skip: ClassVar[int]
    readouts: ClassVar[Mapping[str, Readout]] = {}
    current_readouts: ClassVar[bool] = False
    unobserved_positions: ClassVar[int | None] = None
    inner_loop: ClassVar[bool] = False
    action_factors: ClassVar[tuple[tuple[str, ...], ...]] = ()
    requires: ClassVar[tuple[str, str] | None] = None
    camera: ClassVar[Mapping[str, Any]] = {}
    description: ClassVar[str]
    entry_point: ClassVar[str] = "metamap_envs.env:FamilyEnv"
    """Of its single environment, for Gymnasium's registry."""
    declared: ClassVar[Mapping[str, Any] | None] = None
    """Its declaration as canonical JSON values; None for a family of this package, which name and version identify."""

    # physics ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def compile(self) -> mujoco.MjModel:
        """Compile the base model, all parameters at their defaults."""

    def apply(self, model: mujoco.MjModel, task: Task) -> bool:
        """Write a task's physics into a fresh copy of the base model.

        Returns:
            Whether constants derived from the model (`mj_setConst`) have to be computed again, as after a change of
            a mass. Families whose parameters leave the physics alone need not override this.
        """
        return False

    physics_parameters: ClassVar[frozenset[str]] = frozenset()
    """Names of the parameters that change the model, or what controls actions stand for; a task that leaves them at
    default shares the base model."""

    structural_parameters: ClassVar[frozenset[str]] = frozenset()
    """Those of them, such as lengths, that are compiled in by `compile_task`; `apply` writes all others."""

    def compile_task(self, task: Task) -> mujoco.MjModel:
        """Compile a model with the task's structure, and with all that `apply` writes at its default.

        It must have the sizes (joints, bodies, geoms) of the base model. Only families with structural parameters
        override this.
        """
        return self.compile()

    def states_of(self, observations: Array, values: Array) -> tuple[Array, Array] | None:
        """Positions and velocities (qpos [N, nq], qvel [N, nv]) that observations [N, O] were made of.

        What no observation or reward depends on, such as the place along the track, is that of the start. Rows whose
        state the observation does not hold, such as those with clipped velocities, are NaN. ``values`` [N, P] are the
        tasks' parameters. Default: as `unobserved_positions` declares; None if it does not: the observation does not
        hold the state, or nobody said how.
        """
        if self.unobserved_positions is None:
            return None
        qpos, _ = self._initial
        hidden = np.tile(qpos[: self.unobserved_positions], (len(observations), 1))
        split = len(qpos) - self.unobserved_positions
        return np.concatenate([hidden, observations[:, :split]], axis=1), observations[:, split:].copy()

    sensor_parameters: ClassVar[frozenset[str]] = frozenset()
    """Names of the parameters that `wiring` depends on. A family that has some observes its sensors in units of their
    ranges: its policies take observations as they are, as statistics of a channel would be those of no sensor."""

    # behaviour --------------------------------------------------------------------------------------------------

    @abstractmethod
    def initial_state(self, task: Task, generator: np.random.Generator) -> tuple[Array, Array]:
        """Draw (qpos [nq], qvel [nv]) of a new episode."""

    def initial_activations(self, task: Task, generator: np.random.Generator) -> Array:
        """Draw the actuators' activations [na] of a new episode, after `initial_state`. Default: all 0.

        Only called where the model has activations.
        """
        return np.zeros(self.base_model.na)

    def controls(self, actions: NDArray[Any], activations: Array, values: Array) -> NDArray[Any]:
        """Controls [N, nu] of the actuators that actions stand for. Default: the actions themselves.

        A family whose actions are not controls, such as set-points of motors that need time, overrides this, and
        `action_size` and `action_range` with it. What lies between action and control and has a memory is kept in
        activations of actuators, which are part of MuJoCo's state and hence of copies and snapshots: one with
        integrator dynamics becomes ``wanted`` where its control is ``(wanted - activation) / timestep``.

        Args:
            actions: as the caller gave them, [N, A].
            activations: of the actuators, float64 [N, na]; not to be written into.
            values: the tasks' parameter values, [N, P].
        """
        return actions

    def carry(self, task: Task, qpos: Array, qvel: Array) -> None:  # noqa: B027  # most need nothing
        """Write the part of a state that is the task itself, after a change in mid-episode. Default: nothing.

        Most states hold nothing of their task; that of `reacher-goal` holds its target.

        Args:
            task: the new one.
            qpos: [nq], to be written into.
            qvel: [nv], to be written into.
        """

    @abstractmethod
    def observe(self, state: State) -> Array:
        """Observations, float64 [N, O], before `wiring`. Hidden parameters never show in them."""

    def wiring(self, values: Array) -> NDArray[np.intp] | None:
        """Which entry of `observe` each channel of an observation shows, a permutation for each task, [N, O].

        Default: None, each channel shows its own; families with `sensor_parameters` override it.

        Args:
            values: the tasks' parameter values, [N, P].
        """
        return None

    @abstractmethod
    def reward(
        self, before: State, after: State, actions: NDArray[Any], values: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Rewards [N] of a step and their terms by name, each [N].

        Args:
            before: states before the step.
            after: states after it.
            actions: as the caller gave them, [N, A].
            values: the tasks' parameter values, [N, P].
        """

    def terminated(self, after: State, values: Array) -> NDArray[np.bool_]:
        """Whether each episode ended in ``after``, bool [N]. Default: never, as in HalfCheetah and Reacher."""
        return np.zeros(len(after.qpos), dtype=np.bool_)

    def truncated(self, after: State) -> NDArray[np.bool_] | None:
        """Whether each episode was cut short besides the horizon, bool [N], or None: none ever is. Default: None."""
        return None

    def controller(self, tasks: Sequence[Task]) -> Controller | None:
        """Return a control law for N tasks, made from their true parameters or without them. Default: None.

        Policies can be cloned from it, where PPO does not find a start (`metamap_agents.experts.cloning`).
        """
        return None

    # what follows from the above ---------------------------------------------------------------------------------

    @cached_property
    def step_seconds(self) -> float:
        """Simulated seconds of one environment step."""
        return float(self.base_model.opt.timestep * self.frame_skip)

    @cached_property
    def base_model(self) -> mujoco.MjModel:
        """The compiled base model. Never written to: tasks get copies."""
        return self.compile()

    @cached_property
    def _initial(self) -> tuple[Array, Array]:
        """(qpos, qvel) of the base model before noise."""
        data = mujoco.MjData(self.base_model)
        return np.array(data.qpos), np.array(data.qvel)

    @cached_property
    def action_size(self) -> int:
        """Length of an action, A. Default: the number of actuators."""
        return int(self.base_model.nu)

    def observed(self, state: State, values: Array) -> Array:
        """Observations [N, O] as a policy sees them: those of `observe`, in the order of `wiring`."""
        seen = self.observe(state)
        order = self.wiring(values)
        return seen if order is None else np.take_along_axis(seen, order, axis=1)

    @cached_property
    def observation_size(self) -> int:
        """Length of an observation, O."""
        qpos, qvel = self._initial
        shapes = {key: self._readout_shape(readout) for key, readout in self.readouts.items()}
        state = State(qpos[None], qvel[None], {key: np.zeros((1, *shape)) for key, shape in shapes.items()})
        return int(self.observe(state).shape[1])

    def _readout_shape(self, readout: Readout) -> tuple[int, ...]:
        return np.shape(getattr(mujoco.MjData(self.base_model), readout.field)[readout.row(self.base_model)])

    @property
    def action_range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lowest and highest action, float32 [A] each. Default: the actuators' control range."""
        bounds = self.base_model.actuator_ctrlrange.astype(np.float32)
        return bounds[:, 0].copy(), bounds[:, 1].copy()

    @property
    def gym_id(self) -> str:
        """Gymnasium id, e.g. "MetaMap/CheetahVelocity-v0"."""
        return gym_id_of(self.name, self.version)

    def model(self, task: Task) -> mujoco.MjModel:
        """The model of a task: the base model itself where physics are unchanged, else one of its own, written once.

        It is a copy of the base model, or compiled anew where a structural parameter is changed. Always starts from
        the stored defaults, never from the last task, so A then B equals B alone.
        """
        defaults = {parameter.name: parameter.default for parameter in self.space.parameters}
        changed = {name for name, value in task.parameters if value != defaults[name]}
        if not changed & self.physics_parameters:
            return self.base_model
        structural = bool(changed & self.structural_parameters)
        model = self.compile_task(task) if structural else copy.copy(self.base_model)
        if self.apply(model, task):
            mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def engine(self, tasks: Sequence[Task], num_threads: int = 0) -> Engine:
        """What steps N environments of this family, one for each task. Default: MuJoCo alone, in threads."""
        return Simulator(self, tasks, num_threads)

    def task(self, parameters: Mapping[str, object] | None = None, split: str = CUSTOM_SPLIT) -> Task:
        """Make a task from some or all parameters; the others are at their defaults.

        Raises:
            MetaMapError: unknown parameter or split, or a value that is not admitted.
        """
        if split != CUSTOM_SPLIT:
            parse_split(split)
        return Task(self.name, self.space.check(parameters or {}, f"family {self.name!r}"), split)

    def closest_task(self, values: Mapping[str, float], split: str = CUSTOM_SPLIT) -> Task:
        """The task that is closest to estimates of the parameters, each for itself; without one, the usual value.

        Raises:
            MetaMapError: a name that is not a parameter, or a value that is not finite.
        """
        known = {one.name: one for one in self.space.parameters}
        given = {one.name: one.usual for one in self.space.parameters} | dict(values)
        return self.task(
            {name: known[name].closest(value) if name in known else value for name, value in given.items()}, split
        )

    def sample(self, split: str, count: int, seed: int | np.random.Generator) -> list[Task]:
        """Draw tasks of a split.

        Discrete parameters are dealt out so that splits share no combination. Numbers are rounded to six decimals: of
        one parameter alone, two splits rarely draw the same value; a zoo keeps such a task in the first split
        (`metamap_agents.experts.filling.TaskCounts`).

        Args:
            split: "train", "validation", "test-in" or "test-out".
            count: number of tasks.
            seed: an integer, from which each split gets its own stream, or the generator itself.

        Raises:
            MetaMapError: unknown split, ``count`` below 1 or above 1,000,000, a seed that is not an integer in
                [0, 2^32), or no test-out range declared.
        """
        which = parse_split(split)
        if count > _MOST_TASKS:
            raise MetaMapError(f"expected at most {_MOST_TASKS:,} tasks at once, got {count:,}")
        if not isinstance(seed, np.random.Generator):
            seed = np.random.default_rng([read_seed(seed), list(Split).index(which)])
        rows = self.space.sample(which, count, seed)
        names = self.space.names
        return [self.task(dict(zip(names, row.tolist(), strict=True)), split=which) for row in rows]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the class: there is one instance of a family in a process."""
        return instance_of, (type(self),)

    def check_task(self, task: Task) -> Task:
        """Return ``task`` if it belongs to this family.

        Raises:
            MetaMapError: it is of another family.
        """
        if task.family != self.name:
            raise MetaMapError(f"expected a task of family {self.name!r}, got one of {task.family!r}")
        return task


def gym_id_of(name: str, version: int) -> str:
    """Gymnasium id of a family: "cheetah-velocity" of version 0 is "MetaMap/CheetahVelocity-v0"."""
    return f"MetaMap/{''.join(part.capitalize() for part in name.split('-'))}-v{version}"


@cache
def instance_of(cls: type[Family]) -> Family:
    """The one instance of a family's class."""
    return cls()
