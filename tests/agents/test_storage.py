from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from metamap_agents.runtime import storage
from metamap_envs.errors import MetaMapError

ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"),
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@given(ARRAYS, st.dictionaries(st.text(), st.text(), max_size=4))
def test_arrays_come_back(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.safetensors"
    storage.save_arrays(path, arrays, metadata)
    loaded, read = storage.load_arrays(path)
    assert read == metadata
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].flags.writeable


def test_arrays_that_are_not_in_c_order_are_stored_by_value(tmp_path: Path) -> None:
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    views = {"transposed": grid.T, "strided": grid[::2, ::3], "reversed": grid[::-1], "swapped": grid.astype(">f4")}
    storage.save_arrays(tmp_path / "a.safetensors", views, {})
    loaded, _ = storage.load_arrays(tmp_path / "a.safetensors")
    for name, view in views.items():
        np.testing.assert_array_equal(loaded[name], view, err_msg=name)


def test_the_same_arrays_give_the_same_bytes_and_other_readers_read_them(tmp_path: Path) -> None:
    arrays = {f"layer {index}": np.full(index, index, np.float32) for index in range(1, 6)}
    metadata = {f"key {index}": "é" * index for index in range(8)}
    contents = set()
    for index in range(8):
        path = tmp_path / f"{index}.safetensors"
        storage.save_arrays(path, arrays, metadata)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    np.testing.assert_array_equal(load_file(path)["layer 5"], arrays["layer 5"])


@pytest.mark.parametrize(
    ("name", "array"),
    [("object", np.array([None])), ("text", np.array(["a"])), ("complex", np.array([1j])), ("none", None)],
)
def test_arrays_the_format_cannot_hold_are_named(tmp_path: Path, name: str, array: np.ndarray) -> None:
    with pytest.raises(MetaMapError, match=name):
        storage.save_arrays(tmp_path / "a.safetensors", {name: array}, {})
    with pytest.raises(MetaMapError, match="steps"):
        storage.save_arrays(tmp_path / "a.safetensors", {}, {"steps": 3})  # type: ignore[dict-item]
    assert names(tmp_path) == []


@pytest.mark.parametrize("keep", [0, 4, 8, 20, 60, -1])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    storage.save_arrays(path, {"layers.0.weight": np.ones((3, 5))}, {"family": "reacher-goal"})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(MetaMapError, match=r"cut\.safetensors"):
        storage.load_arrays(path)


def test_foreign_missing_and_misnamed_files_are_named(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    torch.save({"weight": torch.ones(3)}, foreign)
    for path in (foreign, tmp_path / "missing.safetensors", tmp_path / "wrong.npz", tmp_path):
        with pytest.raises(MetaMapError, match=path.name):
            storage.load_arrays(path)


def test_element_types_unknown_to_numpy_are_an_error_not_a_crash(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "bf16.safetensors")
    with pytest.raises(MetaMapError, match=r"bf16\.safetensors"):
        storage.load_arrays(tmp_path / "bf16.safetensors")


def test_check_arrays_names_the_leaf_that_fails() -> None:
    expected = {"layers.0.weight": (64, 17), "layers.0.bias": (64,)}
    good = {name: np.zeros(shape) for name, shape in expected.items()}
    storage.check_arrays(good, expected, "mapper.safetensors")
    with pytest.raises(MetaMapError) as caught:
        storage.check_arrays({**good, "layers.0.weight": np.zeros((64, 11))}, expected, "mapper.safetensors")
    assert str(caught.value) == "mapper.safetensors: layers.0.weight: expected (64, 17), file has (64, 11)"
    with pytest.raises(MetaMapError, match=r"layers\.0\.bias: expected \(64,\), file has no such array"):
        storage.check_arrays({"layers.0.weight": np.zeros((64, 17))}, expected, "m")
    with pytest.raises(MetaMapError, match=r"'layers\.0\.bais': did you mean 'layers\.0\.bias'"):
        storage.check_arrays({**good, "layers.0.bais": np.zeros(64)}, expected, "m")


@given(JSON)
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    storage.write_json(path, value)
    assert storage.read_json(path) == value


def test_json_is_laid_out_for_reading_and_takes_numpy(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    storage.write_json(path, {"b": (np.float64(0.5), np.arange(2)), "a": np.bool_(True), "c": "é"})
    expected = '{\n  "a": true,\n  "b": [\n    0.5,\n    [0, 1]\n  ],\n  "c": "é"\n}\n'
    assert path.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"returns": [1.0, float("nan")]}, r"a\.json: returns\[1\]"),
        ({"std": np.array([np.inf])}, r"std\[0\]"),
        ({"task": {1: 2}}, "task: expected strings as keys, got 1"),
        ({"path": Path("x")}, "path: .*PosixPath|path: .*WindowsPath"),
        ({"tensor": torch.zeros(2)}, "tensor: .*Tensor"),
    ],
)
def test_json_refuses_by_place_what_it_cannot_hold(tmp_path: Path, value: object, place: str) -> None:
    storage.write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(MetaMapError, match=place):
        storage.write_json(tmp_path / "a.json", value)
    assert storage.read_json(tmp_path / "a.json") == {"old": 1}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b'{"a": NaN}', b"\xff\xfe", b"[" * 200_000, b"PK\x03\x04"])
