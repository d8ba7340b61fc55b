"""A file to named tensors, without running anything in it."""

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from reappear.core import InputError, counted, parser_errors, require_regular_file

_NESTS = ("teacher", "student", "state_dict", "model")
_MOST_EXPANSION = 8  # PyTorch stores tensors uncompressed: a file that becomes much larger was not written by it


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of a model folder, or of a PyTorch file of plain tensors.

    Raises:
        InputError: It is none of these; the message says why.
    """
    if path.is_dir():
        path = path / "model.safetensors"
    require_regular_file(path)
    if path.suffix == ".safetensors":
        with parser_errors(path, "safetensors"):
            return safetensors.torch.load_file(path)
    with path.open("rb") as file:
        found = load_plain(file, path)
    visited: set[int] = set()  # a mapping may contain itself
    while isinstance(found, Mapping) and id(found) not in visited:
        visited.add(id(found))
        nest = next((name for name in _NESTS if isinstance(found.get(name), Mapping)), None)
        if nest is None:
            break
        found = found[nest]
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise InputError(f"{path} holds no tensors under their names")
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized or tensor.is_meta:
            raise InputError(f"{path}: {name} is not a plain tensor of real numbers; convert it and save again")
    return tensors


def require_finite(tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Raises an error where a weight is NaN or infinite.

    Args:
        tensors: By name.
        source: Where they come from, for the message.

    Raises:
        InputError: Names the first such tensor.
    """
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        count = int((~torch.isfinite(tensors[bad[0]])).sum())
        more = f", and {counted(len(bad) - 1, 'more tensor')}" if len(bad) > 1 else ""
        raise InputError(
            f"{source}: NaN or infinite: {count:,} of {counted(tensors[bad[0]].numel(), 'value')} of {bad[0]}{more}; "
            "take weights from before their training diverged"
        )


def load_plain(file: BufferedReader | BytesIO, path: Path) -> Any:
    """What a PyTorch file holds, where that is tensors, numbers, text and containers of them; nothing in it is run.

    Numbers may be numpy's, as the learning rate in an optimiser's state often is; arrays of numpy are refused.

    Args:
        file: The open file.
        path: Its name, for messages.

    Raises:
        InputError: It holds anything else, is damaged, or would take much more memory than its size.
    """
    kind = "a PyTorch file"
    size = file.seek(0, 2)
    file.seek(0)
    first = file.read(2)
    with parser_errors(path, kind):
        if first == b"PK":
            with zipfile.ZipFile(file) as members:
                expanded = sum(member.file_size for member in members.infolist())
            if expanded > _MOST_EXPANSION * size:
                raise InputError(
                    f"{path} would expand from {size:,} to {counted(expanded, 'byte')}; save it again with PyTorch"
                )
        file.seek(0)
        with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickle protocols: what matters is whether it loads
            try:
                return torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                if first != b"PK" and first[:1] != b"\x80":  # how pickles begin
                    raise InputError(f"{path} is not a PyTorch file; check the path") from error
                raise InputError(
                    f"{path} is not a file of plain tensors, or damaged; loading it could run code hidden in it; "
                    "save its state_dict alone and load that"
                ) from error


class _Dtype:
    """Read in place of a `numpy.dtype`: a kind of number and its byte order.

    numpy's own class takes object types, and flags that turn bytes into pointers.
    """

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if not re.fullmatch(r"[biufc]\d\d?", code):
            raise pickle.UnpicklingError(f"dtype {code} is not of numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: _Dtype, data: bytes) -> Any:
    """Read in place of `numpy.core.multiarray.scalar`: one number."""
    return np.frombuffer(data, kind.dtype)[0]


_ALLOWED: list[Any] = [
    argparse.Namespace,  # settings, in checkpoints of DINO and CION; nothing in it runs
    (_Dtype, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),  # numpy 1
    (_scalar, "numpy._core.multiarray.scalar"),  # numpy 2
]
