"""The files of an ONNX model: the `.onnx` itself and the external data files that its tensors name.

A walk over the protocol buffer (onnx.proto3, fields of ModelProto down to TensorProto) that skips the weights, so that
neither the onnx package nor memory for the model is needed.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import inside, require_regular_file

# Message → its fields that lead to tensors: number → message.
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_LONGEST = 4096  # bytes of a key or a path


def onnx_files(path: Path) -> dict[str, Path]:
    """Name → file of a model: "weights" is `path`, "weights/LOCATION" each external data file.

    A file that is missing or is not ONNX is listed alone; loading it raises the error.

    Raises:
        InputError: An external data file is missing, or its location leads out of the model's folder.
    """
    files = {"weights": path}
    for location in sorted(_locations(path)):
        data = inside(path.parent, location)
        try:
            require_regular_file(data)
        except InputError as error:
            raise InputError(
                f"{path} keeps weights in {location}, and {error}; copy that file beside the model"
            ) from error
        files[f"weights/{location}"] = data
    return files


def _locations(path: Path) -> set[str]:
    """The locations that tensors name; what was found up to the place where the file is damaged."""
    found: set[str] = set()
    try:
        require_regular_file(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            waiting = [("Model", 0, len(data))]
            while waiting:
                message, begin, end = waiting.pop()
                if message == "Entry":
                    pair = {field: bytes(data[a : min(b, a + _LONGEST)]) for field, a, b in _fields(data, begin, end)}
                    if pair.get(1) == b"location":
                        found.add(pair.get(2, b"").decode("utf-8"))
                    continue
                known = _FIELDS[message]
                waiting += [(known[field], a, b) for field, a, b in _fields(data, begin, end) if field in known]
    except (InputError, OSError, ValueError):
        pass
    return found


def _fields(data: Any, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of variable length in `data[begin:end]`."""
    while begin < end:
        tag, begin = _varint(data, begin, end)
        kind = tag & 7
        if kind == 0:
            _, begin = _varint(data, begin, end)
        elif kind == 1:
            begin += 8
        elif kind == 5:
            begin += 4
        elif kind == 2:
            length, begin = _varint(data, begin, end)
            if length > end - begin:
                raise ValueError("a field reaches beyond its message")
            yield tag >> 3, begin, begin + length
            begin += length
        else:
            raise ValueError(f"no wire type {kind}")


def _varint(data: Any, begin: int, end: int) -> tuple[int, int]:
    """The number at `begin`, and where it ends."""
    value = 0
    for place in range(begin, min(begin + 10, end)):
        value |= (data[place] & 0x7F) << 7 * (place - begin)
        if data[place] < 0x80:
            return value, place + 1
    raise ValueError("a number is cut off")