def test_broken_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(MetaMapError, match=r"broken\.json"):
        storage.read_json(tmp_path / "broken.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    storage.write_json(path, 1)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises(KeyboardInterrupt):
                storage.write_json(path, 2)
        assert names(tmp_path) == ["a.json"]
        assert storage.read_json(path) == 1


def test_a_write_that_the_file_system_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path in (tmp_path / "file" / "a.json", tmp_path / "folder"):
        with pytest.raises(MetaMapError, match="cannot be written"):
            storage.write_json(path, 1)
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_files_get_the_permissions_of_any_other_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    storage.write_json(tmp_path / "a.json", 1)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a.json")}
    assert len(modes) == 1


def test_claim_output(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    free = (tmp_path / "new", tmp_path / "new" / "deeper", tmp_path / "empty")
    assert [storage.claim_output(path) for path in free] == list(free)
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(MetaMapError, match=f"{taken.name}: already exists.*or remove it"):
            storage.claim_output(taken)
        assert storage.claim_output(str(taken), overwrite=True) == taken
    with pytest.raises(MetaMapError, match="is a file, not a folder"):
        storage.claim_output(tmp_path / "file" / "run", overwrite=True)
    assert names(tmp_path) == ["empty", "file"]


def test_library_versions() -> None:
    versions = storage.library_versions()
    assert set(versions) == {
        *("python", "numpy", "torch", "gymnasium", "mujoco", "stable_baselines3", "metamap_rl"),
    }
    assert versions["numpy"] == np.__version__
    assert versions["torch"].split("+")[0] == str(torch.__version__).split("+")[0]


def test_a_distribution_that_is_not_there_is_uninstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(storage._LIBRARIES, "metamap_rl", "no-such-distribution-of-ours")
    assert storage.library_versions()["metamap_rl"] == "uninstalled"


def test_importing_the_package_loads_neither_torch_nor_sb3() -> None:
    code = (
        "import sys, metamap_agents, metamap_agents.runtime.storage\n"
        "import metamap_agents.policy.spec, metamap_agents.policy.normalizer\n"
        "assert not {'torch', 'stable_baselines3'} & set(sys.modules), 'too much is imported'\n"
        "assert metamap_agents.PolicySpec(17, 6).size == 5702\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_a_wrong_one_is_an_attribute_error() -> None:
    import metamap_agents

    for name in metamap_agents.__all__:
        assert getattr(metamap_agents, name).__name__ == name
    assert set(metamap_agents.__all__) <= set(dir(metamap_agents))
    with pytest.raises(AttributeError, match="PolicySpeck"):
        metamap_agents.PolicySpeck  # noqa: B018 (the look-up is the test)
