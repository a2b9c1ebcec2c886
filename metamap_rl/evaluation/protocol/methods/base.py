"""What a method is.

To add one, write a module in `metamap_rl.evaluation.protocol.methods` with a subclass of `Method`, whose fields are its
settings, and register it with ``@METHODS.register("name")``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_envs.settings import Settings
from metamap_rl.common.registry import Registry
from metamap_rl.evaluation.protocol.problem import Problem

__all__ = ["METHODS", "Measured", "Method", "Scored", "at_lengths"]


@dataclass(frozen=True)
class Scored:
    """Returns of one method on one split."""

    split: str
    steps: int | None
    """k, the environment steps that it was given of the task; None if it uses none."""
    returns: NDArray[np.float64]
    """Of every episode [T, E]."""


@dataclass(frozen=True)
class Measured:
    """What a method came to with one seed."""

    scores: list[Scored]
    training_steps: int
    """Environment steps before the task arrived, those of the zoo included where it learns from experts."""
    record: dict[str, Any] = field(default_factory=dict)
    """Whatever else there is to say, as plain JSON values."""


class Method(Settings, ABC):
    """One way to a policy for a task that has just arrived.

    It may learn whatever it wants on training tasks and choose on validation tasks; of a test task it gets at most k
    environment steps.
    """

    summary: ClassVar[str]
    """What it does, in a few words, for tables."""
    signal: ClassVar[str]
    """What it learns from at test, for tables."""
    seeded: ClassVar[bool] = True
    """Whether it depends on a seed; if not, it is run once."""
    needs_mapper: ClassVar[bool] = False
    """Whether it uses the mapper of its seed."""
    needs_check: ClassVar[bool] = False
    """Whether that mapper must have a self-check, which those of a run have not."""

    @abstractmethod
    def measure(self, problem: Problem, seed: int) -> Measured:
        """Learn, and measure on all splits at all lengths of D."""


METHODS: Registry[type[Method]] = Registry("method")


def at_lengths(
    problem: Problem, lengths: Iterable[int], returns: Callable[[str, int], NDArray[np.float64]]
) -> list[Scored]:
    """Scores on every split at every length."""
    return [Scored(split, length, returns(split, length)) for split in problem.splits for length in lengths]
