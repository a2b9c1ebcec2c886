"""LeRobot data sets: a folder with ``meta/info.json`` and frames in Parquet (versions 2 and 3)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.storage import read_json
from metamap_envs.errors import MetaMapError
from metamap_rl.data.readers.base import READERS, Recording, check_size
from metamap_rl.data.readers.parquet import read_table

__all__ = ["LeRobot"]

_INFO = Path("meta", "info.json")


@READERS.register("lerobot")
class LeRobot:
    """Frames: ``observation.state``, ``action``, ``next.reward``, ``next.done``, ``episode_index``, ``timestamp``.

    A frame has no next observation: it is that of the next frame of its episode, so that the last frame of each
    episode is no transition. Images and videos are left out.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    def recognises(self, folder: Path) -> bool:
        """Whether it has ``meta/info.json``."""
        return (folder / _INFO).is_file()

    def __call__(self, path: Path) -> Recording:
        """See `metamap_rl.data.readers.base.Reader`."""
        info = read_json(path / _INFO)
        if not isinstance(info, dict):
            raise MetaMapError(f"{path / _INFO}: expected a description of a LeRobot data set")
        version, rate = str(info.get("codebase_version", "")), info.get("fps")
        if re.match(r"v[23](\.|$)", version) is None:
            raise MetaMapError(f"{path}: expected a LeRobot data set of version 2 or 3, got {version!r}")
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < float("inf"):
            raise MetaMapError(f"{path / _INFO}: fps: expected a number above 0, got {rate!r}")
        files = sorted((path / "data").glob("chunk-*/*.parquet"))
        if not files:
            raise MetaMapError(f"{path}: expected frames in data/chunk-*/*.parquet, there are none")
        columns = _joined([(file, read_table(file)) for file in files], path)
        frames = info.get("total_frames")
        found = min((len(values) for values in columns.values()), default=0)
        if isinstance(frames, int) and frames != found:
            raise MetaMapError(f"{path}: expected {frames} frames, its files have {found}; a part of them is missing")
        return Recording(columns, str(path), seconds=1.0 / rate)


def _joined(tables: list[tuple[Path, dict[str, NDArray[Any]]]], path: Path) -> dict[str, NDArray[Any]]:
    """Columns of all files, in the order of their frames."""
    names = list(tables[0][1])
    for file, table in tables:
        if list(table) != names:
            raise MetaMapError(f"{file}: expected the columns {', '.join(names)}, got {', '.join(table)}")
        check_size(path, sum(values.nbytes for _, each in tables for values in each.values()))
    try:
        columns = {name: np.concatenate([table[name] for _, table in tables]) for name in names}
    except ValueError:
        raise MetaMapError(f"{path}: expected columns of one width in all files") from None
    if {"episode_index", "frame_index"} <= set(columns):
        order = np.lexsort((columns["frame_index"], columns["episode_index"]))
        columns = {name: values[order] for name, values in columns.items()}
    return columns
