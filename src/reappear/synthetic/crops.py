import numpy as np
from jaxtyping import Float, UInt8

_MARGIN = 0.05  # what a detector's box leaves around a body, as a share of the box's size
_JITTER = 0.03  # standard deviation of an edge


def jitter_box(
    box: Float[np.ndarray, " 4"], size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A true box with the errors of a detector: slightly large, jittered, inside the frame.

    Args:
        box: Left, top, right, bottom in pixels.
        size: Width and height of the frame.
        rng: Generator of the errors.
    """
    width, height = size
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    grow = _MARGIN * np.array([-1, -1, 1, 1]) + _JITTER * rng.normal(0, 1, 4)
    x0, y0, x1, y1 = (int(edge) for edge in np.rint(box + grow * sides))
    x0, y0 = min(max(x0, 0), width - 2), min(max(y0, 0), height - 2)
    return x0, y0, max(min(x1, width), x0 + 2), max(min(y1, height), y0 + 2)


def crop_image(
    image: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, " 4"], rng: np.random.Generator
) -> UInt8[np.ndarray, "a b 3"]:
    """The crop of a jittered box."""
    x0, y0, x1, y1 = jitter_box(box, (image.shape[1], image.shape[0]), rng)
    return image[y0:y1, x0:x1].copy()
