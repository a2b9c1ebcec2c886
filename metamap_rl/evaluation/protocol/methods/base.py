"""Interface of methods.

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

__all__ = ["METHODS", "Method", "MethodResult", "MethodReturns", "at_lengths"]


@dataclass(frozen=True)
class MethodReturns:
    """Returns of one method on one split."""

    split: str
    steps: int | None
    """k, environment steps on the task; None if it uses none."""
    returns: NDArray[np.float64]
    """Return of every episode [T, E]."""


@dataclass(frozen=True)
class MethodResult:
    """Results of a method with one seed."""

    scores: list[MethodReturns]
    training_steps: int
    """Environment steps before the task, including those of the zoo if it learns from experts."""
    record: dict[str, Any] = field(default_factory=dict)
    """Further results, as JSON values."""


class Method(Settings, ABC):
    """A method of obtaining a policy for a new task.

    It may train on training tasks and select on validation tasks; on a test task it has at most k environment steps.
    """

    summary: ClassVar[str]
    """Short description, for tables."""
    signal: ClassVar[str]
    """Learning signal at test time, for tables."""
    seeded: ClassVar[bool] = True
    """Whether it depends on the seed; if not, it is run once."""
    needs_mapper: ClassVar[bool] = False
    """Whether it uses the mapper of the seed."""
    needs_check: ClassVar[bool] = False
    """Whether that mapper must have a self-check; mappers of a run have none."""

    @abstractmethod
    def measure(self, problem: Problem, seed: int) -> MethodResult:
        """Train, and evaluate on all splits at all lengths of D."""


METHODS: Registry[type[Method]] = Registry("method")


def at_lengths(
    problem: Problem, lengths: Iterable[int], returns: Callable[[str, int], NDArray[np.float64]]
) -> list[MethodReturns]:
    """Scores on every split at every length."""
    return [MethodReturns(split, length, returns(split, length)) for split in problem.splits for length in lengths]
