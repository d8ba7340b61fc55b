"""Matrices of numbers in MATLAB files of version 5 to 7.

Read here and not by SciPy, whose parser of damaged files ends the process (it looks up a type by a number from the file
without a check) and allocates what they state. The format: "MAT-File Format", MathWorks, chapter 1.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, counted, parser_errors, read_bytes

_MAX_BYTES = 16 << 20  # the largest matrix of MARS has 0.4 MB
_HEADER, _COMPRESSED, _MATRIX, _COMPLEX = 128, 15, 14, 0x0800
_NUMBERS = range(6, 16)  # classes of arrays that hold numbers
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


def read_mat(path: Path, key: str, columns: int | None = None) -> Int[np.ndarray, "n c"]:
    """One matrix of whole numbers from a MATLAB file (version 5 to 7).

    Raises:
        InputError: The file is missing, is none, lacks the matrix, or holds something else under its name.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; copy it from the set")
    data = read_bytes(path, max_bytes=_MAX_BYTES)
    with parser_errors(path, "a MATLAB file of version 5 to 7"):
        value = _find(data, key.encode())
    if value is None or value.ndim != 2:
        raise InputError(f"{path} holds no matrix of numbers called {key}")
    if columns is not None and value.shape[1] != columns:
        raise InputError(f"{path}: {key} must have {counted(columns, 'column')}, got {value.shape[1]}")
    if not (np.abs(value.astype(np.float64)) < 2**53).all():  # also nan
        raise InputError(f"{path}: {key} must hold whole numbers of at most 53 bits")
    return value.astype(np.int64)


def _find(data: bytes, key: bytes) -> np.ndarray | None:
    """The array of numbers with this name."""
    order = {b"IM": "<", b"MI": ">"}[data[126:_HEADER]]
    for kind, body in _elements(data[_HEADER:], order):
        if kind == _COMPRESSED:
            inflate = zlib.decompressobj()
            plain = inflate.decompress(body, _MAX_BYTES)
            if inflate.unconsumed_tail:
                raise ValueError(f"a variable of more than {_MAX_BYTES:,} bytes")
            kind, body = next(_elements(plain, order))
        if kind != _MATRIX:
            continue
        parts = _elements(body, order)
        flags, shape, name = (next(parts)[1] for _ in range(3))
        flag = struct.unpack_from(f"{order}I", flags)[0]
        if name != key or flag & 0xFF not in _NUMBERS or flag & _COMPLEX:
            continue
        of, numbers = next(parts)
        return np.frombuffer(numbers, f"{order}{_TYPES[of]}").reshape(np.frombuffer(shape, f"{order}i4"), order="F")
    return None


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and contents of one element after the other."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        at += 8
        if kind > 0xFFFF:  # of at most four bytes: the size stands beside the type
            kind, size, at = kind & 0xFFFF, kind >> 16, at - 4
            if size > 4:
                raise ValueError(f"a small element of {counted(size, 'byte')}")
        if at + size > len(data):
            raise ValueError("cut off")
        yield kind, data[at : at + size]
        at += size + (0 if kind == _COMPRESSED else -(at + size) % 8)
