from dataclasses import field
from typing import Annotated, Literal

from reappear.core import settings
from reappear.pipeline.engines import EngineSettings, LocalSettings


@settings
class CorrelateSettings:
    """How tracklets become identities. The paper's method: `thresholds: paper`, `constraints: false`, `guard: none`."""

    thresholds: Annotated[
        Literal["auto", "paper"],
        "auto: chosen from the footage, for tracklets are one person and those seen at the same time are two; "
        "paper: 0.20 and 0.18, which fit the authors' own extractor",
    ] = "auto"
    sigma_cst: Annotated[
        float | None, "cosine distance from which a crop is noise in its tracklet; sets it by hand"
    ] = None
    sigma_drm: Annotated[float | None, "cosine distance up to which two are one person; sets it by hand"] = None
    outliers: Annotated[float, "automatic thresholds: largest share of crops to call noise, 0..1"] = 0.1
    strangers: Annotated[
        float, "automatic thresholds: share of crops that may pass for somebody seen at the same time, 0..1"
    ] = 0.05
    false_links: Annotated[
        float, "automatic thresholds: links between different people that are bearable, for each identity left"
    ] = 0.1
    pairs: Annotated[
        Literal["sliding", "all", "approximate"],
        "which identities are compared across videos. sliding: those at most `radius` apart in the order of videos, as "
        "in the paper; all: every two, so that whoever comes back later is found; approximate: an index finds nearly "
        "all that are alike among millions",
    ] = "sliding"
    recall: Annotated[float, "share of links that an index has to find, 0..1; what it found is measured"] = 0.99
    radius: Annotated[int, "half width of the sliding range across videos, in identities (r_s)"] = 1000
    single_tracklet: Annotated[bool, "take deviating crops out of each tracklet (Eq. 4)"] = True
    single_video: Annotated[bool, "give such crops to another tracklet, join tracklets of a video (Eq. 5-6)"] = True
    cross_video: Annotated[bool, "join identities of all videos (Eq. 7)"] = True
    minimum_crops: Annotated[int, "tracklets left with fewer crops by Eq. 4 are taken apart"] = 1
    targets: Annotated[
        Literal["frozen", "updated"], "Eq. 5: centroids taken once, or moved by every crop that is given away"
    ] = "frozen"
    merge: Annotated[
        Literal["once", "repeat"], "Eq. 6: one look at all pairs, or again with new centroids until none is left"
    ] = "once"
    constraints: Annotated[bool, "never join people who are seen at the same time in one video"] = True
    overlap: Annotated[float, "seconds that two tracklets must share in one video to be two people"] = 1.0
    guard: Annotated[
        Literal["none", "diameter", "cut"],
        "against chains that join crowds; diameter: no two of a group farther apart than `spread` times sigma_drm; "
        "cut: links whose ends share few neighbours do not count; none: as in the paper",
    ] = "diameter"
    spread: Annotated[float, "largest diameter of a group in sigma_drm; 1 = complete linkage"] = 2.0
    review: Annotated[
        str, "what people decided: auto = review.jsonl of the workspace where there is one, none, or a file"
    ] = "auto"
    noise: Annotated[
        Literal["auto", "exact", "sampled", "none"],
        "how n_S is measured after each stage. exact: all pairs of identities; sampled: 4096 of them with all others, "
        "and a standard error; auto: exact up to 50,000 identities",
    ] = "auto"
    memory: Annotated[
        float | str, "memory that may be taken, such as 4GB or 800MB; a number alone is GB. The result is the same"
    ] = "4GB"
    device: Annotated[
        Literal["auto", "cpu", "cuda"], "what compares pairs; auto: a GPU where there is one. The result is the same"
    ] = "auto"
    engine: Annotated[EngineSettings, "where pairs are compared. The result is the same"] = field(
        default_factory=LocalSettings
    )
