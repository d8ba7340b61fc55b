"""Pseudo-labels: which images are of one person, by their features alone."""

import numpy as np
from jaxtyping import Float, Int

from reappear.core import Assignment, TrackletSet, unit_rows
from reappear.denoise import average_link


def cluster_by_average_linkage(
    features: Float[np.ndarray, "n d"], camera: Int[np.ndarray, " n"], *, z: float
) -> Int[np.ndarray, " n"]:
    """Cluster of each image by `denoise.average_link`, as `correlate` links tracklets; -1 = alone.

    Each image is a node. The mean of its camera is subtracted; of a camera that is not known, the mean of all.

    Args:
        features: Normalised here.
        camera: Of each image, where no two persons look as different as one person in two of them; -1 = unknown.
        z: Smallest mean similarity of two clusters that merge, in standard deviations, more than 0.

    Raises:
        InputError: Features are zero or not finite.
        SettingsError: z is out of range.
    """
    count = len(features)
    # As a place of its own, an image loses a share of itself and of the mean of all: its direction is the same.
    place = np.where(camera >= 0, camera, int(camera.max(initial=-1)) + 1 + np.arange(count))
    order, unknown = np.argsort(place, kind="stable"), np.full(count, np.nan)
    images = TrackletSet(unit_rows(features, name="image")[order], place[order], unknown, unknown, np.arange(count + 1))
    cluster = np.empty(count, np.int64)
    cluster[order] = average_link(images, Assignment.untouched(images), least=z).identity
    of_several = np.bincount(cluster) > 1
    number = np.where(of_several, np.cumsum(of_several) - 1, -1)
    return np.asarray(number[cluster])
