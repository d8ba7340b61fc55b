from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import OPERATIONAL, BatchSize, CountOrZero, Fraction, Megabytes, Only, Seed, SettingsError, settings
from reappear.metrics import RankingProtocol
from reappear.models.extractors import ColorSettings, ExtractorSettings

from .splits import Split
from .vectors import TrackletVector

Neighbours = Annotated[int, Interval(ge=1, le=100_000)]


@settings
class EvaluateSettings:
    """Extractor, protocol and scores of an evaluation."""

    extractor: Annotated[ExtractorSettings, "computes the embedding of an image; --model for several"] = field(
        default_factory=ColorSettings
    )
    protocol: Annotated[
        RankingProtocol,
        "market: the same person in the query's own camera is passed over; cross-camera: all images of the query's own "
        "camera are; no-camera: none are; video: market over tracklets, with the queries in the gallery; "
        "cuhk03-single-gallery-shot: cross-camera against one image drawn of each person",
    ] = "market"
    split: Annotated[
        Split,
        "queries: own: those of the data set; cross-camera: the images of one camera; first-image: the first image "
        "of each person; the other images are the gallery",
    ] = "own"
    identities: Annotated[
        str | None, "only people at positions A-B of all, sorted by number, such as 568-767; all if not given"
    ] = None
    query_camera: Annotated[
        CountOrZero | None,
        "camera of the queries under --split cross-camera; the lowest if not given",
        Only("split", "cross-camera"),
    ] = None
    gallery_includes_query: Annotated[
        bool, "under --protocol video: queries join the gallery", Only("protocol", "video")
    ] = True
    tracklet: Annotated[
        TrackletVector,
        "under --protocol video, what a model for clips makes a tracklet's vector of: one clip of frames at equal "
        "distances; dense: clips of all frames, whose mean it is; images: as other models, the mean of its images",
        Only("protocol", "video"),
    ] = "clip"
    draws: Annotated[
        int,
        "galleries drawn under --protocol cuhk03-single-gallery-shot",
        Interval(ge=1, le=10_000),
        Only("protocol", "cuhk03-single-gallery-shot"),
    ] = 10
    flip: Annotated[bool, "add the vector of the mirrored image"] = False
    rerank: Annotated[bool, "re-rank by k-reciprocal neighbours"] = False
    k1: Annotated[Neighbours, "re-ranking: size of the k-reciprocal neighbourhood", Only("rerank")] = 20
    k2: Annotated[Neighbours, "re-ranking: neighbours whose encodings are averaged", Only("rerank")] = 6
    weight: Annotated[Fraction, "re-ranking: share of the original distance", Only("rerank")] = 0.3
    false_match: Annotated[
        tuple[Annotated[float, Interval(gt=0, lt=1)], ...], "false-match rates that a threshold is wanted for"
    ] = (0.001, 0.01)
    ranks: Annotated[int, "length of the CMC", Interval(ge=1, le=100_000)] = 50
    top: Annotated[int, "gallery images kept of each ranked list, for pictures", Interval(ge=1, le=10_000)] = 10
    bootstrap: Annotated[int, "bootstrap resamples of people for the intervals", Interval(ge=1, le=1_000_000)] = 1000
    seed: Annotated[Seed, "of everything that is drawn"] = 0
    batch: Annotated[
        BatchSize, "images at a time; vectors of a network may differ by it in the last bit", OPERATIONAL
    ] = 64
    memory_mb: Annotated[Megabytes, "memory for similarities, in MB", OPERATIONAL] = 256
    device: Annotated[Literal["cpu", "cuda"], "where the gallery is ranked", OPERATIONAL] = "cpu"

    def __post_init__(self) -> None:
        if self.rerank and self.protocol == "video" and self.gallery_includes_query:
            raise SettingsError(
                "rerank: queries that are in the gallery would be their own neighbours; add --gallery-includes-query no"
            )
