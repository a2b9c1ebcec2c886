"""A mapper on disk: a folder with ``mapper.safetensors`` (arrays) and ``mapper.json`` (all else, the manifest).

Reading it runs no code from it. This module knows the manifest's keys; what they mean is the mapper's business.
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

FORMAT_VERSION = 3
"""Version of the artifact; any change of its content is a new one."""

_OLDER_VERSIONS = (1, 2)  # without a self-check; with one that looks at D as a whole only; otherwise the same

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

_OPTIONAL_TYPES: dict[str, type] = {"check": dict, "environment": dict}
"""Keys that a manifest may have or not; a mapper without "check" has no self-check, one without "environment" is older
than that key."""


def write(
    directory: str | Path,
    manifest: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    overwrite: bool = False,
) -> None:
    """Write an artifact; the format's and the libraries' versions are added to the manifest.

    Raises:
        MetaMapError: the folder holds something already and ``overwrite`` is not set, or a value in the manifest
            is nothing that JSON can hold.
    """
    directory = claim_output(directory, overwrite)
    save_arrays(directory / ARRAYS_FILE, arrays)
    versions = {"format_version": FORMAT_VERSION, "versions": library_versions()}
    write_json(directory / MANIFEST_FILE, {**manifest, **versions})


def read(directory: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read manifest and arrays of an artifact.

    Returns:
        The manifest, with the keys and types that :func:`write` gives it, and the arrays, all finite;
        whether their shapes fit the manifest is for the caller to check.

    Raises:
        MetaMapError: not a mapper's folder, another format version, an unknown or missing key, or damaged arrays.
    """
    directory = Path(directory)
    if not (directory / MANIFEST_FILE).is_file():
        raise MetaMapError(f"{directory}: not a saved mapper, there is no {MANIFEST_FILE} in it")
    manifest = _checked(read_json(directory / MANIFEST_FILE), directory / MANIFEST_FILE)
    arrays, _ = load_arrays(directory / ARRAYS_FILE)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise MetaMapError(f"{ARRAYS_FILE}: {name} holds values that are not finite")
    return manifest, arrays


def _checked(document: object, path: Path) -> dict[str, Any]:
    """Return the manifest if it is one of ours, of this version."""
    if not isinstance(document, dict) or "format_version" not in document:
        raise MetaMapError(f"{path}: not the manifest of a mapper, it has no format_version")
    # The version first: another version may well have other keys.
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
