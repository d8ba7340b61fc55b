"""Tables as Parquet and CSV files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from reappear.core import InputError, escape_formula, parser_errors, require_regular_file

from .atomic import atomic_write

Columns = dict[str, np.ndarray]


def write_table(path: Path, columns: Mapping[str, np.ndarray | list[str]]) -> None:
    """Writes columns of equal length as one Parquet file, atomically."""
    table = pa.table(
        {
            name: pa.array(np.asarray(values).tolist() if np.asarray(values).dtype.kind in "UO" else values)
            for name, values in columns.items()
        }
    )
    with atomic_write(path) as staging:
        pq.write_table(table, staging)


def write_csv(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes columns of equal length as one CSV file, atomically. Text is escaped against formulas.

    `data.read_labels` reads the text as it was; numbers stay numbers.
    """
    table = pa.table(
        {
            name: pa.array([escape_formula(text) for text in values.tolist()] if values.dtype.kind == "U" else values)
            for name, values in columns.items()
        }
    )
    with atomic_write(path) as staging:
        csv.write_csv(table, staging)


def read_table(path: Path, *names: str) -> Columns:
    """Reads the columns `names`, or all.

    Raises:
        InputError: The file is missing, is not Parquet, or lacks a column.
    """
    if not path.exists():
        raise InputError(f"{path} is missing; run the step that writes it")
    require_regular_file(path)
    with parser_errors(path, "a Parquet file", "run the step that writes it again"), pq.ParquetFile(path) as file:
        known = file.schema_arrow.names
        if lacking := [name for name in names if name not in known]:
            raise InputError(f"{path} has no column {', '.join(lacking)}; it has {', '.join(known)}")
        table = file.read(columns=list(names) or None)
        return {name: table.column(name).to_numpy() for name in table.column_names}
