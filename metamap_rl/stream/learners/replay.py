"""Learners that replay stored rollouts: the default, plain reservoir replay, and perfect memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.learners.base import LEARNERS
from metamap_rl.stream.learners.gradient import GradientLearner
from metamap_rl.stream.learners.step import Step

__all__ = ["PerfectMemory", "Replay", "ReservoirReplay"]


@dataclass
class _Replaying(GradientLearner):
    """Batches of new and stored pairs, with dark-experience terms on the stored ones."""

    new_share: float = 0.25
    """Fraction of the batch from the new task, in (0, 1)."""
    dark: float = 0.5
    """Weight of the error against the outputs of the mapper's policies at storage time, at least 0."""

    by_slot: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.new_share < 1 or not 0 <= self.dark < math.inf:
            raise MetaMapError(f"learner {self.name!r}: expected new_share in (0, 1) and dark >= 0, got {self}")

    def loss(self, step: Step) -> Tensor:
        """``L(new and old, phi*) + dark |a - a_stored|^2 (old)``."""
        count = max(1, round(self.new_share * step.config.batch_tasks)) if step.old else step.config.batch_tasks
        old = step.draw(step.old, step.config.batch_tasks - count, by_slot=self.by_slot)
        loss = step.pair_loss([*step.new(count), *old])
        return loss + self.dark * step.dark_loss(old) if old and self.dark else loss


@LEARNERS.register("replay")
@dataclass
class Replay(_Replaying):
    """Task-balanced reservoir replay with dark-experience terms (DER++, Buzzega et al. 2020). The default."""

    name: ClassVar[str] = "replay"
    retention: ClassVar[str] = "balanced"


@LEARNERS.register("reservoir")
@dataclass
class ReservoirReplay(_Replaying):
    """Experience replay from a uniform reservoir of rollouts, independent of tasks (Chaudhry et al. 2019)."""

    name: ClassVar[str] = "reservoir"
    retention: ClassVar[str] = "reservoir"
    by_slot: ClassVar[bool] = False
    dark: float = 0.0


@LEARNERS.register("perfect-memory")
@dataclass
class PerfectMemory(_Replaying):
    """Replay from an unbounded memory, an upper bound for replay from bounded memory."""

    name: ClassVar[str] = "perfect-memory"
    retention: ClassVar[str] = "all"
