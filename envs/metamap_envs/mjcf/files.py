"""A user's MJCF file: its specification, and a digest of all that it consists of."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco

from metamap_envs.errors import MetaMapError, one_line, unknown_name

__all__ = ["digest_of", "read_model"]

_MOST_BYTES = 64 * 1024**2  # of the MJCF file


def read_model(path: Path) -> tuple[mujoco.MjSpec, mujoco.MjModel]:
    """Read an MJCF or URDF file.

    Returns:
        Its specification, which was not compiled yet, and the compiled model.

    Raises:
        MetaMapError: there is no such file, or MuJoCo refuses it.
    """
    if not path.is_file():
        names = [each.name for each in path.parent.glob("*.xml")] if path.parent.is_dir() else []
        raise MetaMapError(f"model {str(path)!r}: there is no such file; {unknown_name('model', path.name, names)}")
    if path.stat().st_size > _MOST_BYTES:
        raise MetaMapError(f"model {str(path)!r}: expected a file of at most {_MOST_BYTES >> 20} MiB")
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        return spec, spec.copy().compile()
    except (ValueError, RuntimeError, UnicodeDecodeError) as error:
        raise MetaMapError(f"model {str(path)!r}: MuJoCo cannot read it: {one_line(error)}") from None


def digest_of(path: Path) -> str:
    """Digest of a model: its XML without comments and layout, that of files it includes, and its assets.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for content in _contents(path, path.parent, set()):
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def _contents(path: Path, folder: Path, seen: set[Path]) -> Iterator[bytes]:
    """The file and what it refers to, each once; paths are relative to the folder of the main file."""
    if path in seen or not path.is_file():
        return
    seen.add(path)
    content = path.read_bytes()
    try:
        root: ET.Element[Any] = ET.fromstring(content)
    except ET.ParseError:  # an asset
        yield content
        return
    yield ET.canonicalize(content.decode(errors="replace"), strip_text=True).encode()
    folders = [folder] + [
        folder / value
        for compiler in root.iter("compiler")
        for key in ("assetdir", "meshdir", "texturedir")
        if (value := compiler.get(key))
    ]
    for element in root.iter():
        for key, name in sorted(element.attrib.items()):
            if key.startswith("file"):
                found = next((each / name for each in folders if (each / name).is_file()), folder / name)
                yield from _contents(found, folder, seen)
