"""Rollouts: the transitions D of one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError
from metamap_envs.family import Family
from metamap_envs.registry import get_family
from metamap_envs.task import Task

__all__ = ["Rollout"]

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Rollout:
    """n transitions of one task, in order; they may span several episodes, and changes of the task.

    No transition crosses a reset: `next_observations[i]` is what the simulator gave for step i, also where the
    episode ended there, and `observations[i + 1]` is then the first observation of the next episode.

    A reset is not a change of the task, and a change is not a reset: `terminated` and `truncated` tell where episodes
    end, `changed` tells where the task is another one than before, in mid-episode or at a reset.

    Attributes:
        family: name of the family whose observations and actions these are.
        observations: float32 [n, O].
        actions: float32 [n, A], as sent to the environment.
        rewards: float32 [n].
        next_observations: float32 [n, O].
        terminated: bool [n].
        truncated: bool [n].
        task: where the transitions come from; None if unknown, as for a user's own environment. A mapper never
            reads it, only the checks and the records do. Where the task changed, it is the last one.
        changed: bool [n], whether the task changed just before each transition. Default: nowhere.
    """

    family: str
    observations: Floats
    actions: Floats
    rewards: Floats
    next_observations: Floats
    terminated: Flags
    truncated: Flags
    task: Task | None = None
    changed: Flags = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        """Check shapes and types against the family and refuse NaN; numbers of other types become float32.

        Raises:
            MetaMapError: an unknown family, a task of another one, an array of another shape than the family gives
                it, NaN or a number beyond float32, or a flag that is not bool.
        """
        family = get_family(self.family)
        if np.size(self.changed) == 0:
            object.__setattr__(self, "changed", np.zeros(np.size(self.rewards), dtype=np.bool_))
        if self.task is not None and self.task.family != self.family:
            raise MetaMapError(f"rollout of {self.family!r}: its task is of family {self.task.family!r}")
        widths = {**_widths(family), "changed": ()}
        for name in widths:
            array = _convert(getattr(self, name), name, f"rollout of {family.name!r}")
            object.__setattr__(self, name, array)
        for name, width in widths.items():
            array, shape = getattr(self, name), (self.rewards.size, *width)
            if array.shape != shape:
                hint = _hint(name, array.shape, shape)
                raise MetaMapError(
                    f"rollout of {family.name!r}: {name} expected shape {shape}, got {array.shape}{hint}"
                )
            if not np.isfinite(array).all():
                raise MetaMapError(f"rollout of {family.name!r}: {name} holds NaN or infinity")

    @classmethod
    def from_rows(
        cls,
        family: str,
        rows: Sequence[Sequence[Any]],
        task: Task | None = None,
        *,
        changed: Sequence[bool] | None = None,
    ) -> Rollout:
        """Make a rollout from transitions as a loop over an environment collects them.

        Args:
            family: name of the family.
            rows: (observation [O], action [A], reward, next observation [O], terminated, truncated) of each step;
                none at all give an empty rollout.
            task: the task, if it is known; the last one where it changed.
            changed: whether the task changed just before each step; None: nowhere.

        Raises:
            MetaMapError: as the constructor, or a row that has not these six parts, or ragged ones.
        """
        widths = _widths(get_family(family))
        for index, row in enumerate(rows):
            if len(row) != len(widths):
                raise MetaMapError(
                    f"rollout of {family!r}: row {index} expected {len(widths)} parts "
                    f"({', '.join(widths)}), got {len(row)}"
                )
        columns = zip(*rows, strict=True) if rows else [()] * len(widths)
        arrays = {
            name: _column(column, name, width, family)
            for (name, width), column in zip(widths.items(), columns, strict=True)
        }
        flags = np.zeros(len(rows), dtype=np.bool_) if changed is None else np.asarray(changed, dtype=np.bool_)
        return cls(family, **arrays, task=task, changed=flags)

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
        return Rollout(self.family, **{name: array[:count] for name, array in self.arrays().items()}, task=self.task)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The six arrays by name, for storage, and ``changed`` as the seventh where the task changed at all."""
        names = [each.name for each in fields(self) if each.name not in ("family", "task", "changed")]
        return {name: getattr(self, name) for name in (*names, *(["changed"] if self.changed.any() else []))}


def _widths(family: Family) -> dict[str, tuple[int, ...]]:
    """Shape of one row of each array."""
    return {
        "observations": (family.observation_size,),
        "actions": (family.action_size,),
        "rewards": (),
        "next_observations": (family.observation_size,),
        "terminated": (),
        "truncated": (),
    }


def _hint(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """What to do about an array of a common other form, as the end of the error."""
    if found == (expected[0] + 1, *expected[1:]):
        return f": one row too many; of an episode with its last observation, observations are {name}[:-1]"
    if found == (*expected, 1):
        return f": give {name}[..., 0]"
    if found == expected[::-1] != expected:
        return f": give {name}.T"
    return ""


def _column(values: Sequence[Any], name: str, width: tuple[int, ...], family: str) -> NDArray[Any]:
    """One array of a rollout from its rows."""
    if not values:
        return np.zeros((0, *width), dtype=np.bool_ if name in ("terminated", "truncated") else np.float32)
    try:
        return np.asarray(values)
    except ValueError:
        raise MetaMapError(f"rollout of {family!r}: {name} expected rows of shape {width}, theirs differ") from None


def _convert(array: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    """Flags as they are, everything else as float32."""
    array = np.asarray(array)
    if name in ("terminated", "truncated", "changed"):
        if array.dtype != np.bool_:
            zeros_and_ones = array.dtype.kind in "fiu" and np.isin(array, (0, 1)).all()
            hint = f": give {name}.astype(bool)" if zeros_and_ones else ""
            raise MetaMapError(f"{where}: {name} expected bool, got {array.dtype}{hint}")
        return array
    if array.dtype.kind not in "fiu":
        raise MetaMapError(f"{where}: {name} expected numbers, got {array.dtype}")
    with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, and is refused as such
        return array.astype(np.float32, copy=False)
