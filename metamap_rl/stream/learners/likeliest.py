"""Reference learner: every expert stored, and the one whose task explains D best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metamap_envs.errors import MetaMapError
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learners.base import LEARNERS, KeepsNothing
from metamap_rl.stream.learners.step import Step
from metamap_rl.stream.memory import Item, Memory, items_by_slot

__all__ = ["LikeliestExpert"]

_WIDEST = 5.0  # of standardised inputs
_SMALLEST_ERROR = 1e-3
_DEGREES = 4  # of Student's t: contacts make outliers
_COMMON_RIDGE = 1e-6


@LEARNERS.register("likeliest")
@dataclass
class LikeliestExpert(KeepsNothing):
    """The stored phi* of the task whose model of change and reward explains D best, without training.

    Each stored task has a ridge regression from observation and action, around that of all tasks together.
    """

    ridge: float = 0.1
    """Weight of the squared differences from the model of all tasks, for each transition."""

    name: ClassVar[str] = "likeliest"
    retention: ClassVar[str] = "balanced"
    validated: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.ridge < math.inf:
            raise MetaMapError(f"learner 'likeliest': expected ridge above 0, got {self.ridge}")

    @torch.no_grad()
    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """See `MapperLearner`; phi_0 if nothing of the embodiment is stored, or D is empty."""
        tasks = list(items_by_slot(item for item in memory.items if item.embodiment == embodiment).values())
        if not tasks or not features.shape[1]:
            weights: Tensor = mapper(embodiment, features)
            return weights
        own = mapper[embodiment]
        inputs, outcomes = _split(own, features)
        models, error = self._models(own, tasks)
        wrong = (outcomes.unsqueeze(1) - inputs.unsqueeze(1) @ models) / error
        fit = -(wrong.square() / _DEGREES).log1p().sum(dim=(2, 3))
        return torch.stack([tasks[index][0].phi for index in fit.argmax(dim=1).tolist()])

    def update(self, step: Step) -> None:
        """Do nothing: the memory is the only state."""

    def _models(self, mapper: Mapper, tasks: Sequence[Sequence[Item]]) -> tuple[Tensor, Tensor]:
        """Coefficients of each task [T, F, O], and the usual size of an error [O]."""
        rows = [_split(mapper, torch.cat([item.features for item in items])) for items in tasks]
        grams = torch.stack([x.mT @ x for x, _ in rows])
        products = torch.stack([x.mT @ y for x, y in rows])
        counts = torch.tensor([len(x) for x, _ in rows], dtype=torch.float64).view(-1, 1, 1)
        unit = torch.eye(grams.shape[-1], dtype=torch.float64)
        whole = grams.sum(dim=0)
        common = torch.linalg.solve(whole + _COMMON_RIDGE * counts.sum() * unit, products.sum(dim=0))
        models = common + torch.linalg.solve(grams + self.ridge * counts * unit, products - grams @ common)
        errors = torch.cat([y - x @ model for (x, y), model in zip(rows, models, strict=True)])
        return models, errors.abs().median(dim=0).values.clamp(min=_SMALLEST_ERROR)


def _split(mapper: Mapper, features: Tensor) -> tuple[Tensor, Tensor]:
    """What a model reads, the constant 1 among it, and what it predicts: standardised, of rows [..., F]."""
    layout = TransitionLayout.of(mapper.base.spec)
    rows = mapper.standardised(features).double()
    read = rows[..., layout.state_action].clamp(-_WIDEST, _WIDEST)
    return torch.cat([torch.ones_like(read[..., :1]), read], dim=-1), rows[..., layout.outcome]
