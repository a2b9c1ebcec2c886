"""HDF5: data sets of Minari and D4RL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.storage import read_json
from metamap_envs.errors import MetaMapError, one_line
from metamap_rl.common.extras import optional_module
from metamap_rl.data.readers.base import READERS, Recording, check_size, size_of

__all__ = ["Hdf5", "Minari"]

_MAIN = "main_data.hdf5"
_ROLES = {
    "observations": "observations",
    "actions": "actions",
    "rewards": "rewards",
    "terminations": "terminated",
    "truncations": "truncated",
}
"""Minari's arrays of an episode, and their names in a rollout."""


@READERS.register("hdf5")
class Hdf5:
    """A file of D4RL (arrays at the top), or the main file of a Minari data set (a group for each episode).

    The file alone is read, by h5py: what it refers to elsewhere is refused.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".hdf5", ".h5")

    def recognises(self, folder: Path) -> bool:
        """Never: it is a file."""
        return False

    def __call__(self, path: Path) -> Recording:
        """See `metamap_rl.data.readers.base.Reader`."""
        h5py = optional_module("h5py", "minari")
        try:
            with h5py.File(path, "r") as file:
                episodes = _episodes(file)
                read = _read_episodes if episodes else _read_flat
                return Recording(read(h5py, file, episodes, path), str(path))
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, MetaMapError):
                raise
            raise MetaMapError(
                f"{path}: expected an HDF5 file, this one is cut off or something else ({one_line(error)})"
            ) from error


@READERS.register("minari")
class Minari:
    """Folder of a Minari data set, or the folder ``data`` in it. Its environment is not made: that may run code."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    def recognises(self, folder: Path) -> bool:
        """Whether it has Minari's ``metadata.json``."""
        return any((place / "metadata.json").is_file() for place in (folder, folder / "data"))

    def __call__(self, path: Path) -> Recording:
        """See `metamap_rl.data.readers.base.Reader`."""
        place = path if (path / "metadata.json").is_file() else path / "data"
        about = read_json(place / "metadata.json")
        if not isinstance(about, dict) or about.get("data_format", "hdf5") != "hdf5":
            kind = about.get("data_format") if isinstance(about, dict) else about
            raise MetaMapError(f"{path}: expected a Minari data set with data_format='hdf5', got {kind!r}")
        if not (place / _MAIN).is_file():
            raise MetaMapError(f"{path}: expected {_MAIN} beside metadata.json, there is none")
        found = Hdf5()(place / _MAIN)
        return Recording(found.columns, str(path), found.seconds, found.about)


def _episodes(file: Any) -> list[str]:
    """Names of Minari's episodes, in order."""
    found = [(int(match[1]), name) for name in file if (match := re.fullmatch(r"episode_(\d+)", name))]
    return [name for _, name in sorted(found)]


def _read_episodes(h5py: Any, file: Any, episodes: list[str], path: Path) -> dict[str, NDArray[Any]]:
    """Transitions of all episodes, with their number."""
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in (*_ROLES.values(), "next_observations", "episode")}
    needed = 0
    for number, name in enumerate(episodes):
        group, parts = _member(h5py, file, name, path), {}
        for key, role in _ROLES.items():
            array = _member(h5py, group, key, path)
            if not isinstance(array, h5py.Dataset):
                raise MetaMapError(f"{path}: {name}: {key}: expected an array; data sets of Dict spaces are not read")
            needed += size_of(array.shape, array.dtype)
            check_size(path, needed)
            parts[role] = _numbers(array, f"{path}: {name}: {key}")
        count = len(parts["actions"])
        if len(parts["observations"]) != count + 1:
            found = len(parts["observations"])
            raise MetaMapError(f"{path}: {name}: expected {count + 1} observations for {count} actions, got {found}")
        parts["next_observations"] = parts["observations"][1:]
        parts["observations"] = parts["observations"][:-1]
        parts["episode"] = np.full(count, number)
        for role, array in parts.items():
            rows[role].append(array)
    try:
        return {role: np.concatenate(arrays) for role, arrays in rows.items()}
    except ValueError:
        raise MetaMapError(f"{path}: expected arrays of one width in all episodes") from None


def _read_flat(h5py: Any, file: Any, _: list[str], path: Path) -> dict[str, NDArray[Any]]:
    """Arrays at the top of a file."""
    arrays = {name: array for name in file if isinstance(array := _member(h5py, file, name, path), h5py.Dataset)}
    arrays = {name: array for name, array in arrays.items() if array.shape}
    if not arrays:
        raise MetaMapError(f"{path}: expected arrays at the top, as D4RL has, or Minari's episodes; there are neither")
    check_size(path, sum(size_of(array.shape, array.dtype) for array in arrays.values()))
    return {name: _numbers(array, f"{path}: {name}") for name, array in arrays.items() if array.dtype.kind in "fiub"}


def _member(h5py: Any, group: Any, name: str, path: Path) -> Any:
    """A member of a group, which is in this file itself."""
    if name not in group:
        raise MetaMapError(f"{path}: {group.name}: expected {name!r}, there is none; a part of the file is missing")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise MetaMapError(f"{path}: {name}: refers to another place, which is not read")
    member = group[name]
    if isinstance(member, h5py.Dataset) and (member.external or member.is_virtual):
        raise MetaMapError(f"{path}: {name}: refers to another file, which is not read")
    return member


def _numbers(array: Any, where: str) -> NDArray[Any]:
    """Content of an array."""
    if array.dtype.kind not in "fiub":
        raise MetaMapError(f"{where}: expected numbers, got {array.dtype}")
    return np.asarray(array[()])
