"""Parquet files, with scalar and list columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metamap_envs.errors import MetaMapError, one_line
from metamap_rl.common.extras import optional_module
from metamap_rl.data.readers.base import READERS, Reader, Recording, check_size

__all__ = ["Parquet", "read_table"]


@READERS.register("parquet")
class Parquet(Reader):
    """A table; lists of numbers of one length become arrays [n, k]. Other nested columns are left out."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    def __call__(self, path: Path) -> Recording:
        """See `metamap_rl.data.readers.base.Reader`."""
        return Recording(read_table(path), str(path))


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of a Parquet file by name.

    Raises:
        MetaMapError: not a Parquet file, a damaged or too large one, or a missing library.
    """
    arrow, parquet = optional_module("pyarrow", "parquet"), optional_module("pyarrow.parquet", "parquet")
    compute = optional_module("pyarrow.compute", "parquet")
    try:
        with parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
            # Values of a column that is encoded by its repetitions take next to nothing in the file.
            check_size(path, sum(max(8 * chunk.num_values, chunk.total_uncompressed_size) for chunk in chunks))
            table = file.read()
            return {
                name: values
                for name, column in zip(table.column_names, table.columns, strict=True)
                if (values := _values(arrow, compute, column, f"{path}: {name}")) is not None
            }
    except (arrow.ArrowException, OSError) as error:
        raise MetaMapError(
            f"{path}: expected a Parquet file, this one is cut off or something else ({one_line(error)})"
        ) from error


def _values(arrow: Any, compute: Any, column: Any, where: str) -> NDArray[Any] | None:
    """Numbers or text of a column; None for what is neither."""
    kinds, kind = arrow.types, column.type
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        if column.null_count:
            raise MetaMapError(f"{where}: has rows without a value")
        whole = column.combine_chunks()
        lengths = np.asarray(compute.list_value_length(whole)) if len(whole) else np.zeros(0, np.int64)
        inner = arrow.chunked_array([compute.list_flatten(whole)])
        values = _values(arrow, compute, inner, where)
        if values is None or values.ndim != 1:
            return None
        width = int(lengths[0]) if len(lengths) else 0
        if (lengths != width).any():
            row = int(np.flatnonzero(lengths != width)[0])
            raise MetaMapError(
                f"{where}: expected lists of one length, row {row} has {lengths[row]}, the first {width}"
            )
        return values.reshape(len(lengths), width)
    if kinds.is_boolean(kind) or kinds.is_integer(kind) or kinds.is_floating(kind):
        if column.null_count:
            raise MetaMapError(f"{where}: has rows without a value")
        return np.asarray(column.to_numpy())
    if kinds.is_string(kind) or kinds.is_large_string(kind):
        return np.array([f"{text!r}" for text in column.to_pylist()])
    return None
