"""Content-addressed store of a stream's artifacts: no duplicates, and damage is detected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from metamap_agents.runtime.storage import arrays_to_bytes, load_arrays, write_bytes
from metamap_envs.errors import MetaMapError

__all__ = ["ArtifactStore"]

_NAME = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"([0-9a-f]{64})\.safetensors")
_TEMPORARY = re.compile(r"\.[0-9a-f]{64}\.safetensors\.[0-9a-f]+\.tmp")


class ArtifactStore:
    """A folder of files ``<sha256 of the file>.safetensors``, written atomically.

    Args:
        root: the folder, created with the first artifact.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def put(self, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
        """Store arrays and strings by name; returns the name of the artifact. Existing artifacts are not rewritten.

        Raises:
            MetaMapError: an unsupported type, or a write error.
        """
        content = arrays_to_bytes(arrays, metadata, "artifact")
        name = hashlib.sha256(content).hexdigest()
        path = self._path(name)
        # Compare sizes, so that a truncated file is replaced.
        if not path.is_file() or path.stat().st_size != len(content):
            write_bytes(path, content)
        return name

    def get(self, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """Read the arrays and strings of an artifact.

        Raises:
            MetaMapError: not a name, no such artifact, or content that does not match its name.
        """
        path = self._path(name)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise MetaMapError(f"{path}: this artifact is missing") from None
        except OSError as error:
            raise MetaMapError(f"{path}: cannot be read ({error.strerror})") from error
        if hashlib.sha256(content).hexdigest() != name:
            raise MetaMapError(f"{path}: damaged, its content does not match its name")
        return load_arrays(path)

    def has(self, name: str) -> bool:
        """Whether an artifact exists; its content is not checked."""
        return self._path(name).is_file()

    def keep(self, names: Collection[str]) -> None:
        """Remove all other artifacts, and temporary files of killed processes.

        Raises:
            MetaMapError: a file cannot be removed.
        """
        wanted = set(names)
        try:
            for path in list(self.root.iterdir()) if self.root.is_dir() else []:
                found = _FILE.fullmatch(path.name)
                if _TEMPORARY.fullmatch(path.name) or (found and found[1] not in wanted):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise MetaMapError(f"{self.root}: cannot be cleared of old artifacts ({error.strerror})") from error

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):  # names are read from files: they must not lead out of the folder
            raise MetaMapError(f"expected the name of an artifact, 64 hexadecimal digits, got {name!r}")
        return self.root / f"{name}.safetensors"
