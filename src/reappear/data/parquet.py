"""Parquet files that others wrote."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reappear.core import InputError, counted, parser_errors, require_regular_file

_KIND = "a Parquet file"
_MAX_GROUP_BYTES = 2 << 30


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """An open Parquet file. Whatever goes wrong while it is read in the block becomes an InputError."""
    require_regular_file(path)
    with parser_errors(path, _KIND), pq.ParquetFile(path) as file:
        yield file


def parquet_columns(path: Path) -> list[str]:
    """The names of its columns."""
    with open_parquet(path) as file:
        return list(file.schema_arrow.names)


def parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns, a piece at a time."""
    require_regular_file(path)
    with parser_errors(path, _KIND):
        file = pq.ParquetFile(path)
    with file:
        batches = file.iter_batches(columns=list(columns))
        while True:
            with parser_errors(path, _KIND):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def read_parquet(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Some columns as one mapping for each row."""
    with open_parquet(path) as file:
        return file.read(columns=list(columns)).to_pylist()  # type: ignore[no-any-return]


def group_sizes(path: Path) -> tuple[int, ...]:
    """How many rows each row group has."""
    with open_parquet(path) as file:
        metadata = file.metadata
        return tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))


def read_images(path: Path, group: int) -> list[bytes]:
    """The bytes in the column `image` of one row group; b"" where a row has none.

    Raises:
        InputError: The file is damaged, or the row group too large to be held in memory.
    """
    with open_parquet(path) as file:
        size = file.metadata.row_group(group).total_byte_size
        if size > _MAX_GROUP_BYTES:
            raise InputError(
                f"{path}: a row group of {counted(size, 'byte')}; write it with fewer rows in each row group"
            )
        column = file.read_row_group(group, columns=["image"]).column("image").to_pylist()
        found = [image.get("bytes") if isinstance(image, dict) else image for image in column]
        return [image if isinstance(image, bytes) else b"" for image in found]
