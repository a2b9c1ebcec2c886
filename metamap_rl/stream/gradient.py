"""The update loop that gradient-based learners share: draw new and stored rollouts, loss, back-propagate, step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import mse_loss

from metamap_agents.functional import forward as network_forward
from metamap_envs.errors import MetaMapError
from metamap_rl.losses import LOSSES, Outcome
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.learner import Experience, UpdateConfig
from metamap_rl.stream.memory import Item, Memory

__all__ = ["GradientLearner", "Rows", "Step", "draw"]


@dataclass(frozen=True, eq=False)
class Rows:
    """B rollouts of one embodiment, as one gradient step sees them."""

    embodiment: str
    features: Tensor
    """[B, k, F]."""
    phi: Tensor
    """[B, P]."""
    inputs: Tensor
    """[B, S, I]."""
    targets: Tensor
    """[B, S, A]."""
    dark: Tensor
    """[B, S, A]."""

    def __len__(self) -> int:
        """Number of rollouts B."""
        return len(self.phi)


@dataclass(frozen=True)
class Step:
    """What a learner may use for the loss of one gradient step."""

    mapper: EmbodiedMapper
    experience: Experience
    old: Sequence[Item]
    """Rollouts of other tasks that memory offers for replay; may be empty."""
    config: UpdateConfig
    generator: torch.Generator

    def draw(self, items: Sequence[Item], count: int, *, by_slot: bool = False) -> list[Rows]:
        """Draw ``count`` windows from items; see :func:`draw`."""
        return draw(items, count, self.config, self.generator, by_slot=by_slot)

    def new(self, count: int) -> list[Rows]:
        """Draw ``count`` windows of the task that was just learnt."""
        return self.draw(self.experience.items, count)

    def pair_loss(self, rows: Sequence[Rows]) -> Tensor:
        """Loss of phi_hat against phi*, the mean over all rollouts; 0 where there are none."""
        return self._mean(rows, self._against_expert)

    def dark_loss(self, rows: Sequence[Rows]) -> Tensor:
        """Mean squared error against what the mapper's own policies did when they were stored."""
        return self._mean(rows, self._against_self)

    def _mean(self, rows: Sequence[Rows], loss: Callable[[Rows], Tensor]) -> Tensor:
        total = sum(len(part) for part in rows)
        if not total:
            return torch.zeros(())
        mean: Tensor = sum((len(part) / total * loss(part) for part in rows), torch.zeros(()))
        return mean

    def _against_expert(self, rows: Rows) -> Tensor:
        mapper = self.mapper[rows.embodiment]
        outcome = Outcome(
            spec=mapper.base.spec,
            phi_hat=mapper(rows.features),
            phi=rows.phi,
            scale=mapper.weight_scale,
            inputs=rows.inputs,
            targets=rows.targets,
            weights_coefficient=self.config.weights_coefficient,
        )
        return LOSSES.get(self.config.loss)(outcome)

    def _against_self(self, rows: Rows) -> Tensor:
        mapper = self.mapper[rows.embodiment]
        return mse_loss(network_forward(mapper.base.spec, mapper(rows.features), rows.inputs), rows.dark)


