"""Training pairs (D, phi*) as arrays, and the form in which the training loop sees them.

`Pairs` speaks of control: tasks, rollouts, experts. `Examples` and `Batch` do not: sets of feature rows in,
weights of a network and its behaviour out. Function regression builds `Examples` directly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.task import Task

__all__ = [
    "Batch",
    "ExampleSource",
    "Examples",
    "Pairs",
    "draw_rows",
    "draw_windows",
    "transition_features",
    "usable_lengths",
]

PAIRS_FORMAT = "metamap-pairs-1"

# Letters of equal name must have equal size: T tasks, R rollouts, n steps, O observations, A actions,
# P weights, S states, K parameters, F features, I inputs.
PAIRS_SHAPES = {
    "observations": "TRnO",
    "actions": "TRnA",
    "rewards": "TRn",
    "next_observations": "TRnO",
    "terminated": "TRn",
    "phi": "TP",
    "states": "TSO",
    "expert_actions": "TSA",
    "parameters": "TK",
}
EXAMPLES_SHAPES = {"features": "TRnF", "phi": "TP", "inputs": "TSI", "targets": "TSA", "coordinates": "TK"}


def transition_features(
    observations: NDArray[np.float32],
    actions: NDArray[np.float32],
    rewards: NDArray[np.float32],
    next_observations: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return (observation, action, |action|^2, reward, next observation - observation) of each transition.

    The squared norm of the action is there because most rewards hold a control cost, often larger than the part that
    tells the task; given the norm, a linear layer can take it off the reward.

    Args:
        observations: [..., n, O], raw units of the environment.
        actions: [..., n, A].
        rewards: [..., n].
        next_observations: [..., n, O].

    Returns:
        [..., n, 2 O + A + 2] float32, not standardised.
    """
    change = next_observations - observations
    energy = np.square(actions).sum(axis=-1, keepdims=True)
    rows = [observations, actions, energy, rewards[..., None], change]
    return np.concatenate(rows, axis=-1, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Batch:
    """What one update sees of B tasks."""

    features: Tensor
    """Feature rows of D [B, k, F], not standardised."""
    phi: Tensor
    """Weights of the experts [B, P]."""
    inputs: Tensor
    """Inputs of the experts' networks [B, S, I]."""
    targets: Tensor
    """Outputs of the experts there [B, S, A]."""
    coordinates: Tensor | None = None
    """True coordinates of the tasks [B, K], where they are known."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Pairs (D, phi*) of T tasks as the training loop sees them: float32 tensors on one device.

    Raises:
        MetaMapError: a field has the wrong number of axes or disagrees with another, or is empty.
    """

    features: Tensor
    """R independent sets D of n feature rows each [T, R, n, F], not standardised."""
    phi: Tensor
    """Weights of the experts, phi* [T, P]."""
    inputs: Tensor
    """Inputs of the generated network, as it will get them [T, S, I]; for policies normalised observations."""
    targets: Tensor
    """Outputs of the expert there [T, S, A]."""
    coordinates: Tensor | None = None
    """True coordinates of the tasks [T, K], where they are known; only a mapper with a bottleneck looks at them."""

    def __post_init__(self) -> None:
        shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors().items()}
        _check_shapes("examples", shapes, EXAMPLES_SHAPES)

    def __len__(self) -> int:
        """Number of tasks T."""
        return len(self.phi)

    def examples(self, base: BasePolicy) -> Examples:
        """Return itself: examples are a source of examples (see :class:`ExampleSource`)."""
        return self

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the fields by name; the coordinates only where they are known."""
        return {name: tensor.cpu().numpy() for name, tensor in self._tensors().items()}

    def _tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in EXAMPLES_SHAPES if getattr(self, name) is not None}

    def widened(self, inputs: Tensor, targets: Tensor) -> Examples:
        """Return the same tasks with more inputs [T, S', I] and what the experts answer to them [T, S', A].

        Raises:
            MetaMapError: they are of other sizes than those that are there.
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

    def sample(self, generator: torch.Generator, *, tasks: int, length: int, states: int, from_start: float) -> Batch:
        """Draw a batch.

        Args:
            generator: source of every draw.
            tasks: B, drawn without replacement; all of them where there are fewer.
            length: k, in [1, n]: each D is a window of k consecutive rows of one rollout of the task.
            states: S, drawn with replacement, for each task anew.
            from_start: probability that a window starts at the rollout's first row, as at deployment; the
                others start anywhere.
        """
        chosen = torch.randperm(len(self), generator=generator)[:tasks]
        count = len(chosen)
        windows = draw_windows(self.features, chosen, generator, length=length, from_start=from_start)
        state = torch.randint(self.inputs.shape[1], (count, states), generator=generator)
        row = chosen[:, None]
        return Batch(
            features=windows,
            phi=self.phi[chosen],
            inputs=self.inputs[row, state],
            targets=self.targets[row, state],
            coordinates=None if self.coordinates is None else self.coordinates[chosen],
        )


def draw_windows(
    features: Tensor, tasks: Tensor, generator: torch.Generator, *, length: int, from_start: float
) -> Tensor:
    """Draw one D of each task: ``length`` consecutive rows of one of its rollouts.

    Args:
        features: [T, R, n, F].
        tasks: indices of B tasks.
        generator: source of every draw.
        length: k, in [1, n].
        from_start: probability that a window starts at the rollout's first row.

    Returns:
        [B, k, F].
    """
    count = len(tasks)
    rollouts, steps = features.shape[1:3]
    rollout = torch.randint(rollouts, (count, 1), generator=generator)
    offset = torch.randint(steps - length + 1, (count, 1), generator=generator)
    offset[torch.rand(count, 1, generator=generator) < from_start] = 0
    return features[tasks[:, None], rollout, offset + torch.arange(length)]


