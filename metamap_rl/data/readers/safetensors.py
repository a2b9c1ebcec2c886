"""safetensors: rollouts of this project, and named arrays of others."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from metamap_agents.runtime.storage import load_arrays
from metamap_envs.errors import MetaMapError
from metamap_rl.data.readers.base import READERS, Reader, Recording, check_size
from metamap_rl.data.rollout_files import is_rollout, load_rollout

__all__ = ["Safetensors"]


@READERS.register("safetensors")
class Safetensors(Reader):
    """Named arrays."""

    suffixes: ClassVar[tuple[str, ...]] = (".safetensors",)

    def __call__(self, path: Path) -> Recording:
        """See `metamap_rl.data.readers.base.Reader`."""
        check_size(path, path.stat().st_size)
        arrays, metadata = load_arrays(path)
        if is_rollout(metadata):
            rollout = load_rollout(path)
            return Recording(rollout.arrays(), str(path), about={"family": rollout.family})
        if (tag := metadata.get("format", "")).startswith("metamap-"):
            raise MetaMapError(f"{path}: expected a rollout, got {tag!r}")
        return Recording({name: array for name, array in arrays.items() if array.ndim}, str(path))
