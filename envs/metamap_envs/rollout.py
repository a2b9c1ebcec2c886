"""Rollouts: the transitions D of one task."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import get_family
from metamap_envs.task import Task

__all__ = ["Rollout"]

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Rollout:
    """n transitions of one task, in the order they were made; episodes may follow one another in it.

    No transition crosses a reset: `next_observations[i]` is what the simulator gave for step i, also where the
    episode ended there, and `observations[i + 1]` is then the first observation of the next episode.

    Attributes:
        task: where the transitions come from. A mapper never reads it, only the checks and the records do.
        observations: float32 [n, O].
        actions: float32 [n, A], as sent to the environment.
        rewards: float32 [n].
        next_observations: float32 [n, O].
        terminated: bool [n].
        truncated: bool [n].
    """

    task: Task
    observations: Floats
    actions: Floats
    rewards: Floats
    next_observations: Floats
    terminated: Flags
    truncated: Flags

    def __post_init__(self) -> None:
        """Check shapes and types against the family and refuse NaN; numbers of other types become float32.

        Raises:
            MetaMapError: an array has another shape than the task's family gives it, holds NaN or a number beyond
                float32, or a flag is not bool.
        """
        family = get_family(self.task.family)
        for name, array in self.arrays().items():
            object.__setattr__(self, name, _convert(array, name, f"rollout of {family.name!r}"))
        count = self.rewards.size
        expected = {
            "observations": (count, family.observation_size),
            "actions": (count, family.action_size),
            "rewards": (count,),
            "next_observations": (count, family.observation_size),
            "terminated": (count,),
            "truncated": (count,),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise MetaMapError(f"rollout of {family.name!r}: {name} expected shape {shape}, got {array.shape}")
            if not np.isfinite(array).all():
                raise MetaMapError(f"rollout of {family.name!r}: {name} holds NaN or infinity")

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.rewards)

    def head(self, count: int) -> Rollout:
        """The first ``count`` transitions.

        Raises:
            MetaMapError: ``count`` is negative or more than there are.
        """
        if not 0 <= count <= len(self):
            raise MetaMapError(f"a rollout of {len(self)} transitions has no first {count}")
        return Rollout(self.task, **{name: array[:count] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The six arrays by name, for storage."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "task"}


def _convert(array: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    """Flags as they are, everything else as float32."""
    array = np.asarray(array)
    if name in ("terminated", "truncated"):
        if array.dtype != np.bool_:
            raise MetaMapError(f"{where}: {name} expected bool, got {array.dtype}")
        return array
    if array.dtype.kind not in "fiu":
        raise MetaMapError(f"{where}: {name} expected numbers, got {array.dtype}")
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused as such
        return array.astype(np.float32, copy=False)
