import numpy as np
from jaxtyping import Float

from .errors import InputError
from .names import counted


def unit_rows(rows: Float[np.ndarray, "n d"], *, name: str = "embeddings") -> Float[np.ndarray, "n d"]:
    """Rows scaled to unit length, as float32.

    Raises:
        InputError: A row is zero or not finite; the message names the first.
    """
    rows = np.asarray(rows, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if len(bad):
        raise InputError(
            f"{name}: zero or not finite: {counted(len(bad), 'row')}, the first is {bad[0]}; remove them or embed again"
        )
    return np.asarray(rows / norms, np.float32)


def cosine_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """`1 - cos`, in [0, 2]. Both sides are normalised here, so centroids need not be of unit length."""
    return np.asarray(1.0 - unit_rows(a) @ unit_rows(b).T, np.float32)