def draw_rows(features: Tensor, tasks: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """Draw single feature rows [B, count, F] of B tasks out of all their rollouts [T, R, n, F], with replacement."""
    rollouts, steps = features.shape[1:3]
    row = torch.randint(rollouts * steps, (len(tasks), count), generator=generator)
    return features[tasks[:, None], row // steps, row % steps]


def usable_lengths(lengths: Sequence[int], steps: int) -> tuple[int, ...]:
    """Return the lengths of D that rollouts of ``steps`` transitions have, or ``steps`` itself if there is none."""
    return tuple(length for length in lengths if length <= steps) or (steps,)


class ExampleSource(Protocol):
    """Anything that the training loop can learn from: `Pairs` of a family, or `Examples` made by hand."""

    def examples(self, base: BasePolicy) -> Examples:
        """Return the examples; ``base`` says how the generated network sees its inputs."""
        ...


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs (D, phi*) of T tasks of one family, with what the losses need of each expert.

    Raises:
        MetaMapError: a field has the wrong dtype or number of axes, disagrees with another field, is empty or
            holds a value that is not finite; or tasks of more than one family.
    """

    tasks: list[Task]
    observations: NDArray[np.float32]
    """[T, R, n, O]: R independent probe rollouts of n transitions per task, in raw units."""
    actions: NDArray[np.float32]
    """[T, R, n, A], as the probe applied them, in [-1, 1]."""
    rewards: NDArray[np.float32]
    """[T, R, n]."""
    next_observations: NDArray[np.float32]
    """[T, R, n, O], never the first observation after a reset."""
    terminated: NDArray[np.bool_]
    """[T, R, n]."""
    phi: NDArray[np.float32]
    """phi* [T, P]."""
    states: NDArray[np.float32]
    """[T, S, O]: raw observations that the expert visited."""
    expert_actions: NDArray[np.float32]
    """[T, S, A]: the expert's mean actions there, not clipped."""
    parameters: NDArray[np.float32]
    """[T, K]: coordinates of the tasks (`ParameterSpace.coordinates`), for the privileged mapper that is given them."""

    def __post_init__(self) -> None:
        arrays = self._arrays()
        for name, array in arrays.items():
            wanted = np.bool_ if name == "terminated" else np.float32
            if array.dtype != wanted:
                raise MetaMapError(f"pairs: {name}: expected {np.dtype(wanted)}, got {array.dtype}")
        shapes = {name: array.shape for name, array in arrays.items()}
        _check_shapes("pairs", shapes, PAIRS_SHAPES, sizes={"T": len(self.tasks)})
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise MetaMapError(f"pairs: {name}: holds values that are not finite")
        if len({task.family for task in self.tasks}) > 1:
            raise MetaMapError(f"pairs: tasks of one family expected, got {_families(self.tasks)}")

    def __len__(self) -> int:
        """Number of tasks T."""
        return len(self.tasks)

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.tasks[0].family

    def select(self, indices: Sequence[int]) -> Pairs:
        """Return the tasks at ``indices``, in that order, with all their arrays (copied).

        Raises:
            MetaMapError: an index outside [0, T), or none.
        """
        outside = [index for index in indices if not 0 <= index < len(self)]
        if outside or not len(indices):
            raise MetaMapError(f"pairs: expected indices in [0, {len(self)}), got {outside or 'none'}")
        chosen = {name: array[list(indices)] for name, array in self._arrays().items()}
        return Pairs(tasks=[self.tasks[index] for index in indices], **chosen)

    def examples(self, base: BasePolicy) -> Examples:
        """Return the pairs as the training loop sees them, states normalised by the base policy's normaliser."""
        features = transition_features(self.observations, self.actions, self.rewards, self.next_observations)
        inputs = base.normalizer.apply(self.states).astype(np.float32)
        return Examples(
            features=torch.from_numpy(features),
            phi=torch.tensor(self.phi),
            inputs=torch.from_numpy(inputs),
            targets=torch.tensor(self.expert_actions),
            coordinates=torch.tensor(self.parameters),
        )

    def save(self, path: Path) -> None:
        """Write one .safetensors file, with the tasks as JSON in its metadata."""
        tasks = json.dumps([task.to_json() for task in self.tasks])
        save_arrays(path, self._arrays(), {"format": PAIRS_FORMAT, "tasks": tasks})

    @classmethod
    def load(cls, path: Path) -> Pairs:
        """Read what :meth:`save` wrote.

        Raises:
            MetaMapError: not a file of pairs, or one whose content does not fit together.
        """
        arrays, metadata = load_arrays(path)
        found = metadata.get("format")
        if found != PAIRS_FORMAT or set(arrays) != set(PAIRS_SHAPES):
            raise MetaMapError(f"{path}: expected a file of pairs ({PAIRS_FORMAT}), got {found or 'another file'}")
        return cls(tasks=[Task.from_json(task) for task in json.loads(metadata["tasks"])], **arrays)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return every field but the tasks, by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "tasks"}


def _check_shapes(
    what: str,
    shapes: Mapping[str, tuple[int, ...]],
    letters: Mapping[str, str],
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Check that axes with the same letter have the same size, at least 1; name the first field that does not fit."""
    known = dict(sizes or {})
    for name, shape in shapes.items():
        axes = letters[name]
        for axis, size in zip(axes, shape, strict=False):
            known.setdefault(axis, size)
        expected = tuple(known.get(axis, axis) for axis in axes)
        if shape != expected or 0 in shape:
            legend = f"[{', '.join(axes)}]"
            raise MetaMapError(f"{what}: {name}: expected {legend} = {expected}, none of them 0, got {shape}")


def _families(tasks: Sequence[Task]) -> str:
    return ", ".join(sorted({task.family for task in tasks}))
