"""A mapper on disk: a folder with ``mapper.safetensors`` (arrays) and ``mapper.json`` (manifest: everything else).

Reading executes no code from the folder. This module validates the manifest's keys and types; `Mapper` interprets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.storage import (
    claim_output,
    library_versions,
    load_arrays,
    read_json,
    save_arrays,
    write_json,
)
from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["ARRAYS_FILE", "FORMAT_VERSION", "MANIFEST_FILE", "read", "write"]

FORMAT_VERSION = 4
"""Version of the artifact; incremented when its content changes."""

_OLDER_VERSIONS = (1, 2, 3)
"""1 has no self-check, 2 one of D as a whole only, 3 neither universal policy nor actors; otherwise the same."""

ARRAYS_FILE = "mapper.safetensors"
MANIFEST_FILE = "mapper.json"

MANIFEST_TYPES: dict[str, type] = {
    "format_version": int,
    "family": str,
    "feature_size": int,
    "coordinates": list,
    "base": dict,
    "probe": dict,
    "config": dict,
    "record": dict,
    "versions": dict,
}

_OPTIONAL_TYPES: dict[str, type] = {"check": dict, "environment": dict, "universal": dict, "actors": dict}
"""Optional keys; a mapper without "check" has no self-check, one without "environment" predates that key, one without
"universal" comes from a zoo without a universal policy, one without "actors" was trained on D of its probe alone."""


def write(
    directory: str | Path,
    manifest: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    overwrite: bool = False,
) -> None:
    """Write an artifact; adds the versions of the format and the libraries to the manifest.

    Raises:
        MetaMapError: the folder is not empty and ``overwrite`` is not set, or the manifest is not JSON-serialisable.
    """
    directory = claim_output(directory, overwrite)
    save_arrays(directory / ARRAYS_FILE, arrays)
    versions = {"format_version": FORMAT_VERSION, "versions": library_versions()}
    write_json(directory / MANIFEST_FILE, {**manifest, **versions})


def read(directory: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read manifest and arrays of an artifact.

    Returns:
        The manifest, with its keys and types checked, and the arrays, all finite; shapes are not checked.

    Raises:
        MetaMapError: not a mapper folder, an unsupported format version, an unknown or missing key, or damaged arrays.
    """
    directory = Path(directory)
    if not (directory / MANIFEST_FILE).is_file():
        raise MetaMapError(f"{directory}: not a saved mapper, it has no {MANIFEST_FILE}")
    manifest = _checked(read_json(directory / MANIFEST_FILE), directory / MANIFEST_FILE)
    arrays, _ = load_arrays(directory / ARRAYS_FILE)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise MetaMapError(f"{ARRAYS_FILE}: {name} holds values that are not finite")
    return manifest, arrays


def _checked(document: object, path: Path) -> dict[str, Any]:
    """Return the manifest if its version, keys and types are valid."""
    if not isinstance(document, dict) or "format_version" not in document:
        raise MetaMapError(f"{path}: not a mapper manifest, it has no format_version")
    # The version first: other versions may have other keys.
    if document["format_version"] not in (FORMAT_VERSION, *_OLDER_VERSIONS):
        raise MetaMapError(
            f"{path}: format version {document['format_version']!r}, this metamap_rl reads {FORMAT_VERSION} and older"
        )
    known = MANIFEST_TYPES | _OPTIONAL_TYPES
    for key in document:
        if key not in known:
            raise MetaMapError(f"{path}: {unknown_name('key', key, known)}")
    for key, kind in known.items():
        if key in _OPTIONAL_TYPES and key not in document:
            continue
        if not isinstance(document.get(key), kind):
            raise MetaMapError(f"{path}: {key}: expected {kind.__name__}, got {document.get(key)!r}")
    if document["feature_size"] < 1:
        raise MetaMapError(f"{path}: feature_size: expected at least 1, got {document['feature_size']}")
    return document
