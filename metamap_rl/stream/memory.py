"""Memory of a stream: rollouts with the weights and behaviour of experts, with a budget in bytes.

Feature rows are stored, not embeddings, which would become stale with the encoder. Items have random keys, drawn on
arrival; those with the smallest keys are kept. This makes reservoir sampling exact for items of different sizes too:
the bottom-k sketch of Cohen and Kaplan (2007).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError
from metamap_rl.common.registry import Registry

__all__ = ["RETENTIONS", "Item", "Memory", "items_by_slot"]

_AXES = {"features": 2, "phi": 1, "inputs": 2, "targets": 2, "dark": 2}
_TENSORS = tuple(_AXES)


@dataclass(frozen=True, eq=False)
class Item:
    """One rollout D of a task, with the expert's weights and behaviour."""

    slot: int
    """Number of the segment of the stream, counted by the learner; not an input of the mapper."""
    embodiment: str
    features: Tensor
    """Feature rows of D [n, F], not standardised."""
    phi: Tensor
    """phi* [P]."""
    inputs: Tensor
    """States of the expert, normalised [S, I]."""
    targets: Tensor
    """Outputs of the expert [S, A]."""
    dark: Tensor
    """Outputs of the mapper's policy just after learning the task [S, A] (Buzzega et al. 2020)."""
    expert_return: float
    """Mean return of phi*, in the environment's units."""
    base_return: float
    """Mean return of phi_0 on the same task."""
    key: float = 0.0
    """Random key in [0, 1); items with larger keys are dropped earlier."""

    @cached_property
    def nbytes(self) -> int:
        """Size of its tensors in bytes; tensors shared by rollouts of a task count each time."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (getattr(self, name) for name in _TENSORS))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Tensors and numbers by name, for storage."""
        numbers = {"slot": self.slot, "returns": [self.expert_return, self.base_return], "key": self.key}
        return {
            **{name: getattr(self, name).numpy() for name in _TENSORS},
            **{name: np.array(number) for name, number in numbers.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], embodiment: str, what: str) -> Item:
        """Inverse of `arrays`.

        Raises:
            MetaMapError: an array is missing, unexpected, empty, of the wrong type or shape, or not finite.
        """
        shapes = {name: np.shape(arrays.get(name, 0.0)) for name in _TENSORS}
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].dtype != np.float32 or len(shape) != _AXES[name] or 0 in shape:
                raise MetaMapError(f"{what}: {name}: unexpected in an item of a stream's memory")
        states, outputs = shapes["inputs"][0], shapes["targets"][1]
        expected = {**shapes, "targets": (states, outputs), "dark": (states, outputs)}
        check_arrays(dict(arrays), {**expected, "slot": (), "returns": (2,), "key": ()}, what)
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise MetaMapError(f"{what}: {name}: holds values that are not finite")
        expert_return, base_return = arrays["returns"].tolist()
        return cls(
            slot=int(arrays["slot"]),
            embodiment=embodiment,
            **{name: torch.from_numpy(np.array(arrays[name])) for name in _TENSORS},
            expert_return=expert_return,
            base_return=base_return,
            key=float(arrays["key"]),
        )


def items_by_slot(items: Iterable[Item]) -> dict[int, list[Item]]:
    """Group items by task, in order of first occurrence."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.slot, []).append(item)
    return groups


Retention = Callable[[Sequence[Item], int], Item | None]
"""Returns the index of the item to drop next, given the budget in bytes; None if none has to be dropped."""

RETENTIONS: Registry[Retention] = Registry("memory")


@RETENTIONS.register("balanced")
def balanced(items: Sequence[Item], budget: int) -> Item | None:
    """As many tasks as fit, of equal size: a rollout of the largest task is dropped.

    If every task has one rollout, a uniform reservoir over tasks: the task with the largest key is dropped.
    Class-balancing reservoir sampling (Chrysakis and Moens 2020), with the smallest of a task's keys as the task's.
    """
    tasks = items_by_slot(items)
    sizes = {slot: _bytes(task) for slot, task in tasks.items()}
    if sum(sizes.values()) <= budget:
        return None
    shrinkable = [slot for slot, task in tasks.items() if len(task) > 1]
    # Never a task's smallest key if it has others: it is the task's key in the reservoir over tasks.
    largest = tasks[max(shrinkable, key=lambda slot: (sizes[slot], -slot))] if shrinkable else items
    return max(largest, key=_key)


@RETENTIONS.register("reservoir")
def reservoir(items: Sequence[Item], budget: int) -> Item | None:
    """A uniform sample of all rollouts offered so far, independent of tasks (Vitter 1985)."""
    return max(items, key=_key) if _bytes(items) > budget else None


@RETENTIONS.register("all")
def everything(items: Sequence[Item], budget: int) -> Item | None:
    """Nothing is dropped; the budget is ignored. For upper bounds."""
    return None


@RETENTIONS.register("none")
def nothing(items: Sequence[Item], budget: int) -> Item | None:
    """Nothing is kept."""
    return items[0] if items else None


class Memory:
    """Items of the tasks seen so far, within a budget.

    Args:
        retention: name in `RETENTIONS`.
        budget: maximum total size in bytes, at least 1.

    Raises:
        MetaMapError: unknown retention, or a budget below 1.
    """

    def __init__(self, retention: str, budget: int) -> None:
        if budget < 1:
            raise MetaMapError(f"memory_bytes: expected at least 1 byte, got {budget}")
        self.retention = retention
        self.budget = budget
        self._next_to_go = RETENTIONS.get(retention)
        self.items: list[Item] = []

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def nbytes(self) -> int:
        """Size of all items in bytes."""
        return _bytes(self.items)

    @property
    def slots(self) -> tuple[int, ...]:
        """Tasks with stored items, oldest first."""
        return tuple(sorted({item.slot for item in self.items}))

    def offer(self, items: Iterable[Item], generator: np.random.Generator) -> list[Item]:
        """Add items, then drop items, possibly the new ones, until the budget is met.

        Returns:
            The items with their keys, whether kept or not.
        """
        offered = [replace(item, key=float(generator.random())) for item in items]
        self.items += offered
        while (item := self._next_to_go(self.items, self.budget)) is not None:
            self.items.remove(item)
        return offered

    def swap(self, change: Callable[[Item], Item]) -> None:
        """Replace every item by ``change(item)``, which must not be larger."""
        self.items = [change(item) for item in self.items]

    def held_out(self) -> list[Item]:
        """The rollout with the smallest key of each task: the validation set, not replayed if a task has others."""
        tasks = items_by_slot(self.items)
        return [min(tasks[slot], key=_key) for slot in sorted(tasks)]

    def replayable(self) -> list[Item]:
        """All other rollouts, and those of tasks with a single rollout."""
        counts = Counter(item.slot for item in self.items)
        held = {id(item) for item in self.held_out() if counts[item.slot] > 1}
        return [item for item in self.items if id(item) not in held]


def _bytes(items: Iterable[Item]) -> int:
    return sum([item.nbytes for item in items])


def _key(item: Item) -> float:
    return item.key
