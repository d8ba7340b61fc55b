"""Settings of Cluster Contrast."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Count, Fraction, Only, Positive, settings
from reappear.methods.settings import SupervisedMethodSettings
from reappear.train.image_augment import ImageAugmentSettings


@settings
class ClusterContrastSettings(SupervisedMethodSettings):
    """Without labels: contrast with the centroids of clusters of its own features, made anew again and again."""

    kind: Literal["cluster_contrast"] = "cluster_contrast"
    images: Annotated[int, "images of each cluster in a step (K)", Interval(ge=2, le=1024)] = 8
    phase_steps: Annotated[Count, "steps between two clusterings"] = 100
    clusters: Annotated[
        Literal["dbscan", "average"],
        "how images are clustered. dbscan: on the k-reciprocal Jaccard distance; average: average linkage, as "
        "`correlate` links tracklets, with the mean of each camera subtracted",
    ] = "dbscan"
    z: Annotated[
        float,
        "average linkage: smallest mean similarity of two clusters that merge, in standard deviations above that to "
        "their nearest other images",
        Interval(gt=0, le=1000),
        Only("clusters", "average"),
    ] = 3.0
    negatives: Annotated[
        Literal["all", "camera"],
        "clusters whose centroids an image is contrasted with: all, or those with an image of its own camera, so that "
        "a person's clusters of several cameras are not pushed apart",
    ] = "all"
    radius: Annotated[
        float,
        "largest Jaccard distance of neighbours in DBSCAN (eps)",
        Interval(gt=0, lt=1),
        Only("clusters", "dbscan"),
    ] = 0.6
    least: Annotated[
        Count, "neighbours, with itself, that make an image the core of a cluster", Only("clusters", "dbscan")
    ] = 4
    k1: Annotated[
        int, "neighbours that are asked whether they are mutual", Interval(ge=1, le=1000), Only("clusters", "dbscan")
    ] = 30
    k2: Annotated[
        int, "neighbours whose neighbourhoods are averaged", Interval(ge=1, le=1000), Only("clusters", "dbscan")
    ] = 6
    temperature: Annotated[Positive, "temperature of the cross-entropy"] = 0.05
    momentum: Annotated[Fraction, "share of a centroid that an image of its cluster leaves as it was"] = 0.2
    hard: Annotated[bool, "a centroid follows its least similar image of the step alone, not each in turn"] = True
    gem: Annotated[bool, "generalised-mean pooling of the backbone's map, with a learnt exponent"] = False
    adapt_batch_norm: Annotated[
        bool,
        "before the first clustering, estimates the statistics of all batch norm layers from the images of this set, "
        "in place of those of the set that the weights were trained on (AdaBN)",
    ] = False
    augment: Annotated[ImageAugmentSettings, "augmentation of images"] = field(default_factory=ImageAugmentSettings)
