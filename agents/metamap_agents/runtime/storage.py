"""Files of the project: JSON and safetensors, written whole or not at all, read without running any code.

A file is written to a temporary name in its own folder, flushed to the disk, then renamed, so that a reader
sees the old file or the new one and never half of one. The same content gives the same bytes.
"""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.files import refuse_pipes

__all__ = [
    "arrays_to_bytes",
    "check_arrays",
    "claim_output",
    "library_versions",
    "load_arrays",
    "make_folder",
    "read_json",
    "save_arrays",
    "write_bytes",
    "write_json",
]

_SUFFIX = ".safetensors"
_NUMBERS = re.compile(r"\[\n((?: *-?[0-9][0-9.eE+-]*,?\n)+) *\]")  # no text of JSON has a raw line break
_STORABLE_KINDS = "fiub"  # floats, integers and booleans; complex numbers, text and objects have no use here
_LIBRARIES = {
    "numpy": "numpy",
    "torch": "torch",
    "gymnasium": "gymnasium",
    "mujoco": "mujoco",
    "stable_baselines3": "stable-baselines3",
    "metamap_rl": "metamap-rl",
}


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically; missing parent folders are made.

    Whatever goes wrong, the old file is untouched and no temporary file or new folder stays behind.

    Raises:
        MetaMapError: the file system refuses (a folder in the way, no permission, a full disk).
    """
    path = Path(path)
    # Not `tempfile`: its files are readable by their owner alone, and os.replace would keep that.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    made: list[Path] = []
    try:
        made += [parent for parent in path.parents if not os.path.lexists(parent)]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        for parent in made:
            with suppress(OSError):  # others may have put something there
                parent.rmdir()
        raise MetaMapError(f"{path}: cannot be written ({error.strerror})") from error


def write_json(path: str | Path, obj: object) -> None:
    """Write ``obj`` as JSON (sorted keys, two spaces, a list of numbers on one line, a newline at the end), atomically.

    Tuples, NumPy arrays and NumPy scalars become lists and numbers.

    Raises:
        MetaMapError: a value JSON cannot hold (NaN and infinity included), named by its place in ``obj``.
    """
    plain = _plain(obj, Path(path).name)
    text = json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (_NUMBERS.sub(_on_one_line, text) + "\n").encode())


def _on_one_line(match: re.Match[str]) -> str:
    return "[" + " ".join(match[1].split()) + "]"


def read_json(path: str | Path) -> Any:
    """Read what :func:`write_json` wrote.

    Raises:
        MetaMapError: no such file, not JSON, a truncated file, or NaN in it.
    """
    try:
        return json.loads(_read(path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise MetaMapError(f"{path}: expected JSON, the file is truncated or something else ({error})") from error


def save_arrays(
    path: str | Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays and a few strings as one ``.safetensors`` file, atomically.

    Args:
        path: must end in ``.safetensors``.
        arrays: any shapes, also empty or without axes; floats (16 to 64 bits), integers or booleans.
        metadata: text beside the arrays.

    Raises:
        MetaMapError: wrong suffix, or an array or a string that the format cannot hold.
    """
    path = _safetensors_path(path)
    write_bytes(path, arrays_to_bytes(arrays, metadata, path.name))


def arrays_to_bytes(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None, what: str = "arrays"
) -> bytes:
    """What :func:`save_arrays` writes; ``what`` is put in front of the errors.

    Raises:
        MetaMapError: an array or a string that the format cannot hold.
    """
    # The format is written from raw memory: a transposed or strided array must be copied to C order first.
    dense = {name: np.array(array, order="C") for name, array in arrays.items()}
    for name, array in dense.items():
        if array.dtype.kind not in _STORABLE_KINDS or array.dtype.itemsize > 8:
            raise MetaMapError(f"{what}: {name}: expected floats, integers or booleans, got {array.dtype}")
    texts = dict(metadata or {})
    for key, text in texts.items():
        if not isinstance(text, str):
            raise MetaMapError(f"{what}: metadata {key!r}: expected a string, got {type(text).__name__}")
    # `or None`: the library writes a file that it cannot read for no arrays and an empty dictionary of texts.
    return _in_fixed_order(to_safetensors(dense, texts or None))


