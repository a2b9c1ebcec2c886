"""The folder of a build: its settings, how long each stage took, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import claim_output, library_versions, read_json, write_json
from metamap_envs.errors import MetaMapError
from metamap_rl.building.plan import BuildPlan

__all__ = ["BUILD", "RESULTS", "BuildRecord", "claim_build"]

BUILD, RESULTS = "build.json", "results.json"
_FORMAT = "metamap-build-1"


@dataclass
class BuildRecord:
    """What is stored of a build.

    Attributes:
        path: the document.
        plan: settings, as JSON values.
        estimate: seconds of each stage, estimated at the start; empty before that.
        seconds: seconds that each stage took, over all processes that worked on it.
        cpu_seconds: CPU time of those, with the processes that trained experts.
        outcome: "mapper", "no gap", or None while it is not finished.
        experts: the comparison of experts and base policy.
    """

    path: Path
    plan: Mapping[str, Any]
    estimate: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    outcome: str | None = None
    experts: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "format": _FORMAT,
            "plan": self.plan,
            "estimate": {name: round(value, 1) for name, value in self.estimate.items()},
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "cpu_seconds": round(self.cpu_seconds, 1),
            "outcome": self.outcome,
            "experts": self.experts,
            "machine": describe_machine(),
            "versions": library_versions(),
        }

    def save(self) -> None:
        """Write the document."""
        write_json(self.path, self.document())


def claim_build(folder: Path, plan: BuildPlan) -> BuildRecord:
    """Check that a build may write to a folder, and read what an earlier one with the same settings left there.

    Raises:
        MetaMapError: the folder holds something else, or a build with other settings.
    """
    path = folder / BUILD
    if not path.is_file():
        claim_output(folder)
        return BuildRecord(path, plan.document())
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise MetaMapError(f"{path} was not written by this version's build; choose another folder with --out")
    _check_same(folder, document.get("plan"), plan.document())
    try:
        return BuildRecord(
            path,
            plan.document(),
            estimate=_numbers(document["estimate"]),
            seconds=_numbers(document["seconds"]),
            cpu_seconds=float(document["cpu_seconds"]),
            experts=document["experts"],
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise MetaMapError(f"{path}: damaged; remove it to build on what the folder holds") from None


def _numbers(values: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _check_same(folder: Path, before: Any, now: Mapping[str, Any]) -> None:
    if not isinstance(before, Mapping):
        raise MetaMapError(f"{folder / BUILD}: damaged: it has no plan")
    for name, value in now.items():
        was, wanted = before.get(name), _plain(value)
        if was == wanted:
            continue
        if isinstance(was, Mapping) and isinstance(wanted, Mapping):
            key = next(each for each in {**was, **wanted} if was.get(each) != wanted.get(each))
            name, was, wanted = f"{name}: {key}", was.get(key), wanted.get(key)
        raise MetaMapError(
            f"{folder} holds a build with {name} = {was}, asked for is {wanted}: go on with the same settings, or "
            "choose another folder with --out"
        )


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
