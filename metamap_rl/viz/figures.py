"""Saving of matplotlib figures: no window, no global state, atomic writes."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from metamap_agents.runtime.storage import write_bytes
from metamap_envs.errors import MetaMapError

__all__ = ["FORMATS", "save_figure"]

FORMATS = (".png", ".svg")
"""File formats of figures."""

_DPI = 150


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as ``.png`` or ``.svg``, atomically; the same figure gives the same bytes.

    Raises:
        MetaMapError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise MetaMapError(f"{path}: expected a name that ends in {' or '.join(FORMATS)}")
    content = io.BytesIO()
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "metamap"}):
        figure.savefig(content, format=path.suffix[1:], dpi=_DPI, metadata=metadata, facecolor="white")
    write_bytes(path, content.getvalue())
