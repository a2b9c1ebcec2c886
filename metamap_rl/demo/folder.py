"""The folder of a demo: its settings, and the files in it that a demo may replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import claim_output, read_json, write_json
from metamap_envs.errors import MetaMapError

__all__ = ["FORMAT", "RESULTS", "Settings", "claim_folder"]

FORMAT = "metamap-demo-1"
RESULTS = "results.json"
_MARKER = "demo.json"


@dataclass(frozen=True)
class Settings:
    """Settings of a demo, stored in its folder; a stopped demo resumes only with the same ones."""

    families: tuple[str, ...]
    seed: int
    tasks: int
    from_scratch: bool = False
    train: int = 0
    validation: int = 0
    test_in: int = 0
    base_timesteps: int | None = None
    timesteps: int | None = None
    updates: int | None = None


def claim_folder(out: Path | None, settings: Settings) -> Path:
    """Check that a demo may write to a folder, and mark it.

    A demo's files replace those of an earlier demo in the default folder, and of one that was stopped in any folder.
    A demo from scratch goes on with the folder of a stopped or finished one with the same settings.

    Args:
        out: the user's choice; None for the default, in ``runs``.
        settings: the settings of the demo.

    Raises:
        MetaMapError: the folder holds something else, or a demo from scratch with other settings.
    """
    default = Path("runs", f"demo-from-scratch-{settings.families[0]}" if settings.from_scratch else "demo")
    folder = out or default
    before = _read_marker(folder)
    if settings.from_scratch and before is not None:
        _check_same(folder, before, settings)
        return folder
    ours = before is not None and not before["from_scratch"]
    stopped = ours and not (folder / RESULTS).exists()
    claim_output(folder, overwrite=stopped or (out is None and ours))
    write_json(folder / _MARKER, {"format": FORMAT, "settings": asdict(settings)})
    return folder


def _read_marker(folder: Path) -> dict[str, Any] | None:
    """Settings of the demo that made the folder; None without one."""
    path = folder / _MARKER
    if not path.is_file():
        return None
    document = read_json(path)
    ours = isinstance(document, dict) and document.get("format") == FORMAT
    if not ours or not isinstance(document.get("settings"), dict) or "from_scratch" not in document["settings"]:
        raise MetaMapError(f"{path} was not written by this version's demo; choose another folder with --out")
    settings: dict[str, Any] = document["settings"]
    return settings


def _check_same(folder: Path, before: Mapping[str, Any], settings: Settings) -> None:
    for name, value in asdict(settings).items():
        now = list(value) if isinstance(value, tuple) else value
        if before.get(name) != now:
            raise MetaMapError(
                f"{folder} holds a demo with {name} = {before.get(name)}, asked for is {now}: "
                "go on with the same settings, or choose another folder with --out"
            )