def load_arrays(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read what :func:`save_arrays` wrote: the arrays (own memory, writable) and the metadata.

    Raises:
        MetaMapError: wrong suffix, no such file, a truncated file, or a file of another format.
    """
    path = _safetensors_path(path)
    refuse_pipes(path)
    if not path.is_file():
        raise MetaMapError(f"{path}: no such file")
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a dict)
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        # The last four: element types that NumPy has no name for, such as bfloat16.
        raise MetaMapError(
            f"{path}: expected a safetensors file, this one is truncated or something else ({error})"
        ) from error
    for name, array in arrays.items():
        if array.dtype.isbuiltin != 1:  # another library, such as ml_dtypes, has taught NumPy this element type
            raise MetaMapError(f"{path}: {name}: expected an element type of NumPy, got {array.dtype}")
    return arrays, metadata


def check_arrays(arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Check that ``arrays`` are exactly the ``expected`` ones, by name and shape.

    Args:
        arrays: what was read.
        expected: shape by name.
        what: the file or thing they come from, put in front of the sentence.

    Raises:
        MetaMapError: the first array that is missing, unexpected or of another shape, as in
            "mapper.safetensors: layers.0.weight: expected (64, 17), file has (64, 11)".
    """
    for name, shape in expected.items():
        if name not in arrays:
            raise MetaMapError(f"{what}: {name}: expected {tuple(shape)}, file has no such array")
        if tuple(arrays[name].shape) != tuple(shape):
            raise MetaMapError(f"{what}: {name}: expected {tuple(shape)}, file has {tuple(arrays[name].shape)}")
    for name in arrays:
        if name not in expected:
            raise MetaMapError(f"{what}: {unknown_name('array', name, expected)}")


def make_folder(path: str | Path) -> Path:
    """Make a folder and its parents where they are missing.

    Raises:
        MetaMapError: the file system refuses: a file in the way, a link that leads nowhere, no permission, a full disk.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MetaMapError(f"{path}: cannot be made ({error.strerror})") from error
    return path


def claim_output(path: str | Path, overwrite: bool = False) -> Path:
    """Check, before any work is done, that results may go to ``path``. Nothing is created or removed.

    Args:
        path: a file or a folder, to be.
        overwrite: files of the same names may be replaced, one by one; others in the folder stay.

    Returns:
        ``path``.

    Raises:
        MetaMapError: a file or a non-empty folder is there already, a parent is a file, or nothing can be written
            there: a file system that is read-only, no permission, a name that is too long.
    """
    path = Path(path)
    try:
        _check_place(path)
        if overwrite or not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return path
        kind = "a folder with files in it" if path.is_dir() else "a file"
    except OSError as error:
        raise MetaMapError(f"{path}: cannot be written ({error.strerror})") from error
    raise MetaMapError(f"{path}: already exists ({kind}): choose another output path, or remove it")


def _check_place(path: Path) -> None:
    """Refuse a path where nothing can be written.

    Raises:
        MetaMapError: a parent is a file.
        OSError: what the file system would say.
    """
    real = Path(os.path.realpath(path))  # results go through links
    place = real if real.is_dir() else next(parent for parent in real.parents if os.path.lexists(parent))
    if not place.is_dir():
        shown = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), place)
        raise MetaMapError(f"{path}: {shown} is a file, not a folder: choose another output path")
    for name in real.parts[len(place.parts) :]:
        with suppress(FileNotFoundError):
            os.lstat(place / f".{name}.{'0' * 16}.tmp")  # as it is written first
    if not os.access(place, os.W_OK | os.X_OK):
        read_only = os.statvfs(place).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number))


def library_versions() -> dict[str, str]:
    """Versions of what results depend on, read from installed distributions without importing them.

    Returns:
        A version for each of python, numpy, torch, gymnasium, mujoco, stable_baselines3 and metamap_rl;
        "uninstalled" for a distribution that is not there.
    """
    versions = {"python": platform.python_version()}
    for name, distribution in _LIBRARIES.items():
        try:
            versions[name] = distributions.version(distribution)
        except distributions.PackageNotFoundError:
            versions[name] = "uninstalled"
    return versions


def _plain(value: object, where: str) -> Any:
    """``value`` in the types that JSON has; ``where`` is its place, for the error."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MetaMapError(f"{where}: expected a finite number, got {value}")
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise MetaMapError(f"{where}: expected strings as keys, got {key!r}")
        return {key: _plain(item, f"{where}: {key}") for key, item in value.items()}
    raise MetaMapError(f"{where}: expected a value that JSON can hold, got {type(value).__name__}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _read(path: str | Path) -> str:
    refuse_pipes(path)
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MetaMapError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise MetaMapError(f"{path}: cannot be read (it is not UTF-8)") from error
    except OSError as error:
        raise MetaMapError(f"{path}: cannot be read ({error.strerror})") from error


def _safetensors_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != _SUFFIX:
        raise MetaMapError(f"{path}: expected a name that ends in {_SUFFIX}")
    return path


def _in_fixed_order(content: bytes) -> bytes:
    """The same file with its metadata sorted: the library's own order changes from run to run."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format keeps the data aligned to 8 bytes
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
