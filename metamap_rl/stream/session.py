"""State of the streaming loop, and its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.policy.base import BasePolicy
from metamap_envs.errors import MetaMapError
from metamap_rl.mapper.scales import Scales
from metamap_rl.probing.probes import Probe
from metamap_rl.stream.config import StreamConfig
from metamap_rl.stream.embodied import EmbodiedMapper
from metamap_rl.stream.experts import ExpertCache
from metamap_rl.stream.kinds import Arrival
from metamap_rl.stream.learners.base import MapperLearner
from metamap_rl.stream.memory import Item, Memory
from metamap_rl.stream.record import Record
from metamap_rl.stream.scoreboard import Scoreboard
from metamap_rl.stream.shift import ShiftDetector
from metamap_rl.stream.store import ArtifactStore
from metamap_rl.training.config import UpdateConfig

__all__ = ["SegmentExpert", "Session"]

_FORMAT = "metamap-stream-checkpoint-1"


@dataclass(frozen=True, eq=False)
class SegmentExpert:
    """The expert of the current segment, reused until the next boundary."""

    phi: NDArray[np.float32]
    """phi* [P]."""
    expert_return: float
    base_return: float


@dataclass
class Session:
    """A stream in progress: fixed services, and mutable state."""

    config: StreamConfig
    arrivals: tuple[Arrival, ...]
    cache: ExpertCache
    probe: Probe
    update: UpdateConfig
    stream_board: Scoreboard
    held_out_board: Scoreboard | None
    record: Record
    store: ArtifactStore

    learner: MapperLearner
    mapper: EmbodiedMapper
    memory: Memory
    detector: ShiftDetector
    slot: int = -1
    """Number of the current segment, by the learner's boundaries."""
    known: SegmentExpert | None = None
    num_threads: int = 0
    kept: set[str] = field(default_factory=set)
    """Artifacts that are results and always kept."""
    _needed: set[str] = field(default_factory=set)
    """Artifacts of the last checkpoint."""

    def map(self, embodiment: str, features: Tensor) -> NDArray[np.float32]:
        """Weights [B, P] for feature rows [B, k, F]; phi_0 for a new embodiment.

        Raises:
            MetaMapError: the weights are not finite.
        """
        if embodiment not in self.mapper:
            return np.tile(self.cache.base(embodiment).phi, (len(features), 1))
        phis: NDArray[np.float32] = self.learner.generate(self.mapper, self.memory, embodiment, features).numpy()
        if not np.isfinite(phis).all():
            raise MetaMapError(f"the weights generated for {embodiment!r} are not finite: lower update.learning_rate")
        return phis

    def meet(self, embodiment: str, base: BasePolicy, features: Tensor, phi: Tensor, family: str) -> None:
        """Add a head for an embodiment, with units from the first task: D [R, n, F] and phi* [P].

        The units are fixed, since a change would change the mapper's output.
        """
        if embodiment not in self.mapper:
            scales = Scales.of_first_task(features, phi, torch.from_numpy(base.phi))
            self.mapper.add(embodiment, base, scales, family=family, probe=self.config.probe)

    # state ----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> SessionSnapshot:
        """Copy the mutable state, for `roll_back`."""
        return SessionSnapshot(
            mapper=self.mapper.arrays(),
            learner=self.learner.arrays(),
            detector=self.detector.arrays(),
            items=list(self.memory.items),
            embodiments=self.mapper.embodiments,
            slot=self.slot,
            known=self.known,
        )

    def roll_back(self, before: SessionSnapshot) -> None:
        """Restore a snapshot."""
        self.mapper.forget(set(self.mapper.embodiments) - set(before.embodiments))
        self.mapper.restore(before.mapper)
        self.learner.restore(before.learner, self.mapper)
        self.detector = ShiftDetector.from_arrays(before.detector)
        self.memory.items = list(before.items)
        self.slot, self.known = before.slot, before.known

    def save(self) -> str:
        """Save the state as artifacts; returns the name of the checkpoint artifact, which refers to the others."""
        known = self.known
        arrays = {
            **_prefixed("mapper", self.mapper.arrays()),
            **_prefixed("learner", self.learner.arrays()),
            **_prefixed("detector", self.detector.arrays()),
            **({"known.phi": known.phi} if known is not None else {}),
        }
        document = {
            "embodiments": [
                {"name": name, "family": self.mapper[name].family, "base": self._save_base(self.mapper[name].base)}
                for name in self.mapper
            ],
            "memory": [self._save_item(item) for item in self.memory.items],
            "slot": self.slot,
            "known": [known.expert_return, known.base_return] if known is not None else None,
        }
        checkpoint = self.store.put(arrays, {"format": _FORMAT, "state": json.dumps(document, sort_keys=True)})
        self._needed = _artifacts(checkpoint, document)
        return checkpoint

    def _save_base(self, base: BasePolicy) -> str:
        # Without the training record, which contains times, so that equal weights have equal names.
        about = {**base.describe(), "record": {}}
        return self.store.put(base.to_arrays(), {"base": json.dumps(about, sort_keys=True)})

    def _save_item(self, item: Item) -> str:
        return self.store.put(item.arrays(), {"embodiment": item.embodiment})

    def restore(self, checkpoint: str, *, drop_damaged: bool = False) -> list[str]:
        """Restore the state of `save`.

        Args:
            checkpoint: result of `save`.
            drop_damaged: drop rollouts of the memory whose files are damaged.

        Returns:
            A sentence for each dropped rollout.

        Raises:
            MetaMapError: a file is missing or damaged.
        """
        arrays, metadata = self.store.get(checkpoint)
        if metadata.get("format") != _FORMAT:
            raise MetaMapError(f"artifact {checkpoint}: not the checkpoint of a stream ({_FORMAT})")
        document = json.loads(metadata["state"])
        self._needed = _artifacts(checkpoint, document)
        for entry in document["embodiments"]:
            self._restore_embodiment(entry, arrays)
        self.mapper.restore(_part("mapper", arrays), f"artifact {checkpoint}")
        self.learner.restore(_part("learner", arrays), self.mapper)
        self.detector = ShiftDetector.from_arrays(_part("detector", arrays))
        self.slot = document["slot"]
        self.known = SegmentExpert(arrays["known.phi"], *document["known"]) if document["known"] is not None else None
        return self._restore_memory(document["memory"], drop_damaged)

    def _restore_embodiment(self, entry: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add a head of the right sizes; its units and weights are restored with the mapper's arrays."""
        base_arrays, about = self.store.get(entry["base"])
        base = BasePolicy.from_arrays(base_arrays, json.loads(about["base"]), f"artifact {entry['base']}")
        prefix = f"mapper.unit.{entry['name']}."
        units = {
            name.removeprefix(prefix): torch.from_numpy(np.array(array))
            for name, array in arrays.items()
            if name.startswith(prefix)
        }
        self.mapper.add(entry["name"], base, Scales(**units), family=entry["family"], probe=self.config.probe)

    def _restore_memory(self, names: list[str], drop_damaged: bool) -> list[str]:
        self.memory.items, dropped = [], []
        for name in names:
            try:
                arrays, metadata = self.store.get(name)
                item = Item.from_arrays(arrays, metadata.get("embodiment", ""), f"memory: artifact {name}")
            except MetaMapError as error:
                if not drop_damaged:
                    raise MetaMapError(f"memory: {error}") from None
                dropped.append(f"memory: a rollout was dropped: {error}")
                continue
            self.memory.items.append(item)
        return dropped

    def collect_garbage(self) -> None:
        """Remove artifacts used neither by the results nor by the last checkpoint."""
        self.store.keep(self._needed | self.kept)


@dataclass(frozen=True)
class SessionSnapshot:
    """State of a session in memory."""

    mapper: dict[str, NDArray[Any]]
    learner: dict[str, NDArray[Any]]
    detector: dict[str, NDArray[Any]]
    items: list[Item]
    embodiments: tuple[str, ...]
    slot: int
    known: SegmentExpert | None


def _artifacts(checkpoint: str, document: Mapping[str, Any]) -> set[str]:
    """Names of all artifacts of a checkpoint."""
    return {checkpoint, *(entry["base"] for entry in document["embodiments"]), *document["memory"]}


def _prefixed(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _part(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    start = f"{prefix}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
