from dataclasses import field
from typing import Annotated, Literal

from reappear.core import SettingsError, settings
from reappear.metrics import Protocol
from reappear.models.extractors import ColorSettings, ExtractorSettings

from .sides import Split


@settings
class EvaluateSettings:
    """Who is examined, and by which rules."""

    extractor: Annotated[ExtractorSettings, "who turns an image into a vector; --model for several"] = field(
        default_factory=ColorSettings
    )
    protocol: Annotated[
        Protocol,
        "market: the same person in the query's own camera is passed over; cross-camera: everybody in the query's own "
        "camera is; no-camera: nobody is; video: market over tracklets, with the queries in the gallery; "
        "cuhk03-single-gallery-shot: cross-camera against one image drawn of each person",
    ] = "market"
    split: Annotated[
        Split,
        "who asks: own: the set's queries; cross-camera: one camera, the others answer; first-image: the first image "
        "of each person, the others answer",
    ] = "own"
    identities: Annotated[
        str | None, "only people at positions A-B of all, sorted by number, such as 568-767; all if not given"
    ] = None
    query_camera: Annotated[int | None, "the camera that asks under --split cross-camera; the lowest if not given"] = (
        None
    )
    gallery_includes_query: Annotated[bool, "under --protocol video: queries join the gallery"] = True
    draws: Annotated[int, "galleries drawn under --protocol cuhk03-single-gallery-shot"] = 10
    flip: Annotated[bool, "add the vector of the mirrored image"] = False
    rerank: Annotated[bool, "re-rank by k-reciprocal neighbours"] = False
    k1: Annotated[int, "re-ranking: neighbours that are asked whether they are mutual"] = 20
    k2: Annotated[int, "re-ranking: neighbours whose encodings are averaged"] = 6
    weight: Annotated[float, "re-ranking: share of the original distance, in [0, 1]"] = 0.3
    false_match: Annotated[tuple[float, ...], "false-match rates that a threshold is wanted for"] = (0.001, 0.01)
    ranks: Annotated[int, "length of the CMC"] = 50
    top: Annotated[int, "gallery images kept of each ranked list, for pictures"] = 10
    bootstrap: Annotated[int, "how many times people are drawn anew for intervals"] = 1000
    seed: Annotated[int, "of everything that is drawn"] = 0
    batch: Annotated[int, "images at a time"] = 64
    memory_mb: Annotated[int, "memory for similarities, in MB"] = 256
    device: Annotated[Literal["cpu", "cuda"], "where the gallery is ranked"] = "cpu"

    def __post_init__(self) -> None:
        for name in ("draws", "ranks", "top", "bootstrap", "batch", "memory_mb", "k1", "k2"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: must be 1 or more, got {getattr(self, name)}")
        if not 0 <= self.weight <= 1:
            raise SettingsError(f"weight: must lie in 0..1, got {self.weight}")
        for rate in self.false_match:
            if not 0 < rate < 1:
                raise SettingsError(f"false_match: must lie between 0 and 1, got {rate}")
        if self.rerank and self.protocol == "video" and self.gallery_includes_query:
            raise SettingsError(
                "rerank: queries that are in the gallery would be their own neighbours; add --gallery-includes-query no"
            )
