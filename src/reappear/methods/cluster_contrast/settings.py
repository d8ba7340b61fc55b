"""Settings of Cluster Contrast."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Count, Fraction, Positive, settings
from reappear.methods.settings import SupervisedMethodSettings
from reappear.train.image_augment import ImageAugmentSettings


@settings
class ClusterContrastSettings(SupervisedMethodSettings):
    """Without labels: contrast with the centroids of clusters of its own features, made anew again and again."""

    kind: Literal["cluster_contrast"] = "cluster_contrast"
    images: Annotated[int, "images of each cluster in a step (K)", Interval(ge=2, le=1024)] = 8
    phase_steps: Annotated[Count, "steps between two clusterings"] = 100
    radius: Annotated[float, "largest Jaccard distance of neighbours in DBSCAN (eps)", Interval(gt=0, lt=1)] = 0.6
    least: Annotated[Count, "neighbours, with itself, that make an image the core of a cluster"] = 4
    k1: Annotated[int, "neighbours that are asked whether they are mutual", Interval(ge=1, le=1000)] = 30
    k2: Annotated[int, "neighbours whose neighbourhoods are averaged", Interval(ge=1, le=1000)] = 6
    temperature: Annotated[Positive, "temperature of the cross-entropy"] = 0.05
    momentum: Annotated[Fraction, "share of a centroid that an image of its cluster leaves as it was"] = 0.2
    hard: Annotated[bool, "a centroid follows its least similar image of the step alone, not each in turn"] = True
    gem: Annotated[bool, "generalised-mean pooling of the backbone's map, with a learnt exponent"] = False
    augment: Annotated[ImageAugmentSettings, "augmentation of images"] = field(default_factory=ImageAugmentSettings)
