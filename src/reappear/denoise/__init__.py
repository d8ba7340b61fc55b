"""From tracklets to identities: CION Sec. 3.1-3.2, stages applied one after another to an assignment.

    assignment = Assignment.untouched(tracklets)
    for stage in (single_tracklet, single_video, cross_video):
        assignment = stage(tracklets, assignment)

`global_link` is `cross_video` without its range; `average_link` takes the place of both merges, Eq. 6 and 7 (not in the
paper), after `reallocate`, which is the first half of `single_video` (Eq. 5).
`noise_score` is n_S (Eq. 3), and `sampled_noise` estimates it where identities are many; `calibrate` chooses thresholds
that suit the extractor; `Rules` forbid links; a `Trace` records the reasons.
"""

from .approximate import Approximate
from .average_link import average_link
from .calibrate import Calibration, calibrate
from .cross_video import cross_video, global_link
from .guard import Guard
from .noise import Noise, SampledNoise, noise_score, noise_terms, sampled_noise
from .probability import DOUBTFUL, weakest_links
from .products import BLAS, Products
from .review import ReviewConstraints, apply_review, reject
from .rules import Rules
from .sightings import SightingProbability, pair_probability
from .single_tracklet import single_tracklet
from .single_video import reallocate, single_video
from .thresholds import RADIUS, SIGMA_CST, SIGMA_DRM
from .trace import Trace

__all__ = [
    "BLAS",
    "DOUBTFUL",
    "RADIUS",
    "SIGMA_CST",
    "SIGMA_DRM",
    "Approximate",
    "Calibration",
    "Guard",
    "Noise",
    "Products",
    "ReviewConstraints",
    "Rules",
    "SampledNoise",
    "SightingProbability",
    "Trace",
    "apply_review",
    "average_link",
    "calibrate",
    "cross_video",
    "global_link",
    "noise_score",
    "noise_terms",
    "pair_probability",
    "reallocate",
    "reject",
    "sampled_noise",
    "single_tracklet",
    "single_video",
    "weakest_links",
]
