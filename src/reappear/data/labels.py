"""Columns of labels in a CSV or Parquet file, read in pieces: text becomes numbers as it goes by."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from jaxtyping import Int

from reappear.core import InputError, parser_errors, require_regular_file, restore_formula

from .parquet import parquet_batches, parquet_columns

TABLE_ENDINGS = (".csv", ".parquet")
_ALSO = {"label": "identity", "sequence": "tracklet"}
_KIND, _ADVICE = "a table", "write it anew as CSV in UTF-8 or as Parquet"
_PIECE = 1 << 24  # bytes of a CSV read at a time
_NUMBER = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True)
class Codes:
    """A column of labels as numbers.

    Attributes:
        number: Where all labels are whole numbers, these; else their place among `names`. -1 = none.
        names: The labels by number, sorted; empty where labels are numbers.
    """

    number: Int[np.ndarray, " n"]
    names: list[str]

    def __len__(self) -> int:
        return len(self.number)

    def name(self, number: int) -> str:
        """What the file calls it."""
        return self.names[number] if self.names else str(number)


def read_labels(path: Path, *, labels: tuple[str, ...], times: tuple[str, ...] = ()) -> dict[str, Codes | np.ndarray]:
    """Reads those of the named columns that are there; `label` stands for identity, `sequence` for tracklet.

    Args:
        path: A CSV with a line of names, or Parquet.
        labels: Columns of text or whole numbers.
        times: Columns of numbers; a missing value is NaN.

    Raises:
        InputError: The file is missing, cannot be read as such a table, names a column twice, or holds a negative label
            other than -1.
    """
    known = {"path", *labels, *times}
    names = _names(path)
    chosen: dict[str, str] = {}
    for name in names:
        means = _ALSO.get(name, name)
        if means in known:
            if means in chosen:
                raise InputError(f"{path} has two columns for {means}: {chosen[means]}, {name}; remove one")
            chosen[means] = name
    texts = [name for name in chosen if name not in times]
    coders = {name: _Coder() for name in labels if name in chosen}
    plain: dict[str, list[np.ndarray]] = {name: [] for name in chosen if name not in coders}
    text = restore_formula if path.suffix.lower() == ".csv" else str
    with parser_errors(path, _KIND, _ADVICE):
        for batch in _pieces(path, {chosen[name]: _text_or_number(name in texts) for name in chosen}):
            for name, coder in coders.items():
                coder.add(batch.column(chosen[name]), text)
            for name, pieces in plain.items():
                column = batch.column(chosen[name])
                if name in times:
                    pieces.append(_numbers(column))
                else:
                    pieces.append(np.array([text(cell) for cell in _texts(column)], np.str_))
    empty = {name: np.zeros(0, np.float64 if name in times else np.str_) for name in plain}
    codes = {name: coder.codes() for name, coder in coders.items()}
    for name, column in codes.items():
        if column.number.min(initial=0) < -1:
            raise InputError(
                f"{path}: {chosen[name]} must be 0 or more, or -1 for none, got {column.number.min()}; renumber it"
            )
    return codes | {name: np.concatenate([empty[name], *pieces]) for name, pieces in plain.items()}


def column_names(path: Path) -> str:
    """The names of all columns, for an error that says what there is."""
    return ", ".join(_names(path)) or "none"


def _names(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        return parquet_columns(path)
    require_regular_file(path)
    with path.open("rb") as file:
        header = file.readline(_PIECE)
    if b"," not in header and (other := next((sign for sign in (b";", b"\t") if sign in header), None)):
        raise InputError(f"{path} separates its columns by {other.decode()!r}; {_ADVICE}, with commas between columns")
    with parser_errors(path, _KIND, _ADVICE), csv.open_csv(path) as reader:
        return list(reader.schema.names)


def _text_or_number(text: bool) -> pa.DataType:
    return pa.string() if text else pa.float64()


def _pieces(path: Path, types: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    if path.suffix.lower() == ".parquet":
        yield from parquet_batches(path, list(types))
        return
    if not types:
        return
    convert = csv.ConvertOptions(column_types=types, include_columns=list(types), strings_can_be_null=False)
    with csv.open_csv(path, csv.ReadOptions(block_size=_PIECE), csv.ParseOptions(), convert) as reader:
        yield from reader


def _texts(column: pa.Array) -> list[str]:
    return list(column.cast(pa.string()).fill_null("").to_pylist())


def _numbers(column: pa.Array) -> np.ndarray:
    return np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(zero_copy_only=False), np.float64)


class _Coder:
    """Gives each label a number as it is met."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._pieces: list[np.ndarray] = []

    def add(self, column: pa.Array, text: Callable[[str], str]) -> None:
        """Takes the next piece of the column; `text` makes labels of its cells."""
        coded = pc.dictionary_encode(column.cast(pa.string()).fill_null(""))
        mine = [self._known.setdefault(text(name).strip(), len(self._known)) for name in coded.dictionary.to_pylist()]
        self._pieces.append(np.array(mine, np.int64)[coded.indices.to_numpy()] if mine else np.zeros(0, np.int64))

    def codes(self) -> Codes:
        """The whole column."""
        met = np.concatenate([np.zeros(0, np.int64), *self._pieces])
        names = list(self._known)
        if all(name == "" or _NUMBER.fullmatch(name) for name in names):
            value = np.array([int(name or -1) for name in names], np.int64)
            return Codes(value[met] if len(met) else met, [])
        order = sorted(name for name in names if name not in ("", "-1"))
        place = {name: i for i, name in enumerate(order)}
        value = np.array([place.get(name, -1) for name in names], np.int64)
        return Codes(value[met] if len(met) else met, order)
