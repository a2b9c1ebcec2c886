"""MJCF files of the installed Gymnasium package, read through `MjSpec`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import mujoco

from metamap_envs.errors import MetaMapError

__all__ = ["gymnasium_asset"]


def gymnasium_asset(file_name: str, *, settotalmass: float | None = None) -> mujoco.MjSpec:
    """Read one of Gymnasium's own MuJoCo models as an editable spec.

    Args:
        file_name: name in `gymnasium/envs/mujoco/assets`, e.g. "half_cheetah.xml".
        settotalmass: if given, overrides the compiler attribute. MuJoCo 4 warns about it on every compilation and
            writes MUJOCO_LOG.TXT into the working directory; -1 switches it off, and the caller scales the masses.

    Raises:
        MetaMapError: the installed Gymnasium has no such file.
    """
    found = importlib.util.find_spec("gymnasium")
    if found is None or found.origin is None:
        raise MetaMapError("gymnasium is not installed; install metamap-rl with its dependencies")
    path = Path(found.origin).parent / "envs" / "mujoco" / "assets" / file_name
    if not path.is_file():
        raise MetaMapError(f"the installed gymnasium has no MuJoCo model {file_name!r} (looked in {path.parent})")
    spec = mujoco.MjSpec.from_file(str(path))
    if settotalmass is not None:
        spec.compiler.settotalmass = settotalmass
    return spec
