"""How many experts of each split a zoo has. The command line makes flags of it: nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metamap_agents.experts.zoo import Zoo
    from metamap_envs.task import Task

__all__ = ["TaskCounts"]


@dataclass(frozen=True)
class TaskCounts:
    """Number of experts of each split."""

    train: int = 40
    """Number of training tasks."""
    validation: int = 8
    """Number of validation tasks, for choosing a mapper's checkpoint."""
    test_in: int = 16
    """Number of test tasks inside the training range."""
    test_out: int = 0
    """Number of test tasks outside the training range."""

    def by_split(self) -> dict[str, int]:
        """Return the counts by name of split."""
        return {
            "train": self.train,
            "validation": self.validation,
            "test-in": self.test_in,
            "test-out": self.test_out,
        }

    def tasks(self, zoo: Zoo) -> list[Task]:
        """Return all tasks, each once, under the zoo's seed; in a grid, validation tasks are training tasks.

        Raises:
            MetaMapError: a negative count.
        """
        from metamap_envs.errors import MetaMapError

        for split, count in self.by_split().items():
            if count < 0:
                raise MetaMapError(f"the number of {split} tasks must be 0 or more, got {count}")
        unique: dict[str, Task] = {}
        for split, count in self.by_split().items():
            for task in zoo.tasks(split, count) if count else []:
                unique.setdefault(task.id, task)
        return list(unique.values())
