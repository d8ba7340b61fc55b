"""SORT, ByteTrack and OC-SORT at any frame rate: Kalman filters of boxes and their assignment to detections.

The tracklets and constants are those of release 2.6 of the package `trackers` (Roboflow, Apache-2.0). That package
cannot be a dependency: it requires the desktop build of OpenCV, which overwrites the headless build and
does not load where libGL is missing.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from .overlap import iou

_JITTER = 0.004  # s; a step this close to one frame interval has the noise of one interval
_REPLAY_JITTER = 0.1  # frame intervals; the same where OC-SORT predicts again
_LOOK_BACK = 3  # frames over which OC-SORT measures a direction

Box = Float[np.ndarray, "4"]
Boxes = Float[np.ndarray, "n 4"]
Scores = Float[np.ndarray, " n"]
Ids = Int[np.ndarray, " n"]


class KalmanFilter:
    """Constant-velocity Kalman filter whose noise grows with the step (discrete white-noise acceleration).

    The state is the four measured values, then the velocities of the first `velocities` of them per frame interval.

    Args:
        measured: The first measurement.
        velocities: How many measured values change over time.
        measurement_noise: Variance of each measured value.
        process_noise: Variance added to each value of the state in one frame interval.
        covariance: Initial variance of each value of the state.
    """

    def __init__(
        self,
        measured: Box,
        *,
        velocities: int = 4,
        measurement_noise: float | list[float] = 0.1,
        process_noise: float | list[float] = 0.01,
        covariance: float | list[float] = 1.0,
    ) -> None:
        size = 4 + velocities
        self._identity, self._observed = np.eye(size), np.eye(4, size)
        self._place, self._velocity = np.arange(velocities), np.arange(4, size)
        self._measurement_noise = np.eye(4) * measurement_noise
        self._process_noise = np.eye(size) * process_noise
        self.covariance = np.eye(size) * covariance
        self.state = np.zeros((size, 1))
        self.state[:4, 0] = measured

    def predict(self, step: float, jitter: float) -> None:
        """Predicts `step` frame intervals ahead; within `jitter` of 1 the noise is that of one interval."""
        transition = self._identity.copy()
        transition[self._place, self._velocity] = step
        noise = self._process_noise if abs(step - 1) <= jitter else self._noise_of(step)
        self.state = transition @ self.state
        self.covariance = transition @ self.covariance @ transition.T + noise

    def update(self, measured: Box) -> None:
        """Updates with a measurement (Joseph form)."""
        seen, noise = self._observed, self._measurement_noise
        innovation = measured.reshape(4, 1) - seen @ self.state
        cross = self.covariance @ seen.T
        gain = cross @ np.linalg.inv(seen @ cross + noise)
        self.state = self.state + gain @ innovation
        rest = self._identity - gain @ seen
        self.covariance = rest @ self.covariance @ rest.T + gain @ noise @ gain.T

    def _noise_of(self, step: float) -> Float[np.ndarray, "s s"]:
        noise, p, v = self._process_noise.copy(), self._place, self._velocity
        acceleration = self._process_noise[v, v]
        noise[p, p] = acceleration * (step * step * (step * step)) / 4
        noise[p, v] = noise[v, p] = acceleration * (step * step * step) / 2
        noise[v, v] = acceleration * (step * step)
        return noise


class Track:
    """One track; its state is the corners of the box.

    Attributes:
        id: Number of the tracklet; -1 before it has one.
        hits: Matched frames, consecutive or in total (see `ByteTrack`).
        missed: Frames since the last match.
        unseen_seconds: Seconds since the last match.
    """

    def __init__(self, box: Box) -> None:
        self.id = -1
        self.hits = 1
        self.missed = 0
        self.unseen_seconds = 0.0
        self.filter = KalmanFilter(box)

    def predict(self, seconds: float, rate: float) -> None:
        """Predicts `seconds` ahead, in a video of `rate` frames a second."""
        self.filter.predict(seconds * rate, _JITTER * rate)
        self.missed += 1
        self.unseen_seconds += seconds

    def update(self, box: Box, step: float) -> None:
        """Updates with a matched box, `step` frame intervals after the last frame."""
        self.filter.update(box)
        self.hits += 1
        self.missed = 0
        self.unseen_seconds = 0.0

    @property
    def box(self) -> Box:
        """The predicted box."""
        return np.asarray(self.filter.state[:4, 0])


class ByteTrack:
    """ByteTrack (Zhang et al. 2022, arXiv:2110.06864); SORT (Bewley et al. 2016, arXiv:1602.00763) is a special case.

    Args:
        rate: Frames a second.
        activation_score: Score from which a box starts a tracklet.
        high_score: Score from which a box is matched in the first round, others in the second; SORT has one round: 0.
        minimum_iou: Least IoU of a box with the predicted one to be matched.
        minimum_frames: Frames before a tracklet has a number.
        in_a_row: Whether those frames must be consecutive; SORT counts all.
    """

    def __init__(
        self,
        *,
        rate: float,
        activation_score: float,
        high_score: float,
        minimum_iou: float,
        minimum_frames: int,
        in_a_row: bool = True,
    ) -> None:
        self._rate, self._activation_score = rate, activation_score
        self._high_score, self._minimum_iou = high_score, minimum_iou
        self._minimum_frames, self._in_a_row = minimum_frames, in_a_row
        self._tracks: list[Track] = []
        self._next = 0

    def update(self, box: Boxes, score: Scores, seconds: float, *, lost_seconds: float) -> Ids:
        """The tracklet of each box, `seconds` after the last frame; -1 = none.

        A tracklet not matched for more than `lost_seconds` has ended.
        """
        ids = np.full(len(box), -1, np.int64)
        for track in self._tracks:
            if self._in_a_row and track.missed:
                track.hits = 0
            track.predict(seconds, self._rate)
        tracks = [track for track in self._tracks if track.unseen_seconds <= lost_seconds]
        free, unmatched = tracks, np.arange(0)
        for rows in (np.flatnonzero(score >= self._high_score), np.flatnonzero(score < self._high_score)):
            overlap = overlaps([track.box for track in free], box[rows])
            matches, without, left = assign(overlap, overlap, self._minimum_iou)
            for i, j in matches:
                free[i].update(box[rows[j]], seconds * self._rate)
                if free[i].hits >= self._minimum_frames and free[i].id < 0:
                    free[i].id, self._next = self._next, self._next + 1
                ids[rows[j]] = free[i].id
            free = [free[i] for i in without]
            unmatched = np.append(unmatched, rows[left])
        tracks += [Track(box[j]) for j in unmatched if score[j] >= max(self._activation_score, self._high_score)]
        self._tracks = [t for t in tracks if t.id >= 0 or t.hits >= self._minimum_frames or not t.missed]
        return ids


class DirectedTrack(Track):
    """One track; its state is centre, area and aspect ratio of the box, as in OC-SORT.

    When matched again after a gap, the filter returns to its state before the gap and is updated along a straight line
    through it (observation-centric re-update).
    """

    def __init__(self, box: Box) -> None:
        super().__init__(box)
        self.hits = 0
        self.filter = KalmanFilter(
            _centre_area_shape(box),
            velocities=3,
            measurement_noise=[1.0, 1.0, 10.0, 10.0],
            process_noise=[1.0, 1.0, 1.0, 1.0, 0.01, 0.01, 0.01 * 0.01],
            covariance=[10.0] * 4 + [10_000.0] * 3,
        )
        self.last = box
        self.direction: Float[np.ndarray, "2"] | None = None
        self._age = 0
        self._seen: dict[int, Box] = {}
        self._before_gap: tuple[Any, Any] | None = None

    @property
    def earlier(self) -> Box:
        """The matched box up to `_LOOK_BACK` frames ago."""
        ages = [self._age - back for back in range(_LOOK_BACK, 0, -1)]
        return next((self._seen[age] for age in ages if age in self._seen), self.last)

    @property
    def box(self) -> Box:
        """The predicted box."""
        x, y, area, shape = self.filter.state[:4, 0]
        width = np.sqrt(area * shape)
        height = area / width if width else 0.0
        return np.array([x - width * 0.5, y - height * 0.5, x + width * 0.5, y + height * 0.5])

    def predict(self, seconds: float, rate: float) -> None:
        """See `Track.predict`."""
        if self.missed:
            self.hits = 0
            self._before_gap = self._before_gap or (self.filter.state, self.filter.covariance)
        self._keep_area_positive(seconds * rate)
        super().predict(seconds, rate)
        self._age += 1

    def update(self, box: Box, step: float) -> None:
        """See `Track.update`."""
        if self._seen:
            self.direction = _directions(self.earlier[None], box[None])[0, 0]
        if self._before_gap:
            (self.filter.state, self.filter.covariance), self._before_gap = self._before_gap, None
            self._lead_through_gap(box, step)
        super().update(_centre_area_shape(box), step)
        self.last = self._seen[self._age] = box
        self._seen = {age: seen for age, seen in self._seen.items() if age >= self._age - _LOOK_BACK}

    def _lead_through_gap(self, box: Box, step: float) -> None:
        (x1, y1, w1, h1), (x2, y2, w2, h2) = _centre_size(self.last), _centre_size(box)
        for i in range(self.missed):
            part = i + 1
            width, height = w1 + part * ((w2 - w1) / self.missed), h1 + part * ((h2 - h1) / self.missed)
            x, y = x1 + part * ((x2 - x1) / self.missed), y1 + part * ((y2 - y1) / self.missed)
            self.filter.update(np.array([x, y, width * height, width / height]))
            if part < self.missed:
                self._keep_area_positive(step)
                self.filter.predict(step, _REPLAY_JITTER)

    def _keep_area_positive(self, step: float) -> None:
        state = self.filter.state
        if state[2, 0] + step * state[6, 0] <= 0:
            self.filter.state = state.copy()
            self.filter.state[6] = 0


class OcSort:
    """OC-SORT (Cao et al. 2023, arXiv:2203.14360).

    Args:
        rate: Frames a second.
        high_score: Boxes below this score are not used.
        minimum_iou: Least IoU of a box with the predicted or last one to be matched.
        direction_weight: Weight of direction consistency relative to IoU.
        minimum_frames: Frames in a row before a tracklet has a number.
    """

    def __init__(
        self, *, rate: float, high_score: float, minimum_iou: float, direction_weight: float, minimum_frames: int
    ) -> None:
        self._rate, self._high_score, self._minimum_iou = rate, high_score, minimum_iou
        self._direction_weight, self._minimum_frames = direction_weight, minimum_frames
        self._tracks: list[DirectedTrack] = []
        self._next = self._frames = 0

    def update(self, box: Boxes, score: Scores, seconds: float, *, lost_seconds: float) -> Ids:
        """The tracklet of each box, `seconds` after the last frame; -1 = none.

        A tracklet not matched for more than `lost_seconds` has ended.
        """
        ids = np.full(len(box), -1, np.int64)
        if not self._tracks and not len(box):
            return ids
        for track in self._tracks:
            track.predict(seconds, self._rate)
        tracks = [track for track in self._tracks if track.unseen_seconds <= lost_seconds]
        rows = np.flatnonzero(score >= self._high_score)
        overlap = overlaps([track.box for track in tracks], box[rows])
        matches, without, left = assign(
            overlap + self._agreement(tracks, box[rows], score[rows]), overlap, self._minimum_iou
        )
        overlap = overlaps([tracks[i].last for i in without], box[rows[left]])
        again, _, still_left = assign(overlap, overlap, self._minimum_iou)
        for i, j in matches + [(without[i], left[j]) for i, j in again]:
            track = tracks[i]
            track.update(box[rows[j]], seconds * self._rate)
            if track.hits >= self._minimum_frames or self._frames <= self._minimum_frames:
                if track.id < 0:
                    track.id, self._next = self._next, self._next + 1
                ids[rows[j]] = track.id
        self._tracks = tracks + [DirectedTrack(box[rows[left[j]]]) for j in still_left]
        self._frames += 1
        return ids

    def _agreement(self, tracks: list[DirectedTrack], box: Boxes, score: Scores) -> Float[np.ndarray, "t n"]:
        if not tracks or not self._direction_weight:
            return np.zeros((len(tracks), len(box)), np.float32)
        moving = np.array([track.direction is not None for track in tracks], np.float32)
        own = np.array([np.zeros(2) if track.direction is None else track.direction for track in tracks])[:, None]
        towards = _directions(np.array([track.earlier for track in tracks]), box)
        cosine = np.clip(own[..., 1] * towards[..., 1] + own[..., 0] * towards[..., 0], -1, 1)
        agreement = (moving[:, None] * ((np.pi / 2 - np.abs(np.arccos(cosine))) / np.pi)).astype(np.float32)
        agreement *= score
        return np.asarray(self._direction_weight * agreement)


def overlaps(expected: list[Box], found: Boxes) -> Float[np.ndarray, "t n"]:
    """IoU of each expected box with each found one."""
    if not expected or not len(found):
        return np.zeros((len(expected), len(found)), np.float32)
    return iou(np.array(expected).reshape(-1, 4), found).astype(np.float32)


def assign(
    benefit: Float[np.ndarray, "t n"], overlap: Float[np.ndarray, "t n"], minimum_iou: float
) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Assignment of maximal benefit without pairs below `minimum_iou`; unmatched rows; unmatched columns."""
    if not overlap.size:
        return [], list(range(overlap.shape[0])), list(range(overlap.shape[1]))
    pairs = [
        (i, j)
        for i, j in zip(*(part.tolist() for part in linear_sum_assignment(benefit, maximize=True)), strict=True)
        if overlap[i, j] >= minimum_iou
    ]
    rows, columns = set(range(len(overlap))), set(range(overlap.shape[1]))
    return pairs, sorted(rows - {i for i, _ in pairs}), sorted(columns - {j for _, j in pairs})


def _directions(start: Float[np.ndarray, "t 4"], end: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "t n 2"]:
    """Unit vectors (down, right) from the centre of each of `start` to that of each of `end`."""
    down = (end[:, 1] + end[:, 3]) / 2 - ((start[:, 1] + start[:, 3]) / 2)[:, None]
    right = (end[:, 0] + end[:, 2]) / 2 - ((start[:, 0] + start[:, 2]) / 2)[:, None]
    return np.asarray(np.stack([down, right], -1) / (np.sqrt(right**2 + down**2) + 1e-6)[..., None])


def _centre_area_shape(box: Box) -> Box:
    width, height = box[2] - box[0], box[3] - box[1]
    return np.array([box[0] + width * 0.5, box[1] + height * 0.5, width * height, width / (height + 1e-6)])


def _centre_size(box: Box) -> Box:
    x, y, area, shape = _centre_area_shape(box)
    return np.array([x, y, np.sqrt(area * shape), np.sqrt(area / shape) if shape else 0.0])
