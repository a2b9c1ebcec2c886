"""Training pairs (D, phi*) of one family as arrays: tasks, rollouts, experts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
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
from metamap_rl.data.layout import transition_features

__all__ = ["PAIRS_FORMAT", "PAIRS_SHAPES", "Pairs", "_families"]


PAIRS_FORMAT = "metamap-pairs-1"


# Axes of equal letter must have equal size: T tasks, R rollouts, n steps, O observations, A actions,
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
    """[T, K]: coordinates of the tasks (`ParameterSpace.coordinates`), for the privileged mapper."""

    def __post_init__(self) -> None:
        arrays = self._arrays()
        for name, array in arrays.items():
            wanted = np.bool_ if name == "terminated" else np.float32
            if array.dtype != wanted:
                raise MetaMapError(f"pairs: {name}: expected {np.dtype(wanted)}, got {array.dtype}")
        shapes = {name: array.shape for name, array in arrays.items()}
        check_shapes("pairs", shapes, PAIRS_SHAPES, sizes={"T": len(self.tasks)})
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
        """Return the pairs as examples, with states normalised by the base policy's normaliser."""
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


def _families(tasks: Sequence[Task]) -> str:
    return ", ".join(sorted({task.family for task in tasks}))
