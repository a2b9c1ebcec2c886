"""The single environment of a declared family: Gymnasium's own, made for a task."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.from_gymnasium.family import GymnasiumFamily
from metamap_envs.from_gymnasium.making import creator_of
from metamap_envs.from_gymnasium.simulator import GymnasiumSimulator
from metamap_envs.options import (
    TASK_OPTIONS,
    check_options,
    read_action,
    read_reset_seed,
    read_set_task,
    read_task,
)
from metamap_envs.registry import get_family
from metamap_envs.spaces import action_space, observation_space
from metamap_envs.state import Array
from metamap_envs.task import Task

__all__ = ["GymnasiumFamilyEnv", "make_with_limit"]


class GymnasiumFamilyEnv(gym.Env[NDArray[Any], NDArray[Any]]):
    """One environment of a declared family, with one task until a reset or `set_task` gives it another.

    ``info`` is that of Gymnasium's own environment, and ``info["task"]`` the task's id. The horizon is not here:
    `gymnasium.make` adds it. An episode whose physics are unstable is terminated, with ``info["diverged"]`` set.

    Args:
        family: name of the family.
        parameters: some or all of its parameters; the others are at their defaults.
        task: a whole task instead of parameters.
        render_mode: one of the environment's own.
        **kwargs: for the environment's constructor, e.g. width and height.

    Raises:
        MetaMapError: unknown family, parameter or render mode, a value that is not admitted, or a family that is not
            declared.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium's own way)
        "render_modes": ["human", "rgb_array", "rgb_array_list", "depth_array", "rgbd_tuple", "ansi"]
    }
    """Of all Gymnasium's environments; an instance has its own environment's."""

    def __init__(
        self,
        family: str,
        parameters: Mapping[str, object] | None = None,
        task: Task | None = None,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        found = get_family(family)
        if not isinstance(found, GymnasiumFamily):
            raise MetaMapError(
                f"family {found.name!r} is not declared in YAML; make it with gym.make({found.gym_id!r})"
            )
        self.family = found
        self.render_mode = render_mode
        self.observation_space = observation_space(found)
        self.action_space = action_space(found)
        modes = getattr(creator_of(found.spec), "metadata", self.metadata).get("render_modes", [])
        if render_mode is not None and render_mode not in modes:
            raise unknown_name("render mode", render_mode, modes, of=found.base_id)
        task = read_task(found, {"task": task, "parameters": parameters}) or found.task()
        made = kwargs if render_mode is None else {"render_mode": render_mode, **kwargs}
        self._simulator = GymnasiumSimulator(found, [task], **made)
        self.metadata = self.env.metadata
        self._started = False

    @property
    def env(self) -> gym.Env[Any, Any]:
        """Gymnasium's own environment of the task."""
        return self._simulator.envs[0]

    @property
    def task(self) -> Task:
        """The task."""
        return self._simulator.tasks[0]

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
        seed = read_reset_seed(seed)
        super().reset(seed=seed)
        if task is not None:
            self._simulator.set_tasks([task])
        self._simulator.start(0, self.np_random, seed)
        self._started = True
        return self._simulator.state().readouts["observation"][0], {**self._simulator.infos[0], "task": self.task.id}

    def set_task(self, task: Task | Mapping[str, Any]) -> None:
        """Change the task in mid-episode: its values are written into the running environment, whose state stays.

        Fields of the MuJoCo model and attributes can change so; arguments of the constructor, and what the constructor
        derives other things from, cannot. See `metamap_envs.from_gymnasium.changes`. A reset keeps the task.

        Args:
            task: of the same family, or its JSON form.

        Raises:
            MetaMapError: not a task, one of another family, or a parameter that cannot change in mid-episode; nothing
                is changed then.
        """
        self._simulator.change_tasks([0], [read_set_task(self.family, task)])

    def step(self, action: NDArray[Any]) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Advance by one step.

        Args:
            action: [A], in the family's range; not clipped here.

        Raises:
            MetaMapError: `reset` was never called, the shape is another, or a value is not finite.
        """
        if not self._started:
            raise MetaMapError("call reset() before step()")
        self._simulator.step(read_action(self.family, action)[None])
        found = {key: values[0] for key, values in self._simulator.state().readouts.items()}
        terminated, info = bool(found["terminated"]), {**self._simulator.infos[0], "task": self.task.id}
        if self._simulator.diverged() is not None:
            terminated = info["diverged"] = True
        return found["observation"], float(found["reward"]), terminated, bool(found["truncated"]), info

    def __copy__(self) -> GymnasiumFamilyEnv:
        """Independent, as `copy.deepcopy` and pickling make it.

        It goes on from here to the bit; where the user's environment cannot be copied in mid-episode, `step` says so
        and `reset` is needed first.
        """
        return copy.deepcopy(self)

    def render(self) -> Any:
        """The environment's own picture.

        Raises:
            MetaMapError: the environment has no render mode, or it draws by MuJoCo and OpenGL does not draw here.
        """
        if self.render_mode is None:
            raise MetaMapError("this environment was made without a render_mode; pass render_mode='rgb_array'")
        if not hasattr(self.env.unwrapped, "mujoco_renderer"):
            return self.env.render()
        from metamap_envs.opengl import drawing

        with drawing(window=self.render_mode == "human"):
            return self.env.render()

    def close(self) -> None:
        """Close the environment of the task."""
        self._simulator.close()


def make_with_limit(family: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """The environment with the time limit of its family, for ids that were registered before the family was made."""
    return TimeLimit(GymnasiumFamilyEnv(family, **kwargs), get_family(family).horizon)
