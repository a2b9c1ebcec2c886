"""NumPy's ``.npz``."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, one_line
from metamap_rl.data.readers.base import READERS, Reader, Recording, check_size, size_of

__all__ = ["Npz"]


@READERS.register("npz")
class Npz(Reader):
    """Arrays by name, of ``np.savez``; arrays of objects are refused, since they are pickles."""

    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    def __call__(self, path: Path) -> Recording:
        """See `metamap_rl.data.readers.base.Reader`."""
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
                check_size(path, sum(member.file_size for member in members))
                if any(member.flag_bits & 1 for member in members):
                    raise MetaMapError(f"{path}: is encrypted")
                columns = {member.filename.removesuffix(".npy"): _array(archive, member, path) for member in members}
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]  # of the standard library
            if isinstance(error, MetaMapError):
                raise
            raise MetaMapError(
                f"{path}: expected a file of np.savez, this one is cut off or something else ({one_line(error)})"
            ) from error
        return Recording({name: array for name, array in columns.items() if array.ndim}, str(path))


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """One array, after its header was looked at."""
    where = f"{path}: {member.filename}"
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise MetaMapError(f"{where}: expected an array, got one of version {version}")
        shape, _, dtype = readers[version](file)
        if dtype.hasobject:
            raise MetaMapError(
                f"{where}: holds Python objects, a pickle, which may run code when it is opened and is not read: save "
                "arrays of numbers"
            )
        if size_of(shape, dtype) > member.file_size:
            raise MetaMapError(f"{where}: expected {size_of(shape, dtype):,} bytes, it has {member.file_size:,}")
    with archive.open(member) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        return array
