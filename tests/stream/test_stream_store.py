"""Artifacts by content hash: stored once, verified when read, cleared by name."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.store import ArtifactStore

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([True, False])}
TEXTS = {"kind": "test", "zeta": "ä"}
NOT_THERE = "0" * 64


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_what_was_put_comes_back(store: ArtifactStore) -> None:
    arrays, texts = store.get(store.put(ARRAYS, TEXTS))
    assert texts == TEXTS
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_the_name_is_the_hash_of_the_file(store: ArtifactStore) -> None:
    name = store.put(ARRAYS, TEXTS)
    assert hashlib.sha256((store.root / f"{name}.safetensors").read_bytes()).hexdigest() == name


def test_the_same_content_is_one_file_that_is_not_written_again(store: ArtifactStore) -> None:
    name = store.put(ARRAYS, TEXTS)
    path = store.root / f"{name}.safetensors"
    os.utime(path, (1, 1))
    assert store.put(dict(reversed(ARRAYS.items())), TEXTS) == name
    assert path.stat().st_mtime == 1
    assert len(list(store.root.iterdir())) == 1


@pytest.mark.parametrize(
    ("arrays", "texts"),
    [({**ARRAYS, "a": ARRAYS["a"] + 1e-6}, TEXTS), ({"c": ARRAYS["a"], "b": ARRAYS["b"]}, TEXTS), (ARRAYS, {})],
)
def test_other_content_has_another_name(store: ArtifactStore, arrays: dict[str, np.ndarray], texts: dict) -> None:
    assert store.put(arrays, texts) != store.put(ARRAYS, TEXTS)


def test_has(store: ArtifactStore) -> None:
    assert not store.has(NOT_THERE)
    assert store.has(store.put(ARRAYS, TEXTS))


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_a_damaged_file_is_named(store: ArtifactStore, damage: str) -> None:
    name = store.put(ARRAYS, TEXTS)
    path = store.root / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-1] ^= 1  # a number in an array: still a valid file
    path.write_bytes({"cut": content[:-5], "flip": content, "other": b"hello"}[damage])
    with pytest.raises(MetaMapError, match=rf"{name}\.safetensors: damaged"):
        store.get(name)


def test_a_file_that_was_cut_short_is_put_right(store: ArtifactStore) -> None:
    name = store.put(ARRAYS, TEXTS)
    (store.root / f"{name}.safetensors").write_bytes(b"")
    store.put(ARRAYS, TEXTS)
    assert store.get(name)[1] == TEXTS


def test_a_missing_artifact_is_named(store: ArtifactStore) -> None:
    with pytest.raises(MetaMapError, match=f"{NOT_THERE}.*missing"):
        store.get(NOT_THERE)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, NOT_THERE + "0", NOT_THERE + "\n"])
def test_a_name_cannot_lead_anywhere_else(store: ArtifactStore, name: str) -> None:
    for use in (store.get, store.has):
        with pytest.raises(MetaMapError, match="64 hexadecimal digits"):
            use(name)


def test_keep_removes_the_others_and_half_written_files_only(store: ArtifactStore) -> None:
    kept, gone = store.put(ARRAYS, TEXTS), store.put(ARRAYS, {})
    stale = store.root / f".{NOT_THERE}.safetensors.0123456789abcdef.tmp"
    foreign = [store.root / "README", store.root / "notes.safetensors"]
    for path in [stale, *foreign]:
        path.write_text("x")
    store.keep({kept})
    assert store.has(kept)
    assert not store.has(gone)
    assert not stale.exists()
    assert all(path.exists() for path in foreign)


def test_keep_of_an_empty_store(store: ArtifactStore) -> None:
    store.keep(set())
    assert not store.root.exists()


FILL = """
import resource, sys
import numpy as np
from metamap_envs.errors import MetaMapError
from metamap_rl.stream.store import ArtifactStore

store = ArtifactStore(sys.argv[1])
small = store.put({"a": np.zeros(10)}, {})
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
try:
    store.put({"a": np.ones(10_000)}, {})
except MetaMapError as error:
    print(error)
store.get(small)
"""


def test_a_full_disk_is_reported_and_leaves_nothing_behind(store: ArtifactStore) -> None:
    command = [sys.executable, "-c", FILL, str(store.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be written (File too large)" in done.stdout
    assert len(list(store.root.iterdir())) == 1
