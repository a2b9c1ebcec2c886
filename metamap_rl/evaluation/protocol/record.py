"""What a run's directory holds, read back: cells to tables of returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metamap_agents.runtime.storage import read_json
from metamap_envs.errors import MetaMapError
from metamap_envs.settings import parse
from metamap_envs.task import Task
from metamap_rl.evaluation.protocol.config import ProtocolConfig
from metamap_rl.evaluation.protocol.settings import recorded_mapper
from metamap_rl.evaluation.scores import Evaluation, MethodScores, References, method_name

__all__ = ["FORMAT", "MANIFEST", "FamilyRecord", "RunRecord", "evaluation_of", "open_run"]

MANIFEST = "protocol.json"
FORMAT = "metamap-protocol-1"

Document = Mapping[str, Any]


@dataclass(frozen=True)
class FamilyRecord:
    """What is finished of one zoo of a family."""

    name: str
    """Of the family, with a number if the run has several zoos of it."""
    references: Document
    methods: dict[str, list[Document]]
    """Cells of each method, by seed."""
    learning: list[Document]
    episodes: int

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that were measured."""
        return tuple(self.references["splits"])

    def evaluation(self, split: str) -> Evaluation:
        """All methods on the tasks of a split: for each length of D the seeds that there are."""
        evaluation = evaluation_of(self.references, split, self.episodes)
        for name, cells in self.methods.items():
            scores = [score for cell in cells for score in cell["scores"] if score["split"] == split]
            evaluation.methods.extend(
                MethodScores.merged(name, [(score["steps"], score["returns"]) for score in scores])
            )
        return evaluation


@dataclass(frozen=True)
class RunRecord:
    """What is finished of a run."""

    root: Path
    config: ProtocolConfig
    manifest: Document

    def families(self) -> list[FamilyRecord]:
        """Families with references, in the order in which they were asked for."""
        names = [name for name in self.manifest["zoos"] if (self.root / name / "references.json").is_file()]
        return [self._family(name) for name in names]

    def _family(self, name: str) -> FamilyRecord:
        folder = self.root / name
        methods: dict[str, list[Document]] = {}
        for cell in sorted(map(read_json, (folder / "methods").glob("*.json")), key=lambda cell: int(cell["seed"])):
            methods.setdefault(method_name(cell["name"]), []).append(cell)
        learning = [read_json(path) for path in sorted((folder / "learning").glob("*.json"))]
        return FamilyRecord(name, read_json(folder / "references.json"), methods, learning, self.config.episodes)


def open_run(root: str | Path) -> RunRecord:
    """Open a run's directory.

    Raises:
        MetaMapError: it is none.
    """
    root = Path(root)
    if not (root / MANIFEST).is_file():
        raise MetaMapError(f"{root} is no run of the protocol: it has no {MANIFEST}; `metamap evaluate` makes one")
    manifest = read_json(root / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise MetaMapError(f"{root / MANIFEST}: expected the manifest of a run of the protocol ({FORMAT})")
    config = dict(manifest["config"])
    if isinstance(config.get("mapper"), Mapping):
        config["mapper"] = recorded_mapper(config["mapper"])
    config.setdefault("reference_episodes", config["episodes"])  # of an earlier version
    return RunRecord(root, parse(ProtocolConfig, config, str(root / MANIFEST)), manifest)


def evaluation_of(references: Document, split: str, episodes: int) -> Evaluation:
    """Random actions, base policy and experts on the tasks of a split; no method yet.

    Of every episode; of a run that was begun when means alone were kept, of those.
    """
    found = references["splits"][split]
    tasks = tuple(Task.from_json(task) for task in found["tasks"])
    random, base, expert = (np.array(found[name], dtype=np.float64) for name in ("random", "base", "expert"))
    if random.ndim == base.ndim == expert.ndim == 2:
        return Evaluation.of(tasks, References(random, base, expert), episodes)
    return Evaluation(tasks, episodes, random, base, expert)
