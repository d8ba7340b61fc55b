"""Settings of MGN."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Count, Positive, settings
from reappear.methods.settings import SupervisedMethodSettings
from reappear.train.image_augment import ImageAugmentSettings


@settings
class MgnSettings(SupervisedMethodSettings):
    """A ResNet with branches for the whole image, its halves and its thirds; circle loss and triplets (MGN)."""

    kind: Literal["mgn"] = "mgn"
    images: Annotated[int, "images of each identity in a step (K)", Interval(ge=2, le=1024)] = 16
    part_width: Annotated[Count, "width of the vector of each of the eight parts"] = 256
    circle_margin: Annotated[float, "margin of the circle loss", Interval(gt=0, lt=1)] = 0.35
    circle_scale: Annotated[Positive, "scale of the circle loss"] = 64.0
    margin: Annotated[Positive | None, "margin of the triplet loss; soft if not given"] = None
    label_smoothing: Annotated[
        float, "weight of the cross-entropy that is shared among the other identities", Interval(ge=0, le=0.5)
    ] = 0.1
    freeze: Annotated[float, "share of the training in which the heads alone are trained", Interval(ge=0, lt=1)] = 0.15
    augment: Annotated[ImageAugmentSettings, "augmentation of images"] = field(default_factory=ImageAugmentSettings)
