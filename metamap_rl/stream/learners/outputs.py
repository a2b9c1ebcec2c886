"""Learners that regularise the mapper's outputs for old D, from memory or generated."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError
from metamap_rl.data.examples import draw_length
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.base import LEARNERS
from metamap_rl.stream.learners.gradient import GradientLearner
from metamap_rl.stream.learners.step import Step
from metamap_rl.stream.windows import StreamBatch, windows

__all__ = ["Distillation", "FeatureMoments", "OutputRegularisation"]


@dataclass
class _HoldingAnswers(GradientLearner, ABC):
    """``L(new) + strength / K sum_k |f_theta(D_k) - f_before(D_k)|^2``, f_before the mapper before the task.

    The square is the mean over the P weights in units of ``weight_scale``, comparable between embodiments.
    """

    contexts: int = 8
    strength: float = 10.0

    _before: EmbodiedMapper | None = field(init=False, repr=False, compare=False, default=None)

    least_contexts: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.contexts < self.least_contexts or not 0 <= self.strength < math.inf:
            raise MetaMapError(
                f"learner {self.name!r}: expected contexts >= {self.least_contexts} and strength >= 0, got {self}"
            )

    def begin(self, step: Step) -> None:
        """Copy the mapper."""
        self._before = copy.deepcopy(step.mapper).requires_grad_(False)

    def loss(self, step: Step) -> Tensor:
        """Loss of the new task, and change of the outputs for old D."""
        new, old = step.new(step.config.batch_tasks), self.old(step)
        step.generate([*new, *old])
        loss = step.pair_loss(new)
        return loss + self.strength * step.weights_loss([self._answered(part) for part in old]) if old else loss

    @abstractmethod
    def old(self, step: Step) -> list[StreamBatch]:
        """Draw old D, of which only embodiment and features are used."""

    def end(self, step: Step) -> None:
        """Drop the copy."""
        self._before = None

    @torch.no_grad()
    def _answered(self, rows: StreamBatch) -> StreamBatch:
        """The same D with the outputs of before the task as phi*."""
        assert self._before is not None, "set in begin"
        return replace(rows, phi=self._before(rows.embodiment, rows.features))


@LEARNERS.register("output-regularisation")
@dataclass
class OutputRegularisation(_HoldingAnswers):
    """Regularise the weights generated for old tasks (von Oswald et al. 2020).

    In the paper the hypernetwork is given an embedding of each task; here the D of old tasks replace it, so that the
    encoder is regularised as well. Stored phi* are not used.
    """

    contexts: int = 8
    """Stored D per gradient step, drawn uniformly over tasks; 0 uses one window of every stored rollout, at a cost that
    grows with memory.
    """
    strength: float = 10.0
    """Weight of the regularisation, beta in the paper, at least 0."""

    name: ClassVar[str] = "output-regularisation"
    retention: ClassVar[str] = "balanced"
    least_contexts: ClassVar[int] = 0

    def old(self, step: Step) -> list[StreamBatch]:
        """Draw windows of stored rollouts."""
        if self.contexts:
            return step.draw(step.old, self.contexts, by_slot=True)
        return windows(step.old, step.config, step.generator)


@dataclass(frozen=True, eq=False)
class FeatureMoments:
    """Running moments of the feature rows of one embodiment, to generate similar rollouts."""

    count: NDArray[np.float64]
    """Number of rollouts, []."""
    mean: NDArray[np.float64]
    """Mean of the rollouts' means [F]."""
    between: NDArray[np.float64]
    """Sum of squares and products of the rollouts' means about their mean [F, F]."""
    within: NDArray[np.float64]
    """Sum over rollouts of the covariance of their rows [F, F]."""

    @classmethod
    def empty(cls, size: int) -> FeatureMoments:
        """Moments of no rollouts, for rows of size F = ``size``."""
        return cls(np.zeros(()), np.zeros(size), np.zeros((size, size)), np.zeros((size, size)))

    def with_rollout(self, features: Tensor) -> FeatureMoments:
        """Add one rollout [n, F] (Welford's update)."""
        rows = features.numpy().astype(np.float64)
        count, mean = self.count + 1, rows.mean(axis=0)
        away, centred = mean - self.mean, rows - mean
        moved = self.mean + away / count
        return FeatureMoments(
            count=np.asarray(count),
            mean=moved,
            between=self.between + np.outer(away, mean - moved),
            within=self.within + centred.T @ centred / len(rows),
        )

    def draw(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """Generate rollouts [count, length, F]: each has its own mean, and normal rows around it."""
        mean, root_between, root_within = self._normals
        means = torch.randn((count, 1, len(mean)), generator=generator) @ root_between
        rows = torch.randn((count, length, len(mean)), generator=generator) @ root_within
        return mean + means + rows

    @cached_property
    def _normals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, and a square root of each covariance."""
        roots = [_root(scatter / self.count) for scatter in (self.between, self.within)]
        mean, between, within = (torch.from_numpy(array.astype(np.float32)) for array in (self.mean, *roots))
        return mean, between, within

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Copies of all four by name."""
        return {item.name: np.array(getattr(self, item.name)) for item in fields(self)}


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix R with ``R^T R`` the covariance, which may be rank-deficient."""
    values, vectors = np.linalg.eigh(covariance)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    return root


@LEARNERS.register("distillation")
@dataclass
class Distillation(_HoldingAnswers):
    """Pseudo-rehearsal (Robins 1995): regularise the outputs for generated D, without a memory.

    Learning without forgetting (Li and Hoiem 2016) distils on the new task's inputs, which contain no information on
    old tasks here. D similar to those seen so far are therefore generated from running moments of the feature rows of
    each embodiment: a mean for each pseudo-task, drawn from the distribution of the rollouts' means, and normal rows
    around it with the covariance of rows within rollouts. Limits: some generated rows belong to no real task, and task
    information beyond a normal distribution is lost.
    """

    contexts: int = 8
    """Generated D per gradient step, at least 1."""
    strength: float = 10.0
    """Weight of the regularisation, at least 0."""

    moments: dict[str, FeatureMoments] = field(init=False, repr=False, compare=False, default_factory=dict)

    name: ClassVar[str] = "distillation"

    def old(self, step: Step) -> list[StreamBatch]:
        """Generate D, uniformly over embodiments."""
        known = sorted(self.moments)
        if not known:
            return []
        shortest = min(len(item.features) for item in step.experience.items)
        length = draw_length(step.config.lengths, shortest, step.generator)
        chosen = Counter(torch.randint(len(known), (self.contexts,), generator=step.generator).tolist())
        return [self._made_up(step, known[index], chosen[index], length) for index in sorted(chosen)]

    def _made_up(self, step: Step, embodiment: str, count: int, length: int) -> StreamBatch:
        """A batch of generated D, without phi* and states."""
        spec = step.mapper[embodiment].base.spec
        return StreamBatch(
            embodiment=embodiment,
            features=self.moments[embodiment].draw(count, length, step.generator),
            phi=torch.zeros(count, spec.size),
            inputs=torch.zeros(count, 0, spec.observation_size),
            targets=torch.zeros(count, 0, spec.action_size),
            dark=torch.zeros(count, 0, spec.action_size),
        )

    def end(self, step: Step) -> None:
        """Add the task's rollouts to the moments."""
        super().end(step)
        embodiment = step.experience.embodiment
        moments = self.moments.get(embodiment) or FeatureMoments.empty(step.mapper[embodiment].feature_size)
        for item in step.experience.items:
            moments = moments.with_rollout(item.features)
        self.moments[embodiment] = moments

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The moments by embodiment."""
        return {
            f"{embodiment}.{name}": array
            for embodiment, moments in self.moments.items()
            for name, array in moments.arrays().items()
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """See `MapperLearner`.

        Raises:
            MetaMapError: an array is missing, unexpected or of another shape.
        """
        known = [name for name in mapper if any(key.startswith(f"{name}.") for key in arrays)]
        empty = {name: FeatureMoments.empty(mapper[name].feature_size).arrays() for name in known}
        shapes = {f"{name}.{key}": array.shape for name in known for key, array in empty[name].items()}
        check_arrays(arrays, shapes, "moments of old rollouts")
        self.moments = {
            name: FeatureMoments(**{key: np.array(arrays[f"{name}.{key}"]) for key in empty[name]}) for name in known
        }
