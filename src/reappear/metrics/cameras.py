"""Cameras: retrieval scores for each pair of them, and the people whom most of them see."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from reappear.core import InputError

from .gallery import GalleryFactory, NumpyGallery
from .ranking import rank_task
from .retrieval_task import RetrievalTask


@dataclass(frozen=True)
class CameraPairs:
    """Scores with the gallery of one camera alone; rows are the query's camera, columns the gallery's.

    Attributes:
        cameras: In rising order.
        queries: Queries with a match there.
        first_right: Share of them whose first answer is right; NaN where there are none.
        mean_ap: Their mean average precision; NaN where there are none.
    """

    cameras: Int[np.ndarray, " c"]
    queries: Int[np.ndarray, "c c"]
    first_right: Float[np.ndarray, "c c"]
    mean_ap: Float[np.ndarray, "c c"]


def score_cameras(task: RetrievalTask, *, memory_mb: int = 256, backend: GalleryFactory = NumpyGallery) -> CameraPairs:
    """Ranks the gallery of each camera by itself."""
    cameras = np.union1d(task.query_cameras, task.gallery_cameras)
    shape = len(cameras), len(cameras)
    queries, right, average = np.zeros(shape, np.int64), np.full(shape, np.nan), np.full(shape, np.nan)
    for column, camera in enumerate(cameras):
        there = task.gallery_cameras == camera
        alone = replace(
            task,
            gallery=task.gallery[there],
            scale=task.scale[there],
            gallery_ids=task.gallery_ids[there],
            gallery_cameras=task.gallery_cameras[there],
            gallery_images=task.gallery_images[there],
        )
        try:
            found = rank_task(alone, memory_mb=memory_mb, backend=backend)
        except InputError:  # no query has a match in this camera
            continue
        for row, asking in enumerate(cameras):
            mine = found.valid & (task.query_cameras == asking)
            if mine.any():
                queries[row, column] = mine.sum()
                right[row, column] = found.first_right[mine].mean()
                average[row, column] = found.average_precision[mine].mean()
    return CameraPairs(cameras, queries, right, average)


def most_seen(ids: Int[np.ndarray, " n"], cameras: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " p"]:
    """The people seen by most cameras, of equals those in most images, then the lowest; in rising order.

    Args:
        ids: The person of each image; negative = nobody.
        cameras: Camera of each image.
        count: Most people returned.
    """
    somebody = ids >= 0
    people, images = np.unique(ids[somebody], return_counts=True)
    seen = np.unique(np.stack([ids[somebody], cameras[somebody]]), axis=1)[0]
    reach = np.unique(seen, return_counts=True)[1]
    return np.sort(people[np.lexsort([-images, -reach])[:count]])
