"""Windows of stored rollouts: training batches of a gradient step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metamap_rl.data.examples import Batch, draw_length
from metamap_rl.stream.memory import Item, items_by_slot
from metamap_rl.training.config import UpdateConfig

__all__ = ["StreamBatch", "by_embodiment", "draw", "windows"]


@dataclass(eq=False, kw_only=True)
class StreamBatch(Batch):
    """A batch of B windows of rollouts of one embodiment, for one gradient step."""

    embodiment: str
    dark: Tensor
    """Outputs of the mapper's policies at storage time [B, S, A]."""
    generated: Tensor | None = None
    """phi_hat [B, P], cached within the gradient step; None before."""

    def __len__(self) -> int:
        """Number of rollouts B."""
        return len(self.phi)


def by_embodiment(rows: Iterable[StreamBatch]) -> dict[str, list[StreamBatch]]:
    """Group rows by embodiment, in order of first occurrence."""
    groups: dict[str, list[StreamBatch]] = {}
    for part in rows:
        groups.setdefault(part.embodiment, []).append(part)
    return groups


def draw(
    items: Sequence[Item], count: int, config: UpdateConfig, generator: torch.Generator, *, by_slot: bool = False
) -> list[StreamBatch]:
    """Draw windows of rollouts, with replacement, all of one length.

    Args:
        items: items to draw from; may be empty, then nothing is drawn.
        count: number of windows, 0 or more.
        config: settings with lengths and number of states.
        generator: random generator.
        by_slot: draw uniformly over tasks, then over rollouts of the task; else uniformly over rollouts.

    Returns:
        The windows, grouped by embodiment.
    """
    if not items or count < 1:
        return []
    if not by_slot:
        return windows([items[index] for index in _integers(len(items), count, generator)], config, generator)
    tasks = items_by_slot(items)
    groups = [tasks[slot] for slot in sorted(tasks)]
    chosen = [groups[index] for index in _integers(len(groups), count, generator)]
    return windows([group[_integers(len(group), 1, generator)[0]] for group in chosen], config, generator)


def windows(items: Sequence[Item], config: UpdateConfig, generator: torch.Generator) -> list[StreamBatch]:
    """Draw one window of each rollout, all of one length, grouped by embodiment."""
    if not items:
        return []
    length = draw_length(config.lengths, min(len(item.features) for item in items), generator)
    embodiments = dict.fromkeys(item.embodiment for item in items)
    return [
        _rows(name, [item for item in items if item.embodiment == name], length, config, generator)
        for name in embodiments
    ]


def _rows(
    embodiment: str, items: Sequence[Item], length: int, config: UpdateConfig, generator: torch.Generator
) -> StreamBatch:
    """Stack a window and states of each item."""
    cut, states = [], []
    for item in items:
        offset = _integers(len(item.features) - length + 1, 1, generator)[0]
        if float(torch.rand((), generator=generator)) < config.from_start:
            offset = 0
        cut.append(item.features[offset : offset + length])
        states.append(torch.randint(len(item.inputs), (config.states_per_task,), generator=generator))
    pairs = list(zip(items, states, strict=True))
    return StreamBatch(
        embodiment=embodiment,
        features=torch.stack(cut),
        phi=torch.stack([item.phi for item in items]),
        inputs=torch.stack([item.inputs[state] for item, state in pairs]),
        targets=torch.stack([item.targets[state] for item, state in pairs]),
        dark=torch.stack([item.dark[state] for item, state in pairs]),
    )


def _integers(below: int, count: int, generator: torch.Generator) -> list[int]:
    drawn: list[int] = torch.randint(below, (count,), generator=generator).tolist()
    return drawn
