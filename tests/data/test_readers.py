"""Recordings in every format give the same rollout; what is damaged or dangerous is refused in one sentence."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.recordings import FAMILY, FORMATS, as_lerobot, as_npz, recorded, write_csv
from metamap_envs import Rollout
from metamap_envs.errors import MetaMapError
from metamap_rl import adapt, load, read_rollout
from metamap_rl.data.readers import READERS, read_recording
from metamap_rl.data.readers import base as readers


def test_every_reader_is_tested() -> None:
    assert {*FORMATS, "pickle"} == {*READERS.names()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_recording_gives_the_policy_of_its_rollout_to_the_bit(name: str, tmp_path: Path) -> None:
    rollout = recorded()
    found = read_rollout(FORMATS[name](rollout, tmp_path), FAMILY)
    for array in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(getattr(found.rollout, array), getattr(rollout, array), err_msg=array)
    ends = [(each.terminated | each.truncated)[:-1].tolist() for each in (found.rollout, rollout)]
    assert ends[0] == ends[1]
    assert found.episodes == 2
    mapper = load(FAMILY)
    expected = adapt(mapper, rollout, check=False).phi
    np.testing.assert_array_equal(adapt(mapper, found.rollout, check=False).phi, expected)


def test_lerobot_of_version_2_has_a_file_for_each_episode(tmp_path: Path) -> None:
    rollout = recorded()
    found = read_rollout(as_lerobot(rollout, tmp_path, version="v2.1"), FAMILY)
    np.testing.assert_array_equal(found.rollout.next_observations, rollout.next_observations)
    assert found.seconds == pytest.approx(0.02)


# damaged --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["csv", "npz", "safetensors", "parquet", "hdf5"])
def test_half_a_file_is_refused(name: str, tmp_path: Path) -> None:
    path = FORMATS[name](recorded(steps=20), tmp_path)
    whole = path.read_bytes()

    @given(share=st.floats(0, 1, exclude_max=True))
    def check(share: float) -> None:
        content = whole[: int(share * len(whole))]
        path.write_bytes(content)
        if name != "csv":
            with pytest.raises(MetaMapError, match="log"):
                read_rollout(path, FAMILY)
            return
        try:  # text may be cut between two lines, and then is whole, or within a number, which is told
            found = read_rollout(path, FAMILY)
        except MetaMapError:
            return
        assert content.endswith((b"\n", b"\r")) or any("cut off" in note for note in found.notes)

    check()


def test_a_data_set_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    root = as_lerobot(recorded(), tmp_path, version="v2.1")
    (root / "data" / "chunk-000" / "episode_000001.parquet").unlink()
    with pytest.raises(MetaMapError, match="a part of them is missing"):
        read_rollout(root, FAMILY)
    folder = FORMATS["minari"](recorded(), tmp_path)
    (folder / "data" / "main_data.hdf5").unlink()
    with pytest.raises(MetaMapError, match="main_data"):
        read_rollout(folder, FAMILY)


@pytest.mark.parametrize("name", ["log.csv", "log.npz", "log.parquet", "log.hdf5", "log.safetensors", "log.txt", "log"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"hello", b"PK\x03\x04", "é,ü\n1,2\n".encode("latin-1")])
def test_other_content_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MetaMapError, match=r"log"):
        read_rollout(tmp_path / name, FAMILY)


def test_missing_files_and_other_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nope.csv", tmp_path):
        with pytest.raises(MetaMapError, match=r"expected a data set|no such file"):
            read_recording(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3,4\n", "names of the columns"),
        ("a,a\n1,2\n", "2 times"),
        ("a,\n1,2\n", "has no name"),
        ("a,b\n1,2\n3\n", "line 3: expected 2 columns, got 1; the file is cut off"),
        ("a,b\n1,2,3\n1,2\n", "line 2: expected 2 columns, got 3"),
        ('a,b\n"1,2\n', "log.csv"),
        ("# nothing\n\n", "it is empty"),
    ],
)
def test_bad_tables_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(MetaMapError, match=words):
        read_recording(tmp_path / "log.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_comments_and_words(separator: str, tmp_path: Path) -> None:
    rows = ["# from a robot", "a|done|note", "1e-3|true|slow", "", "-.5|False|"]
    (tmp_path / "log.csv").write_text("\ufeff" + "\r\n".join(rows).replace("|", separator) + "\n", encoding="utf-8")
    columns = read_recording(tmp_path / "log.csv").columns
    assert columns["a"].tolist() == [1e-3, -0.5]
    assert columns["done"].tolist() == [1.0, 0.0]
    assert columns["note"].dtype.kind == "U"


# dangerous ------------------------------------------------------------------------------------------------------------


class Trap:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("opened"),)


@pytest.mark.parametrize(
    "name", ["buffer.pkl", "log.pt", "log.csv", "log.npz", "log.parquet", "log.hdf5", "log.safetensors", "log"]
)
def test_a_pickle_is_never_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(MetaMapError, match="is a pickle"):
        read_rollout(tmp_path / name, FAMILY)
    assert not Path("opened").exists()


def test_arrays_of_objects_are_never_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "log.npz", observations=np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(MetaMapError, match="is not read"):
        read_rollout(tmp_path / "log.npz", FAMILY)
    assert not Path("opened").exists()


def test_what_grows_beyond_memory_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LARGEST_BYTES", 1 << 20)
    zeros = np.zeros((300_000, 8))
    np.savez_compressed(tmp_path / "log.npz", observations=zeros)
    (tmp_path / "log.csv").write_text("a\n" + "0\n" * 100_000)
    paths = [tmp_path / "log.npz", tmp_path / "log.csv"]
    if _has("pyarrow"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"a": np.zeros(1_000_000)}), tmp_path / "log.parquet")
        paths.append(tmp_path / "log.parquet")
    if _has("h5py"):
        import h5py

        with h5py.File(tmp_path / "log.hdf5", "w") as file:
            file.create_dataset("observations", (10**9, 8), chunks=(1000, 8), dtype="f4", compression="gzip")
        paths.append(tmp_path / "log.hdf5")
    for path in paths:
        assert path.stat().st_size < 1 << 20
        with pytest.raises(MetaMapError, match="MiB"):
            read_recording(path)


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(tmp_path / "log.npz", "w") as archive:
        archive.writestr("observations.npy", header.getvalue() + b"\x00" * 64)
    with pytest.raises(MetaMapError, match="expected 80,000,000,000,000 bytes"):
        read_recording(tmp_path / "log.npz")


def test_links_of_hdf5_are_not_followed(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs metamap-rl[minari]")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["observations"] = np.zeros((3, 8))
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        file["observations"] = h5py.ExternalLink("other.hdf5", "/observations")
    with pytest.raises(MetaMapError, match="is not read"):
        read_recording(tmp_path / "log.hdf5")


def test_the_environment_of_a_minari_data_set_is_not_made(tmp_path: Path) -> None:
    folder = FORMATS["minari"](recorded(), tmp_path)
    path = folder / "data" / "metadata.json"
    about = json.loads(path.read_text())
    spec = {"id": "Trap-v0", "entry_point": "pathlib:Path.touch", "kwargs": {"self": "opened"}}
    path.write_text(
        json.dumps({key: value for key, value in about.items() if "space" not in key} | {"env_spec": json.dumps(spec)})
    )
    assert len(read_rollout(folder, FAMILY).rollout) == 70
    assert not Path("opened").exists()


@pytest.mark.parametrize(("library", "name"), [("pyarrow", "log.parquet"), ("h5py", "log.hdf5")])
def test_a_missing_library_is_named(library: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(b"some content")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MetaMapError, match=rf"{library} is not installed: pip install 'metamap-rl\["):
        read_recording(tmp_path / name)


def _has(library: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(library) is not None


# rollouts of this project ---------------------------------------------------------------------------------------------


def test_a_rollout_keeps_its_task_and_its_family(tmp_path: Path) -> None:
    rollout = recorded()
    path = FORMATS["safetensors"](rollout, tmp_path)
    assert read_rollout(path).rollout.task == rollout.task
    with pytest.raises(MetaMapError, match="expected one of 'cheetah-velocity'"):
        read_rollout(path, "cheetah-velocity")
    with pytest.raises(MetaMapError, match="--family"):
        read_rollout(as_npz(rollout, tmp_path))
    assert isinstance(read_rollout(path).rollout, Rollout)
    assert write_csv(tmp_path / "x.csv", {"a": np.zeros(2)}).exists()
