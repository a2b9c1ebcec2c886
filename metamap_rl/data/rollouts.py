"""Rollouts of many tasks as arrays, the D of mappers; `metamap_envs.rollout.Rollout` is the view of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.rollout import Rollout
from metamap_envs.task import Task
from metamap_rl.data.examples import check_shapes
from metamap_rl.data.layout import TransitionLayout

__all__ = ["ROLLOUTS_SHAPES", "Rollouts", "check_types"]

ROLLOUTS_SHAPES = {
    "observations": "TRnO",
    "actions": "TRnA",
    "rewards": "TRn",
    "next_observations": "TRnO",
    "terminated": "TRn",
    "truncated": "TRn",
}
"""Letters of equal name have equal size: T tasks, R rollouts, n transitions, O observations, A actions."""


@dataclass(frozen=True, eq=False)
class Rollouts:
    """R independent rollouts of n transitions on each of T tasks of one family; episodes follow one another in them.

    A rollout may span a change of the task in mid-episode; ``tasks`` then has the last one.

    Raises:
        MetaMapError: an array has the wrong dtype or number of axes, disagrees with another one, is empty or holds a
            value that is not finite; or tasks of more than one family.
    """

    tasks: tuple[Task, ...]
    observations: NDArray[np.float32]
    """[T, R, n, O], in raw units."""
    actions: NDArray[np.float32]
    """[T, R, n, A], as the probe applied them, in [-1, 1]."""
    rewards: NDArray[np.float32]
    """[T, R, n]."""
    next_observations: NDArray[np.float32]
    """[T, R, n, O], never the first observation after a reset."""
    terminated: NDArray[np.bool_]
    """[T, R, n]."""
    truncated: NDArray[np.bool_]
    """[T, R, n]."""
    changed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """[T, R, n], whether the task changed just before each transition. Default: nowhere."""

    def __post_init__(self) -> None:
        if self.changed.size == 0:
            object.__setattr__(self, "changed", np.zeros(self.rewards.shape, dtype=np.bool_))
        arrays = {**self.arrays(), "changed": self.changed}
        check_types("rollouts", arrays)
        shapes = {name: array.shape for name, array in arrays.items()}
        check_shapes("rollouts", shapes, {**ROLLOUTS_SHAPES, "changed": "TRn"}, sizes={"T": len(self.tasks)})
        families = sorted({task.family for task in self.tasks})
        if len(families) > 1:
            raise MetaMapError(f"rollouts: tasks of one family expected, got {', '.join(families)}")

    def __len__(self) -> int:
        """Number of tasks T."""
        return len(self.tasks)

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.tasks[0].family

    @property
    def ends(self) -> NDArray[np.bool_]:
        """Whether an episode ended with the transition [T, R, n]."""
        return self.terminated | self.truncated

    @property
    def newest(self) -> NDArray[np.int64]:
        """Index of the first transition of a rollout's task [T, R]: the last change of the task, 0 without one."""
        last = self.changed.shape[-1] - 1 - self.changed[..., ::-1].argmax(axis=-1)
        return np.where(self.changed.any(axis=-1), last, 0).astype(np.int64)

    def features(self) -> NDArray[np.float32]:
        """Feature rows of all transitions [T, R, n, F]; see `metamap_rl.data.layout.TransitionLayout`."""
        layout = TransitionLayout(self.observations.shape[-1], self.actions.shape[-1])
        return layout.pack(self.observations, self.actions, self.rewards, self.next_observations)

    def rollout(self, task: int, repeat: int = 0) -> Rollout:
        """One of the rollouts."""
        arrays = {name: array[task, repeat] for name, array in self.arrays().items()}
        return Rollout(self.family, **arrays, task=self.tasks[task])

    def select(self, indices: Sequence[int]) -> Rollouts:
        """The tasks at ``indices``, in that order, with all their arrays (copied)."""
        chosen = {name: array[list(indices)] for name, array in self.arrays().items()}
        return Rollouts(tuple(self.tasks[index] for index in indices), **chosen)

    def repeat(self, index: int) -> Rollouts:
        """One rollout of each task, [T, 1, n]."""
        chosen = {name: array[:, index : index + 1] for name, array in self.arrays().items()}
        return Rollouts(self.tasks, **chosen)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The six arrays by name, and ``changed`` as the seventh where a task changed at all."""
        names = [*ROLLOUTS_SHAPES, *(["changed"] if self.changed.any() else [])]
        return {name: getattr(self, name) for name in names}


def check_types(what: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Refuse flags that are not bool, numbers that are not float32, and values that are not finite."""
    for name, array in arrays.items():
        wanted = np.bool_ if name in ("terminated", "truncated", "changed") else np.float32
        if array.dtype != wanted:
            raise MetaMapError(f"{what}: {name}: expected {np.dtype(wanted)}, got {array.dtype}")
        if not np.isfinite(array).all():
            raise MetaMapError(f"{what}: {name}: holds values that are not finite")
