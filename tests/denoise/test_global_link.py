"""Linking past the sliding range: exact, and by an index."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import Assignment, SettingsError
from reappear.denoise import Approximate, Rules, Trace, cross_video, global_link, single_tracklet, single_video
from reappear.denoise.approximate import approximate_links
from reappear.denoise.linking import find_links

from .test_linking import random_people, unit
from .worlds import sigmas, tracklet_set, worlds

few = settings(max_examples=30, deadline=None)


@few
@given(worlds, sigmas, st.booleans())
def test_global_link_equals_cross_video_with_full_radius(tracklets, drm, constraints):
    start = single_video(tracklets, single_tracklet(tracklets, Assignment.untouched(tracklets)), sigma_drm=0.05)
    mine, theirs = Trace(), Trace()
    found = global_link(tracklets, start, sigma_drm=drm, rules=Rules(constraints), trace=mine)
    whole = cross_video(tracklets, start, sigma_drm=drm, radius=len(tracklets), rules=Rules(constraints), trace=theirs)
    assert found.identity.tolist() == whole.identity.tolist()
    assert found.tracklet.tolist() == start.tracklet.tolist()
    for name, column in mine.link_columns().items():
        if name != "stage":
            assert column.tolist() == theirs.link_columns()[name].tolist()
    assert list(mine.vetoed.values()) == list(theirs.vetoed.values())


def test_global_link_finds_people_beyond_the_sliding_range():
    x = np.eye(50, dtype=np.float32)[np.r_[0:50, 0:50]]
    world = tracklet_set(x, np.ones(100, int), video=np.repeat([0, 1], 50))
    start = Assignment.untouched(world)
    assert cross_video(world, start, radius=49).identities == 100
    assert global_link(world, start).identities == 50


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_index_reaches_its_recall_without_false_links(kind):
    x = unit(np.random.default_rng(0).normal(size=(4000, 32)).repeat(2, axis=0) + 0.02 * random_people(0, 8000, 32))
    x = x.astype(kind)
    whole = find_links(x, 0.15)
    links, recall = approximate_links(x, 0.15, Approximate(recall=0.95, sample=500))
    keys, every = (
        set(zip(a.first.tolist(), a.second.tolist(), a.distance.tolist(), strict=True)) for a in (links, whole)
    )
    assert len(links) == len(keys)
    assert keys <= every
    assert len(keys) < len(every) or recall == 1
    assert len(keys) / len(every) == pytest.approx(recall, abs=0.03)
    assert recall > 0.92


@few
@given(st.integers(0, 1000), st.integers(1, 60), sigmas)
def test_search_of_all_cells_is_exact(seed, count, sigma):
    """A recall of 1 on all rows leaves nothing out."""
    x = random_people(seed, count)
    whole = find_links(x, sigma)
    links, recall = approximate_links(x, sigma, Approximate(recall=1.0, sample=count))
    assert links.first.tolist() == whole.first.tolist()
    assert links.second.tolist() == whole.second.tolist()
    assert links.distance.tobytes() == whole.distance.tobytes()
    assert recall in (None, 1)


def test_trace_has_the_recall_of_the_index():
    x = random_people(3, 300)
    world, trace = tracklet_set(x[x.any(1)], np.ones(int(x.any(1).sum()), int)), Trace()
    found = global_link(world, Assignment.untouched(world), approximate=Approximate(recall=1.0), trace=trace)
    assert trace.recall == {"global-link": 1.0}
    assert found.identity.tolist() == global_link(world, Assignment.untouched(world)).identity.tolist()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recall": 0.0}, "recall: must be more than 0 and at most 1, got 0.0"),
        ({"recall": 1.1}, "recall: must be more than 0 and at most 1, got 1.1"),
        ({"sample": 0}, "sample: must be 1 or more, got 0"),
    ],
)
def test_invalid_index_settings_are_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        Approximate(**wrong)
    world = tracklet_set(np.eye(2, dtype=np.float32), [1, 1])
    with pytest.raises(SettingsError, match="sigma_drm: must be a cosine distance"):
        global_link(world, Assignment.untouched(world), sigma_drm=3.0)
