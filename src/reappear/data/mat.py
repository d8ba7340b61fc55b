from pathlib import Path

import numpy as np
from jaxtyping import Int

from reappear.core import InputError


def read_mat(path: Path, key: str, columns: int | None = None) -> Int[np.ndarray, "n c"]:
    """One matrix of whole numbers from a MATLAB file (up to version 7).

    Raises:
        InputError: The file is missing, is none, lacks the matrix, or holds something else under its name.
    """
    from scipy.io import loadmat  # half a second that only these sets need to wait

    if not path.is_file():
        raise InputError(f"{path} is missing; copy it from the set")
    try:
        found = loadmat(str(path), variable_names=[key])
    except Exception as error:  # SciPy raises what its parser stumbles over
        raise InputError(f"{path} cannot be read as a MATLAB file: {' '.join(str(error).split())[:120]}") from error
    value = found.get(key)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "iuf":
        raise InputError(f"{path} holds no matrix of numbers called {key}")
    if columns is not None and value.shape[1] != columns:
        raise InputError(f"{path}: {key} must have {columns} columns, got {value.shape[1]}")
    return value.astype(np.int64)
