from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Count, CountOrZero, SettingsError, settings
from reappear.pipeline.engines import EngineSettings, LocalSettings, parse_memory

Rule = float | Literal["calibrated", "paper"]


@settings
class CorrelateSettings:
    """How tracklets become identities. The paper's method: `thresholds: paper`, `constraints: false`, `guard: none`."""

    thresholds: Annotated[
        float | str,
        "calibrated: chosen from the footage, for tracklets are one person and those seen at the same time are two; "
        "paper: 0.20 and 0.18, which fit the authors' own extractor; or CST,DRM: the cosine distance from which a crop "
        "is noise in its tracklet, and that up to which two are one person, each a number or one of these words",
    ] = "calibrated"
    impostors: Annotated[
        float,
        "calibrated thresholds: share of the crops taken out of tracklets that should show another person",
        Interval(gt=0, lt=1),
    ] = 0.9
    false_links: Annotated[
        float,
        "calibrated thresholds: share of pairs of crops put together that may be of two people",
        Interval(gt=0, lt=1),
    ] = 0.2
    resamples: Annotated[
        int, "calibrated thresholds: how often tracklets are drawn anew for their intervals", Interval(ge=0, le=100_000)
    ] = 100
    pairs: Annotated[
        Literal["sliding", "all", "approximate"],
        "which identities are compared across videos. sliding: those at most `radius` apart in the order of videos, as "
        "in the paper; all: every two, so that whoever comes back later is found; approximate: an index finds nearly "
        "all that are alike among millions",
    ] = "sliding"
    recall: Annotated[
        float, "share of links that an index has to find; what it found is measured", Interval(gt=0, le=1)
    ] = 0.99
    radius: Annotated[CountOrZero, "half width of the sliding range across videos, in identities (r_s)"] = 1000
    single_tracklet: Annotated[bool, "take deviating crops out of each tracklet (Eq. 4)"] = True
    single_video: Annotated[bool, "give such crops to another tracklet, join tracklets of a video (Eq. 5-6)"] = True
    cross_video: Annotated[bool, "join identities of all videos (Eq. 7)"] = True
    minimum_crops: Annotated[Count, "tracklets left with fewer crops by Eq. 4 are taken apart"] = 1
    targets: Annotated[
        Literal["frozen", "updated"], "Eq. 5: centroids taken once, or moved by every crop that is given away"
    ] = "frozen"
    merge: Annotated[
        Literal["once", "repeat"], "Eq. 6: one look at all pairs, or again with new centroids until none is left"
    ] = "once"
    constraints: Annotated[bool, "never join people who are seen at the same time in one video"] = True
    overlap: Annotated[
        float, "seconds that two tracklets must share in one video to be two people", Interval(ge=0, le=1_000_000)
    ] = 1.0
    guard: Annotated[
        Literal["none", "diameter", "cut"],
        "against chains that join crowds; diameter: no two of a group farther apart than `max_diameter` times "
        "sigma_drm; cut: links whose ends share few neighbours do not count; none: as in the paper",
    ] = "diameter"
    max_diameter: Annotated[
        float, "largest diameter of a group in sigma_drm; 1 = complete linkage", Interval(ge=1, le=1000)
    ] = 1.5
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

    def __post_init__(self) -> None:
        _ = self.rules
        parse_memory(self.memory)

    @property
    def rules(self) -> tuple[Rule, Rule]:
        """By which rule, or by hand, σ_cst and σ_drm are chosen.

        Raises:
            SettingsError: `thresholds` is neither a word nor a distance, or not one or two of them.
        """
        parts = str(self.thresholds).split(",")
        if len(parts) > 2:
            raise SettingsError(f"thresholds: must be one value or two as in 0.2,0.18, got {self.thresholds!r}")
        return _rule(parts[0].strip()), _rule(parts[-1].strip())


def _rule(text: str) -> Rule:
    if text == "calibrated":
        return "calibrated"
    if text == "paper":
        return "paper"
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(
            f"thresholds: must be calibrated, paper, or cosine distances as in 0.2,0.18, got {text!r}"
        ) from None
    if not 0 <= value <= 2:
        raise SettingsError(f"thresholds: must be cosine distances in 0..2, got {text}")
    return value
