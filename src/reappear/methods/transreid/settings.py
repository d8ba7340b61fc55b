"""Settings of supervised fine-tuning by TransReID's recipe."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Only, Positive, settings
from reappear.methods.settings import SupervisedMethodSettings
from reappear.train.image_augment import ImageAugmentSettings


@settings
class TransReidSettings(SupervisedMethodSettings):
    """Cross-entropy after a batch-norm neck and batch-hard triplets before it: the recipe that CION fine-tunes by.

    With `jpm` and `sie` it is TransReID itself.
    """

    kind: Literal["transreid"] = "transreid"
    images: Annotated[int, "images of each identity in a step (K)", Interval(ge=2, le=1024)] = 4
    margin: Annotated[Positive | None, "margin of the triplet loss; soft if not given"] = None
    label_smoothing: Annotated[
        float, "weight of the cross-entropy that is shared among all identities", Interval(ge=0, lt=1)
    ] = 0.0
    jpm: Annotated[bool, "jigsaw patches, for vision transformers: four parts of the patches give vectors too"] = False
    sie: Annotated[bool, "side information of the camera, for vision transformers: a learnt vector in each token"] = (
        False
    )
    sie_weight: Annotated[Positive, "weight of the vector of the camera", Only("sie")] = 3.0
    bias_lr: Annotated[Positive, "learning rate of biases over that of weights"] = 2.0
    augment: Annotated[ImageAugmentSettings, "augmentation of images"] = field(
        default_factory=lambda: ImageAugmentSettings(erase_area=(0.02, 0.33), erase_with="noise")
    )
