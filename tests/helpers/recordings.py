"""A rollout of two episodes, and its recordings in other formats."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from metamap_envs import Rollout, get_family
from metamap_rl import export, load, save_rollout
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.documents import probe_from_json

FAMILY = "reacher-goal"


@cache
def recorded(family: str = FAMILY, steps: int = 70, task: int = 0) -> Rollout:
    """A rollout of a bundled mapper's probe on a test task; reacher-goal's episodes have 50 steps."""
    mapper, tasks = load(family), get_family(family).sample("test-in", task + 1, 0)
    found = collect(probe_from_json(mapper.probe), tasks[task:], mapper.base, steps=steps, seed=0, num_threads=1)
    return found.rollout(0)


def changed(rollout: Rollout, **arrays: NDArray[Any]) -> Rollout:
    """The rollout with other arrays."""
    return Rollout(rollout.family, **{**rollout.arrays(), **arrays})


def numbered(rollout: Rollout) -> dict[str, NDArray[Any]]:
    """A column for each number."""
    columns: dict[str, NDArray[Any]] = {}
    for name, short in (("observations", "obs"), ("actions", "action"), ("next_observations", "next_obs")):
        array = getattr(rollout, name)
        columns |= {f"{short}_{index}": array[:, index] for index in range(array.shape[1])}
    flags = {name: getattr(rollout, name).astype(np.int64) for name in ("terminated", "truncated")}
    return {**columns, "reward": rollout.rewards, **flags}


def write_csv(path: Path, columns: dict[str, NDArray[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(map(str, values.tolist()) for values in columns.values()), strict=True))
    return path


def as_csv(rollout: Rollout, folder: Path) -> Path:
    return write_csv(folder / "log.csv", numbered(rollout))


def as_npz(rollout: Rollout, folder: Path) -> Path:
    np.savez(folder / "log.npz", **rollout.arrays())
    return folder / "log.npz"


def as_safetensors(rollout: Rollout, folder: Path) -> Path:
    save_rollout(folder / "log.safetensors", rollout)
    return folder / "log.safetensors"


def as_parquet(rollout: Rollout, folder: Path) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="needs metamap-rl[parquet]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs metamap-rl[parquet]")
    parquet.write_table(arrow.table(numbered(rollout)), folder / "log.parquet")
    return folder / "log.parquet"


def as_minari(rollout: Rollout, folder: Path) -> Path:
    pytest.importorskip("minari", reason="needs metamap-rl[minari]")
    pytest.importorskip("h5py", reason="needs metamap-rl[minari]")
    return export(rollout, folder / "minari", "minari")


def as_d4rl(rollout: Rollout, folder: Path) -> Path:
    h5py = pytest.importorskip("h5py", reason="needs metamap-rl[minari]")
    with h5py.File(folder / "log.hdf5", "w") as file:
        for name, array in rollout.arrays().items():
            file[{"terminated": "terminals", "truncated": "timeouts"}.get(name, name)] = array
    return folder / "log.hdf5"


def as_lerobot(rollout: Rollout, folder: Path, *, version: str = "v3.0") -> Path:
    """Frames, with the last observation of each episode in one of its own; in version 2 a file for each episode."""
    arrow = pytest.importorskip("pyarrow", reason="needs metamap-rl[parquet]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs metamap-rl[parquet]")
    numbers, kinds = arrow.list_(arrow.float32()), {"index": arrow.int64(), "bool": arrow.bool_()}
    schema = arrow.schema(
        [
            ("observation.state", numbers),
            ("action", numbers),
            ("next.reward", arrow.float32()),
            ("next.done", kinds["bool"]),
            ("timestamp", arrow.float32()),
            ("frame_index", kinds["index"]),
            ("episode_index", kinds["index"]),
        ]
    )
    ends = np.flatnonzero(rollout.terminated | rollout.truncated) + 1
    episodes = np.split(np.arange(len(rollout)), ends[ends < len(rollout)])
    step = get_family(rollout.family).step_seconds
    tables = []
    for number, rows in enumerate(episodes):
        seen = np.concatenate([rollout.observations[rows], rollout.next_observations[rows[-1:]]])
        frames = [
            {
                "observation.state": seen[at].tolist(),
                "action": rollout.actions[rows[min(at, len(rows) - 1)]].tolist(),
                "next.reward": float(rollout.rewards[rows[min(at, len(rows) - 1)]]),
                "next.done": at == len(rows) - 1,
                "timestamp": at * step,
                "frame_index": at,
                "episode_index": number,
            }
            for at in range(len(seen))
        ]
        tables.append(arrow.Table.from_pylist(frames, schema=schema))
    root = folder / "lerobot"
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    about = {"codebase_version": version, "fps": 1.0 / step, "total_frames": sum(map(len, tables))}
    (root / "meta" / "info.json").write_text(json.dumps(about))
    if version == "v3.0":
        tables = [arrow.concat_tables(tables)]
    name = "file-{:03d}.parquet" if version == "v3.0" else "episode_{:06d}.parquet"
    for number, table in enumerate(tables):
        parquet.write_table(table, root / "data" / "chunk-000" / name.format(number))
    return root


FORMATS: dict[str, Callable[[Rollout, Path], Path]] = {
    "csv": as_csv,
    "hdf5": as_d4rl,
    "lerobot": as_lerobot,
    "minari": as_minari,
    "npz": as_npz,
    "parquet": as_parquet,
    "safetensors": as_safetensors,
}
"""By the name of the reader."""
