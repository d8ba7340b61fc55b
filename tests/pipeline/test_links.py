"""Whatever takes tracklets out of identities, the recorded links connect those of each identity, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from reappear.core import Decision
from reappear.denoise import ReviewConstraints
from reappear.pipeline.correlate import CorrelateSettings
from reappear.pipeline.correlate.stages import identify
from reappear.synthetic import TrackletPlan, embedded_tracklets
from tests.denoise.worlds import check_links

PLAN = TrackletPlan(people=7, cameras=3, visits=2, crops=3, swapped=0.1)
CLOSURE = {"linking": "closure", "thresholds": "0.6,0.3"}
AVERAGE = {"linking": "average", "z": 1.5}


def decisions(seed, identity):
    """Some of each kind; splits take a tracklet out of an identity, as `review split` does."""
    random = np.random.default_rng(seed)
    for line in range(1, 9):
        kind = ("split", "same", "split", "different", "reject")[line % 5]
        one, *others = random.permutation(len(identity))[:3].tolist()
        if kind == "split":
            others = np.flatnonzero((identity == identity[one]) & (np.arange(len(identity)) != one)).tolist()
            if others:
                yield Decision("split", (one,), tuple(others), line=line)
        else:
            yield Decision(kind, (one,) if kind == "reject" else (one, *others), line=line)


@pytest.mark.parametrize(
    "changed",
    [
        CLOSURE,
        {**CLOSURE, "pairs": "all", "guard": "none", "constraints": False, "minimum_crops": 3},
        {**CLOSURE, "guard": "cut", "merge": "repeat"},
        {**CLOSURE, "cross_video": False, "single_tracklet": False},
        AVERAGE,
        {**AVERAGE, "precision": 0.99, "minimum_crops": 3},
        {**AVERAGE, "constraints": False, "pairs": "all"},
    ],
    ids=lambda changed: "-".join(map(str, changed.values())),
)
@pytest.mark.parametrize("seed", range(2))
def test_links_connect_identities_after_every_stage_and_round(changed, seed):
    settings = CorrelateSettings(**changed, noise="none")
    tracklets, _ = embedded_tracklets(replace(PLAN, seed=seed))
    first, _ = identify(tracklets, settings)
    check_links(first.assignment, first.links)
    random = np.random.default_rng(seed)
    for _ in range(2):  # rounds: other vectors, some crops without one, more decisions
        tracklets.embeddings[:] += random.normal(0, 0.02, tracklets.embeddings.shape)
        lost = np.isin(tracklets.origin, random.permutation(len(tracklets))[:3])
        tracklets.embeddings[lost] = 0
        made = list(decisions(seed, first.assignment.identity))
        for review in (None, ReviewConstraints.of(made, tracklets)):
            found, _ = identify(tracklets, settings, start=first, review=review)
            check_links(found.assignment, found.links)
        first = found
    anew, _ = identify(tracklets, settings, review=review)
    check_links(anew.assignment, anew.links)