class GradientLearner:
    """The update loop that learners share; a subclass gives at least `loss`."""

    name: ClassVar[str]
    retention: ClassVar[str] = "none"
    validated: ClassVar[bool] = True

    @torch.no_grad()
    def generate(self, mapper: EmbodiedMapper, memory: Memory, embodiment: str, features: Tensor) -> Tensor:
        """See `Learner`."""
        weights: Tensor = mapper(embodiment, features)
        return weights

    def update(
        self,
        mapper: EmbodiedMapper,
        experience: Experience,
        memory: Memory,
        config: UpdateConfig,
        generator: torch.Generator,
    ) -> None:
        """See `Learner`. The optimiser is made anew for each task, so nothing of it has to be kept."""
        old = [item for item in memory.replayable() if item.slot != experience.slot]
        step = Step(mapper, experience, old, config, generator)
        self.begin(step)
        self.descend(step, config.updates)
        self.end(step)

    def descend(self, step: Step, updates: int) -> None:
        """Make ``updates`` gradient steps on `loss`.

        Raises:
            MetaMapError: the loss stopped being finite.
        """
        parameters = list(step.mapper.parameters())
        config = step.config
        optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        for update in range(updates):
            loss = self.loss(step)
            if not bool(loss.isfinite()):
                raise MetaMapError(
                    f"learner {self.name!r}: the loss is not finite at gradient step {update}: lower learning_rate"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it only in part
            self.adjust_gradient(step)
            torch.nn.utils.clip_grad_norm_(parameters, config.gradient_clip)
            for group in optimiser.param_groups:
                group["lr"] = _rate(update, updates, config)
            optimiser.step()
            self.adjust_theta(step)

    def begin(self, step: Step) -> None:
        """Before the first gradient step of a task."""

    def loss(self, step: Step) -> Tensor:
        """What one gradient step minimises, a scalar."""
        raise NotImplementedError

    def adjust_gradient(self, step: Step) -> None:
        """Between the backward pass and the clipping: may change the gradients in place."""

    def adjust_theta(self, step: Step) -> None:
        """After the optimiser's step: may change theta in place."""

    def end(self, step: Step) -> None:
        """After the last gradient step of a task."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Learner`. Nothing by default."""
        return {}

    def restore(self, arrays: Mapping[str, NDArray[Any]], mapper: EmbodiedMapper) -> None:
        """See `Learner`."""
        if arrays:
            raise MetaMapError(f"learner {self.name!r} keeps no arrays, the checkpoint has {sorted(arrays)[0]!r}")


def draw(
    items: Sequence[Item], count: int, config: UpdateConfig, generator: torch.Generator, *, by_slot: bool = False
) -> list[Rows]:
    """Draw windows of rollouts, with replacement, all of one length.

    Args:
        items: what to draw from; may be empty, then nothing is drawn.
        count: how many, 0 or more.
        config: gives lengths and number of states.
        generator: of every draw.
        by_slot: draw the task first, then one of its rollouts, so that each task counts alike; else the rollouts
            count alike.

    Returns:
        The windows, those of one embodiment together.
    """
    if not items or count < 1:
        return []
    if by_slot:
        slots = sorted({item.slot for item in items})
        groups = [[item for item in items if item.slot == slot] for slot in slots]
        chosen_slots = torch.randint(len(groups), (count,), generator=generator).tolist()
        chosen = [
            groups[slot][int(torch.randint(len(groups[slot]), (1,), generator=generator))] for slot in chosen_slots
        ]
    else:
        chosen = [items[index] for index in torch.randint(len(items), (count,), generator=generator).tolist()]
    shortest = min(len(item.features) for item in chosen)
    lengths = [length for length in config.lengths if length <= shortest] or [shortest]
    length = lengths[int(torch.randint(len(lengths), (1,), generator=generator))]
    embodiments = dict.fromkeys(item.embodiment for item in chosen)
    return [
        _rows(name, [item for item in chosen if item.embodiment == name], length, config, generator)
        for name in embodiments
    ]


def _rows(
    embodiment: str, items: Sequence[Item], length: int, config: UpdateConfig, generator: torch.Generator
) -> Rows:
    """Stack a window and some states of each item."""
    windows, states = [], []
    for item in items:
        offset = int(torch.randint(len(item.features) - length + 1, (1,), generator=generator))
        if float(torch.rand((), generator=generator)) < config.from_start:
            offset = 0
        windows.append(item.features[offset : offset + length])
        states.append(torch.randint(len(item.inputs), (config.states,), generator=generator))
    pairs = list(zip(items, states, strict=True))
    return Rows(
        embodiment=embodiment,
        features=torch.stack(windows),
        phi=torch.stack([item.phi for item in items]),
        inputs=torch.stack([item.inputs[state] for item, state in pairs]),
        targets=torch.stack([item.targets[state] for item, state in pairs]),
        dark=torch.stack([item.dark[state] for item, state in pairs]),
    )


def _rate(update: int, updates: int, config: UpdateConfig) -> float:
    """A linear rise, then half a cosine down to 0."""
    warmup = min(config.warmup, updates)
    if update < warmup:
        return config.learning_rate * (update + 1) / (warmup + 1)
    progress = (update - warmup) / max(1, updates - warmup)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
