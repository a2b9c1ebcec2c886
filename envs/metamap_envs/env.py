"""The single Gymnasium environment of a family."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.options import (
    TASK_OPTIONS,
    check_options,
    read_action,
    read_reset_seed,
    read_set_task,
    read_task,
)
from metamap_envs.registry import get_family
from metamap_envs.simulator import UNSTABLE, check_layout, continued, schedule_of_steps
from metamap_envs.spaces import action_space, observation_space
from metamap_envs.state import Array, State
from metamap_envs.task import Task

if TYPE_CHECKING:
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

__all__ = ["FamilyEnv"]


class FamilyEnv(gym.Env[NDArray[Any], NDArray[Any]]):
    """One environment of a family, with one task until a reset or `set_task` gives it another.

    ``model`` and ``data`` are MuJoCo's, as in Gymnasium's own environments. ``info["task"]`` always holds the task's
    id, and the terms of the reward are in ``info`` by name. The horizon is not here: `gymnasium.make` adds it.
    An episode in which MuJoCo finds the physics unstable is terminated, with ``info["diverged"]`` set, the last
    observation again and reward 0.

    Args:
        family: name of the family.
        parameters: some or all of its parameters; the others are at their defaults.
        task: a whole task instead of parameters.
        render_mode: one of Gymnasium's MuJoCo render modes.
        width: of the picture, pixels.
        height: of the picture, pixels.

    Raises:
        MetaMapError: unknown family, parameter or render mode, or a value that is not admitted.
    """

    metadata = {  # noqa: RUF012  # Gymnasium declares it as an instance attribute
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
    }

    _original: mujoco.MjModel | None
    """The family's model of the task, of which ``model`` is a copy; None in a copy of the environment."""
    _before: State
    """State before the next step; there is none until the first reset."""

    def __init__(
        self,
        family: str,
        parameters: Mapping[str, object] | None = None,
        task: Task | None = None,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        self.family = get_family(family)
        self.metadata = {**self.metadata, "render_fps": round(1.0 / self.family.step_seconds)}
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown_name("render mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._size = (width, height)
        self._renderer: MujocoRenderer | None = None
        self.observation_space = observation_space(self.family)
        self.action_space = action_space(self.family)
        self._set_task(read_task(self.family, {"task": task, "parameters": parameters}) or self.family.task())

    def _set_task(self, task: Task) -> None:
        """Give the environment a task's physics: a fresh model and data, no trace of the last task."""
        self.close()
        self.task = task
        self._original = self.family.model(task)
        self.model = copy.copy(self._original)  # users may edit theirs; the family's is shared
        self.data = mujoco.MjData(self.model)
        self._values = task.values[None]

    def set_task(self, task: Task | Mapping[str, Any]) -> None:
        """Change the task in mid-episode: other physics and another reward from the next step on, in the same state.

        Time, positions, velocities, activations, controls, warm start and generator are kept, so that the next step is
        that of a loop over MuJoCo which swaps the model, to the bit. A state that holds the task itself (the target of
        `reacher-goal`) follows it. Where physics differ, ``model`` and ``data`` are new objects, without edits of the
        old ones. The steps of a time limit go on. A reset keeps the task.

        Args:
            task: of the same family, or its JSON form.

        Raises:
            MetaMapError: not a task, one of another family, or one whose model has other sizes; nothing is changed
                then.
        """
        read = read_set_task(self.family, task)
        if read == self.task:
            return
        original = self.family.model(read)
        check_layout(self.model, original, read)
        if original is not self._original:
            model = copy.copy(original)
            data = continued(self.model, self.data, model, self.family.readouts.values())
            self._original, self.model, self.data = original, model, data
            if self._renderer is not None:
                _show(self._renderer, model, data)
        self.task, self._values = read, read.values[None]
        self.family.carry(read, self.data.qpos, self.data.qvel)
        if hasattr(self, "_before"):
            now = self._state()  # lagging readouts are those of the last step, as in such a loop
            self._before = now if self.family.current_readouts else replace(now, readouts=self._before.readouts)

    def _state(self) -> State:
        readouts = {}
        for key, readout in self.family.readouts.items():
            readouts[key] = np.array(getattr(self.data, readout.field)[readout.row(self.model)])[None]
        return State(np.array(self.data.qpos)[None], np.array(self.data.qvel)[None], readouts)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start a new episode.

        Args:
            seed: restarts the environment's generator; an integer of at least 0, of any library.
            options: ``parameters`` or ``task`` change the task from here on.

        Raises:
            MetaMapError: unknown option, an invalid seed, or a task that the family does not admit.
        """
        check_options(options or {}, TASK_OPTIONS)
        task = read_task(self.family, options or {})
        super().reset(seed=read_reset_seed(seed))
        if task is not None:
            self._set_task(task)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = self.family.initial_state(self.task, self.np_random)
        if self.model.na:
            self.data.act[:] = self.family.initial_activations(self.task, self.np_random)
        mujoco.mj_forward(self.model, self.data)
        self._before = self._state()
        if self.render_mode == "human":
            self.render()
        return self.family.observed(self._before, self._values)[0], {"task": self.task.id}

    def step(self, action: NDArray[Any]) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Advance by one environment step.

        Args:
            action: [A]. As in Gymnasium's MuJoCo environments it is not clipped here: the actuators are.

        Raises:
            MetaMapError: `reset` was never called, the shape is another, or a value is not finite.
        """
        if not hasattr(self, "_before"):
            raise MetaMapError("call reset() before step()")
        actions = read_action(self.family, action)[None]
        self._simulate(actions)
        after = self._state()
        rewards, terms = self.family.reward(self._before, after, actions, self._values)
        reward, terminated = float(rewards[0]), bool(self.family.terminated(after, self._values)[0])
        info: dict[str, Any] = {"task": self.task.id, **{name: float(term[0]) for name, term in terms.items()}}
        if any(self.data.warning[kind].number for kind in UNSTABLE):
            # MuJoCo has started anew within the step: no transition goes across that.
            after, reward, terminated = self._before, 0.0, True
            info |= dict.fromkeys(terms, 0.0) | {"diverged": True}
        self._before = after
        if self.render_mode == "human":
            self.render()
        return self.family.observed(after, self._values)[0], reward, terminated, False, info

    def _simulate(self, actions: NDArray[Any]) -> None:
        """Advance the physics by one environment step; actions are [1, A]."""
        repeats, steps = schedule_of_steps(self.family)
        for _ in range(repeats):
            self.data.ctrl[:] = self.family.controls(actions, self.data.act[None], self._values)[0]
            mujoco.mj_step(self.model, self.data, nstep=steps)
        if self.family.current_readouts:
            mujoco.mj_step1(self.model, self.data)

    def render(self) -> Any:
        """A picture in the render mode's form, or None for "human". Nothing of a renderer is imported before this.

        ``MUJOCO_GL`` chooses the back end. Where it is not set, GLFW draws if there is a display, else EGL or OSMesa.

        Raises:
            MetaMapError: the environment has no render mode, or OpenGL does not draw here.
        """
        if self.render_mode is None:
            raise MetaMapError("this environment was made without a render_mode; pass render_mode='rgb_array'")
        if self._renderer is not None:
            return self._renderer.render(self.render_mode)
        from metamap_envs.opengl import drawing

        with drawing(window=self.render_mode == "human"):
            from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

            width, height = self._size
            renderer = MujocoRenderer(self.model, self.data, dict(self.family.camera), width, height)
            picture = renderer.render(self.render_mode)
        self._renderer = renderer
        return picture

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the renderer, which a copy opens for itself: it goes on from here to the bit."""
        return {**vars(self), "_renderer": None, "_original": None}

    def __copy__(self) -> FamilyEnv:
        """Independent, as `copy.deepcopy` makes it."""
        return copy.deepcopy(self)

    def close(self) -> None:
        """Close the renderer, if one was opened."""
        if self._renderer is not None:
            self._renderer.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it without types
        self._renderer = None


def _show(renderer: MujocoRenderer, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Let open viewers go on with another model of the same layout: cameras and windows stay."""
    for viewer in (renderer, *renderer._viewers.values()):
        viewer.model, viewer.data = model, data
