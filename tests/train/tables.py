"""Tables of images for tests."""

import numpy as np

from reappear.core import ImageTable


def make_table(
    identity: np.ndarray,
    *,
    camera: np.ndarray | None = None,
    sequence: np.ndarray | None = None,
    frame: np.ndarray | None = None,
) -> ImageTable:
    """A table of training images with these labels."""
    n = len(identity)
    return ImageTable(
        path=np.array([str(i) for i in range(n)]),
        identity=np.asarray(identity, np.int64),
        camera=np.zeros(n, np.int64) if camera is None else camera,
        sequence=np.full(n, -1) if sequence is None else sequence,
        split=np.full(n, "train"),
        **({} if frame is None else {"frame": frame}),
    )
