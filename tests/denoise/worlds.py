"""Small worlds of tracklets for the tests of this room."""

import numpy as np
from hypothesis import strategies as st

from reappear.core import TrackletSet, lengths_to_offsets


def tracklet_set(x, lengths, video=None, start=None, end=None):
    count = len(lengths)
    video = np.zeros(count, np.int64) if video is None else np.asarray(video)
    start = np.arange(count, dtype=float) * 10 if start is None else np.asarray(start, float)
    end = start + 1 if end is None else np.asarray(end, float)
    return TrackletSet(np.asarray(x), video, start, end, lengths_to_offsets(np.asarray(lengths, np.int64)))


def at(*degrees):
    """Crops in the plane, by their angle."""
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def cos_distance(degrees):
    return 1 - np.cos(np.deg2rad(degrees))


def gaussian(seed, *, people=5, videos=2, width=6, spread=0.4, wrong=0.15, longest=6, share=0.7):
    """People who walk through videos as tracklets, with a share of crops that show another person."""
    rng = np.random.default_rng(seed)
    center = rng.normal(size=(people, width))
    rows, lengths, video, person = [], [], [], []
    for v in range(videos):
        for who in rng.permutation(people)[: max(1, int(share * people))]:
            for _ in range(rng.integers(1, 3)):
                length = int(rng.integers(1, longest + 1))
                shown = np.where(rng.random(length) < wrong, rng.integers(0, people, length), who)
                rows.append(center[shown] + spread * rng.normal(size=(length, width)))
                lengths.append(length)
                video.append(v)
                person.extend(shown)
    x = np.concatenate(rows).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return tracklet_set(x, lengths, video), np.array(person)


def check_links(assignment, links):
    """The links are a spanning forest of the identities: each joins two groups, and then the groups are these."""
    group = {int(t): {int(t)} for t in np.unique(assignment.tracklet[assignment.tracklet >= 0])}
    for first, second in zip(links["first"].tolist(), links["second"].tolist(), strict=True):
        assert group[first] is not group[second]
        group[first] |= group[second]
        for tracklet in group[first]:
            group[tracklet] = group[first]
    for tracklet, members in group.items():
        assert members == set(np.flatnonzero(assignment.identity == assignment.identity[tracklet]).tolist())


def duplicates(seed, width=3):
    """Crops from a handful of directions, so that ties and exact duplicates abound."""
    rng = np.random.default_rng(seed)
    some = np.concatenate([np.eye(width), -np.eye(width)[:1], np.ones((1, width))])
    lengths = rng.integers(1, 6, 6)
    x = some[rng.integers(0, len(some), lengths.sum())].astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return tracklet_set(x, lengths, np.sort(rng.integers(0, 3, 6)))


worlds = st.one_of(
    st.builds(
        lambda seed, spread: gaussian(seed, spread=spread)[0],
        st.integers(0, 10_000),
        st.sampled_from([0.1, 0.3, 0.6, 1.0]),
    ),
    st.builds(duplicates, st.integers(0, 10_000)),
)
sigmas = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.18, 0.2, 0.3, 0.5, 0.8, 1.0, 1.3, 2.0])
