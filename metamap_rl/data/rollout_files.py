"""Rollouts on disk: one ``.safetensors`` file, read without running any code from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from metamap_agents.runtime.storage import load_arrays, save_arrays
from metamap_envs.errors import MetaMapError
from metamap_envs.identity import check_family, describe_family
from metamap_envs.rollout import Rollout
from metamap_envs.task import Task

__all__ = ["FORMAT", "is_rollout", "load_rollout", "save_rollout"]

FORMAT = "metamap-rollout-1"
"""Tag of the file; any change of its content is a new one."""
FORMAT_WITH_CHANGES = "metamap-rollout-2"
"""That of a rollout in which the task changed: one more array, ``changed``."""


def save_rollout(path: str | Path, rollout: Rollout) -> None:
    """Write a rollout: its arrays, and family and task as JSON in the metadata.

    Raises:
        MetaMapError: the name does not end in .safetensors, or it cannot be written.
    """
    task = None if rollout.task is None else rollout.task.to_json()
    about = json.dumps(
        {"family": rollout.family, "task": task, "environment": describe_family(rollout.family)}, sort_keys=True
    )
    tag = FORMAT_WITH_CHANGES if rollout.changed.any() else FORMAT
    save_arrays(path, rollout.arrays(), {"format": tag, "about": about})


def is_rollout(metadata: Mapping[str, str]) -> bool:
    """Whether a .safetensors file with this metadata is one of `save_rollout`, of whatever version."""
    return metadata.get("format", "").startswith("metamap-rollout")


def load_rollout(path: str | Path) -> Rollout:
    """Read what `save_rollout` wrote.

    Raises:
        MetaMapError: no such file, a truncated one, another kind of file, or arrays that do not fit the family,
            or it was made with another version or declaration of its family.
    """
    if Path(path).suffix != ".safetensors":
        raise MetaMapError(
            f"{path}: expected a name that ends in .safetensors, as save_rollout writes it; for other formats: "
            "read_rollout, or metamap rollout convert"
        )
    arrays, metadata = load_arrays(path)
    if metadata.get("format") not in (FORMAT, FORMAT_WITH_CHANGES):
        raise MetaMapError(f"{path}: expected a rollout ({FORMAT}), got {metadata.get('format', 'another file')!r}")
    try:
        about = json.loads(metadata["about"])
        family, task, environment = about["family"], about["task"], about.get("environment")
    except (KeyError, TypeError, ValueError):
        raise MetaMapError(f"{path}: its description is damaged; collect the rollout again") from None
    try:
        check_family(environment, family, "the rollout was")
        empty = Rollout.from_rows(family, [])
        expected = [*empty.arrays(), *(["changed"] if metadata["format"] == FORMAT_WITH_CHANGES else [])]
        if set(arrays) != set(expected):
            raise MetaMapError(f"expected the arrays {', '.join(expected)}, got {', '.join(sorted(arrays))}")
        return Rollout(family, **arrays, task=None if task is None else Task.from_json(task))
    except MetaMapError as error:
        raise MetaMapError(f"{path}: {error}") from None
