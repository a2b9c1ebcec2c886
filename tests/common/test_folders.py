"""Folders of results: whole or not at all, also where the folder is a link or something is mounted on it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from metamap_envs.errors import MetaMapError
from metamap_rl.common.folders import whole_folder


def write(folder: Path) -> None:
    (folder / "a").write_text("a")
    (folder / "sub").mkdir()
    (folder / "sub" / "b").write_text("b")


def fail(out: Path, *, overwrite: bool = False) -> None:
    with whole_folder(out, overwrite=overwrite) as folder:
        write(folder)
        raise KeyError


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_appears_when_the_block_has_ended(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "deep" / "out") as folder:
        write(folder)
        assert not (tmp_path / "deep" / "out").exists()
    assert content(tmp_path / "deep") == ["out", "out/a", "out/sub", "out/sub/b"]
    with pytest.raises(MetaMapError, match="already exists"), whole_folder(tmp_path / "deep" / "out"):
        pass


def test_nothing_is_left_of_a_block_that_fails(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyError):
        fail(tmp_path / "out")
    assert content(tmp_path) == ["out"]


def test_a_folder_is_replaced_as_a_whole_and_what_is_new_to_it_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    for name in ("a", "sub/old", "mine"):
        (out / name).write_text("before")
    with pytest.raises(KeyError):
        fail(out, overwrite=True)
    assert content(out) == ["a", "mine", "sub", "sub/old"]
    with whole_folder(out, overwrite=True) as folder:
        write(folder)
        assert (out / "a").read_text() == "before"
    assert (out / "a").read_text() == "a"
    assert content(tmp_path) == ["out", "out/a", "out/mine", "out/sub", "out/sub/b"]


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_text("before")
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if source.name.endswith(".tmp") and target == out:
            raise PermissionError(errno.EACCES, "refused")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(MetaMapError, match="refused"), whole_folder(out, overwrite=True) as folder:
        write(folder)
    assert content(tmp_path) == ["out", "out/a"]


def test_a_link_stays_and_its_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with whole_folder(tmp_path / "link") as folder:
        write(folder)
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "there") == ["a", "sub", "sub/b"]


def test_a_mounted_folder_is_filled_and_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    inode = out.stat().st_ino
    monkeypatch.setattr(Path, "is_mount", lambda path: path == out)
    with pytest.raises(KeyError):
        fail(out)
    assert content(tmp_path) == ["out"]
    with whole_folder(out) as folder:
        write(folder)
    assert out.stat().st_ino == inode
    assert content(tmp_path) == ["out", "out/a", "out/sub", "out/sub/b"]
