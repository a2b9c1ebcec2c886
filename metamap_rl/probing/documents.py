"""Probes as JSON documents, with tours as folders beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import arrays_to_bytes
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.probing.probes import PROBES, Probe
from metamap_rl.probing.tour import Tour

__all__ = ["packed_probe", "probe_from_json", "probe_identity", "probe_to_json", "unpacked_probe"]


def probe_to_json(probe: Probe) -> dict[str, Any]:
    """A probe's name and settings as plain JSON values."""
    return {"name": probe.name, **asdict(probe)}  # type: ignore[call-overload]  # registered probes are dataclasses


def probe_from_json(document: Mapping[str, Any]) -> Probe:
    """Inverse of `probe_to_json`; settings left out are at their defaults.

    Raises:
        MetaMapError: no or an unknown name, an unknown setting, or a value out of range.
    """
    settings = dict(document)
    if "name" not in settings:
        raise MetaMapError(f"a probe needs the key 'name'; it has {sorted(settings)}")
    cls = PROBES.get(settings.pop("name"))
    known = [item.name for item in fields(cls)]
    for key in settings:
        if key not in known:
            raise unknown_name("setting", key, known, of=f"probe {cls.name!r}")
    probe: Probe = cls(**settings)
    return probe


def packed_probe(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A probe's document for a folder, into which its tour is copied, with a relative path.

    Raises:
        MetaMapError: the tour does not exist, or the folder is not writable.
    """
    if not _follows_tour(document):
        return dict(document)
    Tour.load(document["tour"]).save(folder / "tour", overwrite=True)
    return {**document, "tour": "tour"}


def unpacked_probe(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Inverse of `packed_probe` for the folder's current location; other paths are used as they are."""
    if _follows_tour(document) and (folder / document["tour"]).is_dir():
        return {**document, "tour": str(folder / document["tour"])}
    return dict(document)


def probe_identity(document: Mapping[str, Any]) -> dict[str, Any]:
    """A key that is equal for probes of equal behaviour: the content of a tour, not its path."""
    if not _follows_tour(document):
        return dict(document)
    content = arrays_to_bytes(Tour.load(document["tour"]).arrays())
    return {**document, "tour": hashlib.sha256(content).hexdigest()}


def _follows_tour(document: Mapping[str, Any]) -> bool:
    return isinstance(document.get("tour"), str) and document["tour"] != ""
