"""Examples: pairs (D, phi*) as tensors for the training loop, feature rows to weights and behaviour.

Independent of control: function regression builds `Examples` directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.policy.base import BasePolicy
from metamap_envs.errors import MetaMapError

__all__ = [
    "EXAMPLES_SHAPES",
    "Batch",
    "ExampleSource",
    "Examples",
    "check_shapes",
    "draw_length",
    "draw_rows",
    "draw_windows",
    "usable_lengths",
]


EXAMPLES_SHAPES = {
    "features": "TRnF",
    "phi": "TP",
    "inputs": "TSI",
    "targets": "TSA",
    "coordinates": "TK",
    "ends": "TRn",
    "newest": "TR",
}


@dataclass(eq=False)
class Batch:
    """A training batch of B tasks."""

    features: Tensor
    """Feature rows of D [B, k, F], not standardised."""
    phi: Tensor
    """Weights of the experts [B, P]."""
    inputs: Tensor
    """Inputs of the experts' networks [B, S, I]."""
    targets: Tensor
    """Outputs of the experts there [B, S, A]."""
    coordinates: Tensor | None = None
    """True coordinates of the tasks [B, K], if known."""
    ends: Tensor | None = None
    """Whether an episode ended with the transition, bool [B, k], if known."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Pairs (D, phi*) of T tasks for the training loop: float32 tensors on one device.

    Raises:
        MetaMapError: a field has the wrong number of axes or disagrees with another, or is empty.
    """

    features: Tensor
    """R independent sets D of n feature rows each [T, R, n, F], not standardised."""
    phi: Tensor
    """Weights of the experts, phi* [T, P]."""
    inputs: Tensor
    """Inputs of the generated network [T, S, I]; for policies normalised observations."""
    targets: Tensor
    """Outputs of the expert there [T, S, A]."""
    coordinates: Tensor | None = None
    """True coordinates of the tasks [T, K], if known; only a mapper with a bottleneck uses them."""
    ends: Tensor | None = None
    """Whether an episode ended with the transition, bool [T, R, n], if known; no mapper uses it."""
    newest: Tensor | None = None
    """Index of the first row of each set that is of the task, int64 [T, R]: those before it are of an older task. None
    if all rows are of the task."""

    def __post_init__(self) -> None:
        shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors().items()}
        if self.ends is not None:
            shapes["ends"] = tuple(self.ends.shape)
        check_shapes("examples", shapes, EXAMPLES_SHAPES)

    def __len__(self) -> int:
        """Number of tasks T."""
        return len(self.phi)

    def examples(self, base: BasePolicy) -> Examples:
        """Return itself: examples are a source of examples (see :class:`ExampleSource`)."""
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that training uses by name; coordinates and changes of the task only if known."""
        return {name: tensor.cpu().numpy() for name, tensor in self._tensors().items()}

    def _tensors(self) -> dict[str, Tensor]:
        names = ("features", "phi", "inputs", "targets", "coordinates", "newest")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def widened(self, inputs: Tensor, targets: Tensor) -> Examples:
        """Return the same tasks with more inputs [T, S', I] and the experts' outputs for them [T, S', A].

        Raises:
            MetaMapError: their sizes differ from the existing ones.
        """
        for name, more in (("inputs", inputs), ("targets", targets)):
            there = getattr(self, name)
            if more.ndim != 3 or (len(more), more.shape[-1]) != (len(self), there.shape[-1]):
                raise MetaMapError(
                    f"examples: more {name}: expected {(len(self), 'S', there.shape[-1])}, got {tuple(more.shape)}"
                )
        return replace(
            self, inputs=torch.cat([self.inputs, inputs], dim=1), targets=torch.cat([self.targets, targets], dim=1)
        )

    def with_rollouts(self, features: Tensor, newest: Tensor) -> Examples:
        """Return the same tasks with more rollouts of as many rows; where episodes end is not known any more.

        Args:
            features: feature rows [T, R', n, F].
            newest: index of the first row of each that is of the task [T, R'], 0 if all are.

        Raises:
            MetaMapError: other sizes than the existing ones.
        """
        tasks, _, steps, size = self.features.shape
        if features.ndim != 4 or features.shape[::2] != (tasks, steps) or features.shape[3] != size:
            raise MetaMapError(
                f"examples: more features: expected {(tasks, 'R', steps, size)}, got {tuple(features.shape)}"
            )
        before = torch.zeros(self.features.shape[:2], dtype=torch.int64) if self.newest is None else self.newest
        changes = self.newest is not None or bool(newest.any())
        return replace(
            self,
            features=torch.cat([self.features, features], dim=1),
            ends=None,
            newest=torch.cat([before, newest], dim=1) if changes else None,
        )

    def sample(self, generator: torch.Generator, *, tasks: int, length: int, states: int, from_start: float) -> Batch:
        """Draw a batch.

        Args:
            generator: source of every draw.
            tasks: B, drawn without replacement; all of them where there are fewer.
            length: k, in [1, n]: each D is a window of k consecutive rows of one rollout of the task.
            states: S, drawn with replacement, for each task anew.
            from_start: probability that a window starts at the rollout's first row, as at deployment; the
                others start anywhere. See `draw_windows` for rollouts in which the task changes.
        """
        chosen = torch.randperm(len(self), generator=generator)[:tasks]
        count = len(chosen)
        window = draw_windows(
            self.features, chosen, generator, length=length, from_start=from_start, newest=self.newest
        )
        state = torch.randint(self.inputs.shape[1], (count, states), generator=generator)
        row = chosen[:, None]
        return Batch(
            features=self.features[window],
            phi=self.phi[chosen],
            inputs=self.inputs[row, state],
            targets=self.targets[row, state],
            coordinates=None if self.coordinates is None else self.coordinates[chosen],
            ends=None if self.ends is None else self.ends[window],
        )


def draw_windows(
    features: Tensor,
    tasks: Tensor,
    generator: torch.Generator,
    *,
    length: int,
    from_start: float,
    newest: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one D of each task: ``length`` consecutive rows of one of its rollouts.

    In a rollout in which the task changes, windows hold at least one row of the newer task and, unless they start
    exactly at the change, one of the older; ``from_start`` does not apply there.

    Args:
        features: [T, R, n, F].
        tasks: indices of B tasks.
        generator: source of every draw.
        length: k, in [1, n].
        from_start: probability that a window starts at the rollout's first row.
        newest: index of the first row of the newer task of each rollout [T, R], 0 without a change; default none.

    Returns:
        Indices of T, R and n, [B, 1], [B, 1] and [B, k]: ``features[...]`` of them is [B, k, F].
    """
    count = len(tasks)
    rollouts, steps = features.shape[1:3]
    rollout = torch.randint(rollouts, (count, 1), generator=generator)
    offset = torch.randint(steps - length + 1, (count, 1), generator=generator)
    offset[torch.rand(count, 1, generator=generator) < from_start] = 0
    if newest is not None:
        change = newest[tasks[:, None], rollout]
        low, high = (change - length + 1).clamp(min=0), change.clamp(max=steps - length)
        place = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        offset = torch.where(change > 0, low + (place * (high - low + 1)).long(), offset)
    return tasks[:, None], rollout, offset + torch.arange(length)


def draw_rows(
    features: Tensor, tasks: Tensor, generator: torch.Generator, count: int, newest: Tensor | None = None
) -> Tensor:
    """Draw single feature rows [B, count, F] of B tasks out of all their rollouts [T, R, n, F], with replacement.

    Given ``newest`` (see `draw_windows`), rows of an older task are replaced by others of the same rollout.
    """
    rollouts, steps = features.shape[1:3]
    row = torch.randint(rollouts * steps, (len(tasks), count), generator=generator)
    rollout, step = row // steps, row % steps
    if newest is not None:
        first = newest[tasks[:, None], rollout]
        step = torch.where(step < first, first + step % (steps - first), step)
    return features[tasks[:, None], rollout, step]


def usable_lengths(lengths: Sequence[int], steps: int) -> tuple[int, ...]:
    """Return the lengths of D up to ``steps`` transitions, or ``steps`` itself if there is none."""
    return tuple(length for length in lengths if length <= steps) or (steps,)


def draw_length(lengths: Sequence[int], steps: int, generator: torch.Generator) -> int:
    """Draw one of the lengths of D that rollouts of ``steps`` transitions have; see :func:`usable_lengths`."""
    usable = usable_lengths(lengths, steps)
    return usable[int(torch.randint(len(usable), (1,), generator=generator))]


class ExampleSource(Protocol):
    """A source of training data: `Pairs` of a family, or `Examples`."""

    def examples(self, base: BasePolicy) -> Examples:
        """Return the examples; ``base`` normalises the inputs of the generated network."""
        ...


def check_shapes(
    what: str,
    shapes: Mapping[str, tuple[int, ...]],
    letters: Mapping[str, str],
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Check that axes with the same letter have the same size, at least 1; name the first that differs."""
    known = dict(sizes or {})
    for name, shape in shapes.items():
        axes = letters[name]
        for axis, size in zip(axes, shape, strict=False):
            known.setdefault(axis, size)
        expected = tuple(known.get(axis, axis) for axis in axes)
        if shape != expected or 0 in shape:
            legend = f"[{', '.join(axes)}]"
            raise MetaMapError(f"{what}: {name}: expected {legend} = {expected}, none of them 0, got {shape}")
