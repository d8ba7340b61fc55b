"""How a model is fine-tuned."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Count, CountOrZero, ImageSide, NotNegative, Only, Positive, settings
from reappear.methods.registry import AnyFinetuneMethod
from reappear.methods.transreid.settings import TransReidSettings
from reappear.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from reappear.train.schedule import LrShape
from reappear.train.settings import BaseTrainSettings, OptimizerName

_HALF = (0.5, 0.5, 0.5)


@settings
class FinetuneSettings(BaseTrainSettings):
    """How a model is fine-tuned. The defaults suit some thousands of images; recipes/finetune/ has the paper's."""

    method: Annotated[
        AnyFinetuneMethod,
        "training method: transreid, the paper's for all backbones; mgn, for ResNets; cluster_contrast, without "
        "labels; grl, for clips of tracklets",
    ] = field(default_factory=TransReidSettings)
    identities: Annotated[
        str | None,
        "A-B: only people at these positions among those of the training images, sorted by number, from 1; all if not "
        "given",
    ] = None
    backbone: Annotated[
        str, "architecture: one that `reappear models` shows or any timm name; that of --init, a model folder, if empty"
    ] = ""
    height: Annotated[ImageSide, "height of images in pixels"] = 256
    width: Annotated[ImageSide, "width of images in pixels"] = 128
    normalisation: Annotated[
        Literal["imagenet", "half"], "mean and deviation of pixels: ImageNet's, or 0.5 as in the paper's fine-tuning"
    ] = "imagenet"
    steps: Annotated[CountOrZero | None, "steps of training; epochs count if not given"] = None
    epochs: Annotated[
        float, "passes over the images, where steps are not given", Interval(ge=0, le=1_000_000), Only("steps", None)
    ] = 30.0
    images_per_step: Annotated[Count, "images in a step, over all processes; a multiple of method.images"] = 64
    lr: Annotated[Positive, "peak learning rate"] = 0.01
    final_lr: Annotated[NotNegative, "learning rate at the end of a cosine"] = 1e-5
    warmup: Annotated[float, "share of the training in which the learning rate rises", Interval(ge=0, lt=1)] = 0.15
    lr_schedule: Annotated[
        LrShape,
        "how the learning rate falls after the warm-up; its cosine begins there, under full-cosine with the training, "
        "under late-cosine in the middle of the training",
    ] = "full-cosine"
    weight_decay: Annotated[NotNegative, "weight decay at the start"] = 1e-4
    final_weight_decay: Annotated[NotNegative, "weight decay at the end of its cosine"] = 1e-4
    optimizer: Annotated[
        OptimizerName, "AdamW, Adam (decay is a part of the gradient), or SGD with momentum 0.9, or Nesterov's"
    ] = "sgd"
    clip: Annotated[NotNegative, "largest norm of each parameter's gradient; 0 = no clipping"] = 0.0
    validation_share: Annotated[
        float,
        "share of the identities that the model is selected on instead of trained, where --validation is not given",
        Interval(ge=0, lt=1),
        Only("validation", None),
        Only("validation_every"),
    ] = 0.1
    validation_every: Annotated[
        CountOrZero,
        "steps between validations; 0 = never: the last weights are saved",
        Only("validation or validation_share"),
    ] = 100

    def __post_init__(self) -> None:
        self.method.check(self)

    @property
    def preprocessing(self) -> Preprocessing:
        """How the trained network will see images."""
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if self.normalisation == "imagenet" else (_HALF, _HALF)
        return Preprocessing(height=self.height, width=self.width, mean=mean, std=std)
