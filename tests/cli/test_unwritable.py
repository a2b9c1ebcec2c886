"""Where nothing can be written, one sentence says so before any work is done, and nothing half-written stays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metamap_agents.runtime.storage import claim_output, make_folder, write_bytes, write_json
from metamap_envs import MetaMapError
from metamap_rl.cli import app
from metamap_rl.stream.config import load_config
from metamap_rl.stream.run import start


def test_a_place_where_nothing_can_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    for out in (tmp_path, tmp_path / "out", tmp_path / "a" / "b" / "c.html"):
        with pytest.raises(MetaMapError, match=r"cannot be written \(Permission denied\)"):
            claim_output(out, overwrite=True)
    with pytest.raises(MetaMapError, match="cannot be written"):
        start(load_config("smoke"), tmp_path / "run")
    assert not any(tmp_path.iterdir())


def test_names_that_no_file_system_takes(tmp_path: Path) -> None:
    for out in (tmp_path / ("x" * 300), tmp_path / "a" / ("x" * 300) / "b", tmp_path / ("x" * 240)):
        with pytest.raises(MetaMapError, match=r"File name too long"):
            claim_output(out)
    with pytest.raises(MetaMapError, match="File name too long"):
        make_folder(tmp_path / ("x" * 300))


def test_files_and_links_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for out in (tmp_path / "file" / "out", tmp_path / "file" / "a" / "b"):
        with pytest.raises(MetaMapError, match="file is a file, not a folder"):
            claim_output(out)
        with pytest.raises(MetaMapError, match="cannot be made"):
            make_folder(out)
    with pytest.raises(MetaMapError, match="cannot be made"):
        make_folder(tmp_path / "link")
    with pytest.raises(MetaMapError, match="circle"):
        claim_output(tmp_path / "circle" / "out")


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a", b"before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for name in ("a", "b/c.json"):
        with pytest.raises(MetaMapError, match=r"cannot be written \(No space left on device\)"):
            write_json(tmp_path / name, {})
    assert (tmp_path / "a").read_bytes() == b"before"
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.EDQUOT])
def test_whatever_the_file_system_refuses_is_a_sentence(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(app, "_run", refused)
    assert app.main(["families", "list"]) == 2
    told = capfd.readouterr().err
    assert told == f"metamap: some/file: cannot be read or written ({os.strerror(number)})\n"


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from metamap_rl.cli.app import main; sys.exit(main(sys.argv[1:]))"
    ended = subprocess.run(
        [sys.executable, "-c", code, "stream", "run", "smoke", "--out", "s"], cwd=gone, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("metamap: ")
