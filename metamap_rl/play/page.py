"""The page of the player: one HTML file with its style, its program and, for a replay, a recording."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from metamap_agents.runtime.storage import write_bytes
from metamap_envs.errors import MetaMapError

__all__ = ["page", "page_parts", "read_replay", "write_replay"]

_PROGRAM = ("theme.js", "kinematics.js", "drawing.js", "lanes.js", "panel.js", "live.js", "replay.js", "main.js")
_MARK = '<meta name="generator" content="metamap play">'


def page(title: str, *, replay: Mapping[str, Any] | None = None, nonce: str = "") -> str:
    """The whole page.

    Args:
        title: of the window.
        replay: a session's document; None for a live page, which connects to where it came from.
        nonce: of its style and program, for a content security policy.
    """
    assets = files("metamap_rl.play") / "assets"
    program = "\n".join((assets / name).read_text(encoding="utf-8") for name in _PROGRAM)
    data = json.dumps(replay, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": _escaped(title),
        "mark": _MARK,
        "nonce": nonce,
        "style": (assets / "play.css").read_text(encoding="utf-8"),
        "program": program,
        "data": data,
    }
    text = (assets / "play.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text)


def page_parts(title: str) -> tuple[str, str]:
    """The page of a replay before and after its document, for pages that hold the player once and many recordings.

    Between them goes the document as JSON, with each "<" escaped.
    """
    mark = "the document"
    head, tail = page(title, replay={"": mark}).split(f'{{"":"{mark}"}}')
    return head, tail


def write_replay(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write a self-contained replay as one HTML file.

    Args:
        path: must end in ``.html``; written whole or not at all.
        document: of a session, `PlaySession.document`.

    Raises:
        MetaMapError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".html":
        raise MetaMapError(f"{path}: expected a name that ends in .html")
    write_bytes(path, page(f"{document['setup']['family']}: replay", replay=document).encode())


def read_replay(path: Path) -> str:
    """The HTML of a replay, from its file or a folder that holds ``replay.html``.

    Raises:
        MetaMapError: no such file, or none of the player's.
    """
    file = path / "replay.html" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "it cannot be read") if isinstance(error, OSError) else "it is no text"
        raise MetaMapError(f"{file}: expected a replay, an HTML file of `metamap play` ({why})") from None
    if _MARK not in text[:2000]:
        raise MetaMapError(f"{file}: expected a replay, an HTML file of `metamap play`; this is another one")
    return text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
