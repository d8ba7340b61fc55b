from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import OPERATIONAL, Count, CountOrZero, Only, SettingsError, settings
from reappear.pipeline.engines import EngineSettings, LocalSettings, parse_memory

Share = Annotated[float, Interval(gt=0, lt=1)]
Rule = float | Literal["calibrated", "paper"]


@settings
class CorrelateSettings:
    """How tracklets become identities.

    The paper's method: `linking: closure`, `thresholds: paper`, `constraints: false`, `guard: none`.
    """

    linking: Annotated[
        Literal["average", "closure"],
        "how tracklets are linked. average: groups merge, the most similar first, while the mean similarity of all "
        "pairs of their tracklets is at least `z`; closure: as in the paper, pairs within sigma_drm, transitively",
    ] = "average"
    z: Annotated[
        float,
        "average linkage: smallest mean similarity of two groups that merge, in standard deviations above that to "
        "their nearest other people; more = fewer wrong merges and more identities",
        Interval(gt=0, le=1000),
        Only("linking", "average"),
    ] = 4.0
    precision: Annotated[
        Share | None,
        "average linkage: link less than `z` gives, so that this share of the linked pairs of tracklets is expected to "
        "be one person, such as 0.9; as `z` gives it if not given",
        Only("linking", "average"),
    ] = None
    thresholds: Annotated[
        float | str,
        "calibrated: from the videos: a tracklet is one person, simultaneous tracklets of one video are two; "
        "paper: 0.20 and 0.18, which fit the authors' own extractor; or CST,DRM: the cosine distance from which a crop "
        "is noise in its tracklet, and that up to which two are linked, each a number or one of these words",
    ] = "calibrated"
    impostors: Annotated[
        float,
        "calibrated thresholds: share of impostors among the crops removed from tracklets",
        Interval(gt=0, lt=1),
        Only("thresholds", "calibrated"),
    ] = 0.9
    false_links: Annotated[
        float,
        "calibrated thresholds: largest expected share of false pairs among linked pairs of crops",
        Interval(gt=0, lt=1),
        Only("thresholds", "calibrated"),
    ] = 0.2
    resamples: Annotated[
        int,
        "calibrated thresholds: bootstrap resamples of tracklets for their intervals",
        Interval(ge=0, le=100_000),
        Only("thresholds", "calibrated"),
    ] = 100
    pairs: Annotated[
        Literal["sliding", "all", "approximate"],
        "which tracklets or identities are compared. sliding: those at most `radius` apart in the order of videos, as "
        "in the paper; all: all pairs, without range limit; approximate: an index finds nearly "
        "all similar pairs among millions",
    ] = "sliding"
    recall: Annotated[
        float,
        "recall of links or neighbors that an index must reach; it is measured on a sample",
        Interval(gt=0, le=1),
        Only("pairs", "approximate"),
    ] = 0.99
    radius: Annotated[
        CountOrZero, "half width of the sliding range across videos, in identities (r_s)", Only("pairs", "sliding")
    ] = 1000
    single_tracklet: Annotated[bool, "remove outlier crops from each tracklet (Eq. 4)"] = True
    single_video: Annotated[
        bool, "move removed crops to a matching tracklet of their video (Eq. 5); closure: merge its tracklets (Eq. 6)"
    ] = True
    cross_video: Annotated[bool, "link tracklets of all videos: average linkage, or Eq. 7"] = True
    minimum_crops: Annotated[Count, "tracklets with fewer crops after Eq. 4 are discarded", Only("single_tracklet")] = 1
    targets: Annotated[
        Literal["frozen", "updated"],
        "Eq. 5: centroids computed once, or updated with every moved crop",
        Only("single_video"),
    ] = "frozen"
    merge: Annotated[
        Literal["once", "repeat"],
        "closure, Eq. 6: one pass over all pairs, or repeated with new centroids until none is left",
        Only("single_video"),
    ] = "once"
    constraints: Annotated[bool, "never link simultaneous tracklets of one video"] = True
    overlap: Annotated[
        float, "seconds that two tracklets of one video must overlap to be simultaneous", Interval(ge=0, le=1_000_000)
    ] = 1.0
    guard: Annotated[
        Literal["none", "diameter", "cut"],
        "closure: guard against chains. diameter: no two of a group farther apart than `max_diameter` times "
        "sigma_drm; cut: links whose ends share few neighbours are ignored; none: as in the paper",
    ] = "diameter"
    max_diameter: Annotated[
        float,
        "largest diameter of a group in sigma_drm; 1 = complete linkage",
        Interval(ge=1, le=1000),
        Only("guard", "diameter"),
    ] = 1.5
    review: Annotated[
        str, "review decisions: auto = review.jsonl of the workspace if there is one, none, or a file"
    ] = "auto"
    noise: Annotated[
        Literal["auto", "exact", "sampled", "none"],
        "how n_S is measured after each stage. exact: all pairs of identities; sampled: 4096 of them with all others, "
        "and a standard error; auto: exact up to 50,000 identities",
    ] = "auto"
    memory: Annotated[
        float | str,
        "memory that may be taken, such as 4GB or 800MB; a number alone is GB. The result is the same",
        OPERATIONAL,
    ] = "4GB"
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        "what compares pairs; auto: a GPU where there is one. The result is the same",
        OPERATIONAL,
    ] = "auto"
    engine: Annotated[EngineSettings, "where pairs are compared. The result is the same", OPERATIONAL] = field(
        default_factory=LocalSettings
    )

    def __post_init__(self) -> None:
        _ = self.rules
        if self.precision is not None and self.linking == "closure":
            raise SettingsError(
                "precision: is for average linkage; leave it out, or take --false-links with --linking closure"
            )
        parse_memory(self.memory)

    @property
    def rules(self) -> tuple[Rule, Rule]:
        """The rule or value of σ_cst and σ_drm.

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
