"""Single-tracklet denoising, Eq. 4."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from reappear.core import Assignment, SettingsError, TrackletSet, thread_map

from .groups import Groups, read_unit, renumber
from .thresholds import RESOLUTION, SIGMA_CST, check_sigma, deviates
from .trace import Trace

STAGE = "single-tracklet"

Batch = tuple[Int[np.ndarray, "b m"], Bool[np.ndarray, "b m"]]
"""Rows of crops, a tracklet each, and which of them are there."""

_BATCH_BYTES = 4 << 20
_GRAM_LIMIT = 512  # above it, a matrix of inner products takes too much memory
_MARGIN = 1e-4  # far above the float32 error of the first look,
_SHORT = 0.1  # unless the other crops nearly cancel out


def single_tracklet(
    tracklets: TrackletSet,
    assignment: Assignment,
    *,
    sigma_cst: float = SIGMA_CST,
    minimum_crops: int = 1,
    trace: Trace | None = None,
) -> Assignment:
    """Removes outlier crops from each tracklet, one at a time, the farthest first (CION Sec. 3.1, Eq. 4).

    The crop farthest from the mean of the *other* crops is removed while that distance is at least `sigma_cst`; means
    are updated after each removal. The next stage may move it to another tracklet. A tracklet of one crop is unchanged.
    Of equal distances the earlier crop is removed.

    Args:
        tracklets: All crops.
        assignment: Where they are now.
        sigma_cst: Threshold of cosine distance, 0..2 (σ_cst).
        minimum_crops: Tracklets left with fewer crops lose these too.
        trace: Records the removed crops and their distance.

    Returns:
        The assignment with removed crops at tracklet -1. The function is idempotent.
    """
    check_sigma("sigma_cst", sigma_cst)
    if minimum_crops < 1:
        raise SettingsError(f"minimum_crops: must be 1 or more, got {minimum_crops}")
    groups = Groups.of(assignment.tracklet, len(tracklets))
    owner = assignment.tracklet.astype(np.int64)

    def outliers(batch: Batch) -> tuple[Int[np.ndarray, " g"], Float[np.ndarray, " g"]]:
        members, present = batch
        gone, distance = _outliers(tracklets.embeddings, members, present, sigma_cst)
        short = present.sum(1) - gone.sum(1) < minimum_crops
        gone |= present & short[:, None]
        return members[gone], distance[gone]

    crops, distances = [], []
    for left, distance in thread_map(outliers, _batches(groups, tracklets.embeddings.shape[1])):
        crops.append(left)
        distances.append(distance)
    crop = np.concatenate([np.zeros(0, np.int64), *crops])
    order = np.argsort(crop)
    crop, distance = crop[order], np.concatenate([np.zeros(0), *distances])[order]
    left = owner.copy()
    left[crop] = -1
    held = np.bincount(left[left >= 0], minlength=len(tracklets)) > 0
    identity = renumber(np.where(held, assignment.identity, -1))
    if trace is not None:
        trace.add_moves(STAGE, crop, owner[crop], np.full(len(crop), -1), distance)
        trace.connect(identity)
    return Assignment(left, identity)


def _batches(groups: Groups, width: int) -> Iterator[Batch]:
    """Tracklets of about equal length, each a row of its crops; shorter ones are padded."""
    sizes = groups.sizes
    order = np.argsort(sizes, kind="stable")
    order = order[sizes[order] > 0]
    begin = 0
    while begin < len(order):
        shortest = sizes[order[begin]]
        end = begin + np.searchsorted(sizes[order[begin:]], shortest * 5 // 4, side="right")
        longest = sizes[order[end - 1]]
        end = min(end, begin + max(1, int(_BATCH_BYTES // (4 * width * longest))))
        mine = order[begin:end]
        place = np.arange(sizes[mine].max())
        present = place < sizes[mine][:, None]
        yield groups.rows[np.where(present, groups.offsets[mine][:, None] + place, 0)], present
        begin = end


def _outliers(
    embeddings: Float[np.ndarray, "n d"],
    members: Int[np.ndarray, "b m"],
    present: Bool[np.ndarray, "b m"],
    sigma_cst: float,
) -> tuple[Bool[np.ndarray, "b m"], Float[np.ndarray, "b m"]]:
    """Mask of the outliers of each tracklet, and their distance at removal (NaN where kept)."""
    b, m = members.shape
    x = read_unit(embeddings, members[present])
    if not present.all():
        padded = np.zeros((b * m, embeddings.shape[1]), np.float32)
        padded[present.ravel()] = x
        x = padded
    x = x.reshape(b, m, -1)
    gone = np.zeros((b, m), bool)
    removed_at = np.full((b, m), np.nan)
    # A float32 pass finds tracklets that may have outliers; most have none.
    total = x.sum(1)
    toward = np.matmul(x, total[:, :, None])[:, :, 0]
    look, length = _distance(toward, np.einsum("bd,bd->b", total, total), present)
    candidates = np.flatnonzero((present & ((look >= sigma_cst - _MARGIN) | (length < _SHORT))).any(1))
    chunk = max(1, _BATCH_BYTES // (8 * m * (embeddings.shape[1] + m)))
    for begin in range(0, len(candidates), chunk):
        mine = candidates[begin : begin + chunk]
        gone[mine], removed_at[mine] = _remove(x[mine].astype(np.float64), present[mine], sigma_cst)
    return gone, removed_at


def _remove(
    x: Float[np.ndarray, "b m d"], present: Bool[np.ndarray, "b m"], sigma_cst: float
) -> tuple[Bool[np.ndarray, "b m"], Float[np.ndarray, "b m"]]:
    """Eq. 4 in float64, all tracklets in step; each pass costs a few numbers a crop.

    With S the sum of a tracklet's crops, the mean of the others points along S - x_i, so inner products with S are
    all that is needed; when x_r leaves, x_i · S falls by x_i · x_r.
    """
    b, m, _ = x.shape
    inner = np.matmul(x, x.transpose(0, 2, 1)) if m <= _GRAM_LIMIT else None
    total = x.sum(1)
    toward = np.matmul(x, total[:, :, None])[:, :, 0]
    square = np.einsum("bd,bd->b", total, total)
    here = present.copy()
    removed_at = np.full((b, m), np.nan)
    active = np.arange(b)
    while len(active):
        distance, _ = _distance(toward[active], square[active], here[active])
        worst = np.argmax(distance >= distance.max(1, keepdims=True) - RESOLUTION, axis=1)
        value = distance[np.arange(len(active)), worst]
        leaves = deviates(value, sigma_cst)
        active, worst = active[leaves], worst[leaves]
        here[active, worst] = False
        removed_at[active, worst] = value[leaves]
        square[active] += 1 - 2 * toward[active, worst]
        column = inner[active, :, worst] if inner is not None else np.einsum("bmd,bd->bm", x[active], x[active, worst])
        toward[active] -= column
    return present & ~here, removed_at


def _distance(
    toward: Float[np.ndarray, "b m"], square: Float[np.ndarray, " b"], here: Bool[np.ndarray, "b m"]
) -> tuple[Float[np.ndarray, "b m"], Float[np.ndarray, "b m"]]:
    """Cosine distance of each crop to the mean of the others, -inf where there is no crop or no other; and |S - x|."""
    # |S - x|² = |S|² - 2 x·S + 1, and (S - x)·x = x·S - 1.
    length = np.sqrt(np.maximum(square[:, None] - 2 * toward + 1, 0))
    cosine = np.divide(toward - 1, length, out=np.zeros_like(toward), where=length > 1e-5)
    return np.where(here & (here.sum(1) > 1)[:, None], 1 - cosine, -np.inf), length
