import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import InputError, parser_errors, read_bytes

_MAX_BYTES = 4 << 20  # the largest of MARS has 0.4 MB; the parts inside are compressed, up to a thousand times


def read_mat(path: Path, key: str, columns: int | None = None) -> Int[np.ndarray, "n c"]:
    """One matrix of whole numbers from a MATLAB file (up to version 7).

    Raises:
        InputError: The file is missing, is none, lacks the matrix, or holds something else under its name.
    """
    from scipy.io import loadmat  # half a second that only these sets need to wait

    if not path.is_file():
        raise InputError(f"{path} is missing; copy it from the set")
    data: Any = io.BytesIO(read_bytes(path, max_bytes=_MAX_BYTES))  # the stubs know paths alone
    with parser_errors(path, "a MATLAB file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = loadmat(data, variable_names=[key])
    value = found.get(key)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "iuf":
        raise InputError(f"{path} holds no matrix of numbers called {key}")
    if columns is not None and value.shape[1] != columns:
        raise InputError(f"{path}: {key} must have {columns} columns, got {value.shape[1]}")
    if value.dtype.kind == "f" and not (np.abs(value) < 2**53).all():  # also nan
        raise InputError(f"{path}: {key} must hold whole numbers of at most 53 bits")
    return value.astype(np.int64)
