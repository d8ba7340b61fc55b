"""Settings that all trainings share, in groups. A function takes the group that it needs. Does not import torch.

`section` is the heading of a group in help.
"""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from reappear.core import (
    OPERATIONAL,
    Count,
    CountOrZero,
    Fraction,
    ImageSide,
    NotNegative,
    Only,
    Positive,
    Processes,
    Seed,
    settings,
)
from reappear.models.preprocessing import Preprocessing

from .schedule import LrShape
from .views import ViewSettings

OptimizerName = Literal["adamw", "adam", "sgd", "nesterov"]
Precision = Literal["float32", "bfloat16", "float16"]
Tracker = Literal["none", "tensorboard", "wandb", "mlflow"]
Keep = Literal["student", "teacher"]
Statistics = Literal["global", "all"]


@settings
class BackboneSettings:
    """What is trained."""

    section: ClassVar[str] = "Model"

    backbone: Annotated[str, "architecture: one that `reappear models` shows, stripes4, cnn6, or any timm name"] = (
        "stripes4"
    )
    arguments: Annotated[dict[str, Any], "arguments of the architecture, such as {width: 48}"] = field(
        default_factory=dict
    )
    init: Annotated[Path | None, "weights to start from: a model folder or checkpoint; random if not given"] = None
    height: Annotated[ImageSide, "height of images, and of global views, in pixels"] = 64
    width: Annotated[ImageSide, "width of images, and of global views, in pixels"] = 32

    @property
    def preprocessing(self) -> Preprocessing:
        """How the trained network will see images."""
        return Preprocessing(height=self.height, width=self.width)


@settings
class SavedModelSettings(BackboneSettings):
    """What is trained and saved, by methods that compare views of images."""

    section: ClassVar[str] = "Model"

    keep: Annotated[Keep, "network that is saved as the model"] = "student"
    batch_norm_statistics: Annotated[
        Statistics,
        "views whose statistics batch norm keeps for the saved model: global ones, or all as in the public code",
    ] = "global"


@settings
class AugmentSettings:
    """Views of images."""

    section: ClassVar[str] = "Augmentation"

    local_height: Annotated[ImageSide, "height of local views in pixels", Only("views.local_views")] = 32
    local_width: Annotated[ImageSide, "width of local views in pixels", Only("views.local_views")] = 16
    views: Annotated[ViewSettings, "views of each image"] = field(
        default_factory=lambda: ViewSettings(local_views=0)  # a part of a person in 32x16 pixels teaches little
    )
    colours_on: Annotated[
        Literal["auto", "host", "device"], "where colours of views are changed; auto: on the device if it is a GPU"
    ] = "auto"


@settings
class ScheduleSettings:
    """How long is trained, with which rates."""

    section: ClassVar[str] = "Schedule"

    steps: Annotated[
        CountOrZero | None, "steps of training; 0 exports the network untrained; epochs count if not given"
    ] = 320
    epochs: Annotated[
        float, "passes over the crops, where steps are not given", Interval(ge=0, le=1_000_000), Only("steps", None)
    ] = 100.0
    images_per_step: Annotated[
        int, "images in a step, over all processes; a multiple of the curriculum's", Interval(ge=1, le=1_000_000)
    ] = 96
    lr: Annotated[Positive, "peak learning rate"] = 3e-3
    final_lr: Annotated[
        NotNegative, "learning rate at the end of a cosine", Only("lr_schedule", "cosine", "full-cosine", "late-cosine")
    ] = 1e-6
    warmup: Annotated[float, "share of the training in which the learning rate rises", Interval(ge=0, lt=1)] = 0.125
    lr_schedule: Annotated[
        LrShape,
        "how the learning rate falls after the warm-up; its cosine begins there, under full-cosine with the training, "
        "under late-cosine in the middle of the training",
    ] = "cosine"
    lr_steps: Annotated[
        tuple[Fraction, ...],
        "shares of the training at which a stepped learning rate falls to a tenth",
        Only("lr_schedule", "step"),
    ] = (0.6, 0.8)
    weight_decay: Annotated[NotNegative, "weight decay at the start; biases and norms have none"] = 0.04
    final_weight_decay: Annotated[NotNegative, "weight decay at the end of its cosine"] = 0.4


