"""Training pairs (D, phi*) of one family as arrays: rollouts and experts of its tasks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.base import BasePolicy
from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.task import Task
from metamap_rl.data.examples import Examples, check_shapes
from metamap_rl.data.rollouts import ROLLOUTS_SHAPES, Rollouts, check_types

__all__ = ["PAIRS_FORMAT", "Pairs"]

PAIRS_FORMAT = "metamap-pairs-1"

_EXPERT_SHAPES = {"phi": "TP", "states": "TSO", "expert_actions": "TSA", "parameters": "TK"}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs (D, phi*) of T tasks of one family, with what the losses need of each expert.

    Raises:
        MetaMapError: a field has the wrong dtype or number of axes, disagrees with another field, is empty or
            holds a value that is not finite.
    """

    rollouts: Rollouts
    """R probe rollouts of n transitions of each task."""
    phi: NDArray[np.float32]
    """phi* [T, P]."""
    states: NDArray[np.float32]
    """[T, S, O]: raw observations that the expert visited."""
    expert_actions: NDArray[np.float32]
    """[T, S, A]: the expert's mean actions there, not clipped."""
    parameters: NDArray[np.float32]
    """[T, K]: coordinates of the tasks (`ParameterSpace.coordinates`), for the privileged mapper."""

    def __post_init__(self) -> None:
        experts = self._experts()
        check_types("pairs", experts)
        sizes = {"T": len(self), "O": self.rollouts.observations.shape[-1], "A": self.rollouts.actions.shape[-1]}
        check_shapes("pairs", {name: array.shape for name, array in experts.items()}, _EXPERT_SHAPES, sizes=sizes)

    def __len__(self) -> int:
        """Number of tasks T."""
        return len(self.rollouts)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks."""
        return self.rollouts.tasks

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.rollouts.family

    def select(self, indices: Sequence[int]) -> Pairs:
        """Return the tasks at ``indices``, in that order, with all their arrays (copied).

        Raises:
            MetaMapError: an index outside [0, T), or none.
        """
        outside = [index for index in indices if not 0 <= index < len(self)]
        if outside or not len(indices):
            raise MetaMapError(f"pairs: expected indices in [0, {len(self)}), got {outside or 'none'}")
        chosen = {name: array[list(indices)] for name, array in self._experts().items()}
        return replace(self, rollouts=self.rollouts.select(indices), **chosen)

    def examples(self, base: BasePolicy) -> Examples:
        """Return the pairs as examples, with states normalised by the base policy's normaliser."""
        inputs = base.normalizer.apply(self.states).astype(np.float32)
        return Examples(
            features=torch.from_numpy(self.rollouts.features()),
            phi=torch.tensor(self.phi),
            inputs=torch.from_numpy(inputs),
            targets=torch.tensor(self.expert_actions),
            coordinates=torch.tensor(self.parameters),
            ends=torch.from_numpy(self.rollouts.ends),
            newest=torch.from_numpy(self.rollouts.newest) if self.rollouts.changed.any() else None,
        )

    def save(self, path: Path) -> None:
        """Write one .safetensors file, with the tasks as JSON in its metadata."""
        tasks = json.dumps([task.to_json() for task in self.tasks])
        save_arrays(path, {**self.rollouts.arrays(), **self._experts()}, {"format": PAIRS_FORMAT, "tasks": tasks})

    @classmethod
    def load(cls, path: Path) -> Pairs:
        """Read what :meth:`save` wrote.

        Raises:
            MetaMapError: not a file of pairs, or one whose content does not fit together.
        """
        arrays, metadata = load_arrays(path)
        found, names = metadata.get("format"), {*ROLLOUTS_SHAPES, *_EXPERT_SHAPES}
        if found != PAIRS_FORMAT or set(arrays) - {"changed"} | {"truncated"} != names:
            raise MetaMapError(f"{path}: expected a file of pairs ({PAIRS_FORMAT}), got {found or 'another file'}")
        if "truncated" not in arrays:
            arrays["truncated"] = _truncated(arrays)
        tasks = tuple(Task.from_json(task) for task in json.loads(metadata["tasks"]))
        rollouts = Rollouts(tasks, **{name: arrays[name] for name in (*ROLLOUTS_SHAPES, "changed") if name in arrays})
        return cls(rollouts, **{name: arrays[name] for name in _EXPERT_SHAPES})

    def _experts(self) -> dict[str, NDArray[Any]]:
        """The experts' arrays by name."""
        return {name: getattr(self, name) for name in _EXPERT_SHAPES}


def _truncated(arrays: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """The flags that files of 0.1 lack: the next transition starts elsewhere, though nothing terminated."""
    truncated = np.zeros_like(arrays["terminated"])
    jumps = (arrays["next_observations"][:, :, :-1] != arrays["observations"][:, :, 1:]).any(axis=-1)
    truncated[:, :, :-1] = jumps & ~arrays["terminated"][:, :, :-1]
    return truncated