@settings
class OptimizerSettings:
    """How gradients are applied."""

    section: ClassVar[str] = "Optimiser"

    optimizer: Annotated[
        OptimizerName, "AdamW, Adam (decay is a part of the gradient), or SGD with momentum 0.9, or Nesterov's"
    ] = "adamw"
    clip: Annotated[NotNegative, "largest norm of each parameter's gradient; 0 = no clipping"] = 3.0
    layer_decay: Annotated[
        float,
        "learning rate of a layer of the backbone over that of the layer after it; 1 = the same",
        Interval(gt=0, le=1),
    ] = 1.0
    accumulate: Annotated[
        int, "parts that a step's images are cut into, one after the other: less memory", Interval(ge=1, le=1_000_000)
    ] = 1
    bad_steps: Annotated[
        CountOrZero, "steps in a row whose loss or gradient may be not finite: skipped and counted", OPERATIONAL
    ] = 10


@settings
class RuntimeSettings:
    """Where and how it runs."""

    section: ClassVar[str] = "Runtime"

    seed: Annotated[Seed, "seed of everything random"] = 0
    device: Annotated[str, "auto, cpu, cuda, or cuda:N; each rounds in its own way", OPERATIONAL] = "auto"
    precision: Annotated[
        Precision,
        "of the forward pass; the halves are for GPUs; on a CPU with avx512_bf16, bfloat16 is twice as fast for plain "
        "convolutions and twice as slow for depthwise ones",
    ] = "float32"
    compile: Annotated[bool, "compile the networks with torch.compile; pays off after some minutes"] = False
    gradient_checkpointing: Annotated[
        bool, "recompute activations in the backward pass: slower, less memory", OPERATIONAL
    ] = False
    threads: Annotated[
        int,
        "CPU threads of the network; 1 suits small ones. Each number rounds in its own way, and in the course of a "
        "training the weights drift apart",
        Interval(ge=1, le=1024),
        OPERATIONAL,
    ] = 1
    workers: Annotated[Processes, "processes that prepare batches ahead; 0 = none", OPERATIONAL] = 0
    memory_mb: Annotated[
        int, "decoded crops kept in memory; the others are decoded when needed", Interval(ge=0, le=1 << 30), OPERATIONAL
    ] = 2048


@settings
class ValidationSettings:
    """What the model is scored on while it trains."""

    section: ClassVar[str] = "Validation"

    validation: Annotated[
        Path | None,
        "validation set during training: a folder in Market-1501 layout; none if not given",
        Only("validation_every"),
    ] = None
    validation_share: Annotated[
        float,
        "share of people held out for validation, where no folder is given",
        Interval(ge=0, lt=1),
        Only("validation", None),
        Only("validation_every"),
    ] = 0.0
    validation_every: Annotated[
        CountOrZero, "steps between validations; 0 = never", Only("validation or validation_share")
    ] = 0


@settings
class LoggingSettings:
    """What is written while it trains."""

    section: ClassVar[str] = "Logging and checkpoints"

    tracker: Annotated[Tracker, "experiment tracker beside metrics.jsonl; offline by default", OPERATIONAL] = "none"
    log_every: Annotated[Count, "steps between rows of metrics.jsonl", OPERATIONAL] = 10
    checkpoint_every: Annotated[Count, "steps between checkpoints", OPERATIONAL] = 100
    keep_checkpoints: Annotated[Count, "checkpoints kept, in case the newest is damaged", OPERATIONAL] = 2


@settings
class BaseTrainSettings(
    LoggingSettings,
    ValidationSettings,
    RuntimeSettings,
    OptimizerSettings,
    ScheduleSettings,
    BackboneSettings,
):
    """What every training has settings for: all but its method, and what only views of images need."""

    @property
    def less_memory(self) -> str:
        """Which settings take less memory of the device, for an error."""
        same = (
            "" if self.gradient_checkpointing else "set gradient_checkpointing, with which this training goes on, or "
        )
        return f"{same}begin another under a new name, with {', '.join(self._smaller())}"

    def _smaller(self) -> list[str]:
        others = ["precision bfloat16"] if self.precision == "float32" else []
        return [*others, f"accumulate {2 * self.accumulate}", "fewer images_per_step"]


@settings
class TrainSettings(BaseTrainSettings, AugmentSettings, SavedModelSettings):
    """All settings of a training on views but its method. The defaults suit small crops and one core of a CPU."""

    def _smaller(self) -> list[str]:
        *others, images = BaseTrainSettings._smaller(self)
        return [*others, *(["fewer views.local_views"] if self.views.local_views else []), images]
