"""How a model is pre-trained."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Interval

from reappear.core import Count, CountOrZero, ImageSide, NotNegative, Positive, Processes, Seed, SettingsError, settings
from reappear.methods.settings import CionSettings, DinoSettings, MethodSettings, MocoSettings
from reappear.train.schedule import require_stages
from reappear.train.views import ViewSettings


@settings
class PretrainSettings:
    """How a model is pre-trained. The defaults suit small crops and one core of a CPU; see docs/paper-to-code.md."""

    method: Annotated[MethodSettings, "training method"] = field(default_factory=CionSettings)
    backbone: Annotated[str, "architecture: one that `reappear models` shows, stripes4, cnn6, or any timm name"] = (
        "stripes4"
    )
    arguments: Annotated[dict[str, Any], "arguments of the architecture, such as {width: 48}"] = field(
        default_factory=dict
    )
    init: Annotated[Path | None, "weights to start from: a model folder or checkpoint; random if not given"] = None
    height: Annotated[ImageSide, "height of global views in pixels"] = 64
    width: Annotated[ImageSide, "width of global views in pixels"] = 32
    local_height: Annotated[ImageSide, "height of local views in pixels"] = 32
    local_width: Annotated[ImageSide, "width of local views in pixels"] = 16
    views: Annotated[ViewSettings, "views of each image"] = field(
        default_factory=lambda: ViewSettings(local_views=0)  # a part of a person in 32x16 pixels teaches little
    )
    steps: Annotated[
        CountOrZero | None, "steps of training; 0 exports the network untrained; epochs count if not given"
    ] = 320
    epochs: Annotated[float, "passes over the crops, where steps are not given", Interval(ge=0, le=1_000_000)] = 100.0
    images_per_step: Annotated[
        int, "images in a step, over all processes; a multiple of the curriculum's", Interval(ge=1, le=1_000_000)
    ] = 96
    optimizer: Annotated[Literal["adamw", "sgd"], "AdamW, or SGD with momentum 0.9"] = "adamw"
    lr: Annotated[Positive, "peak learning rate"] = 3e-3
    final_lr: Annotated[NotNegative, "learning rate at the end of the cosine"] = 1e-6
    warmup: Annotated[float, "share of the training in which the learning rate rises", Interval(ge=0, lt=1)] = 0.125
    weight_decay: Annotated[NotNegative, "weight decay at the start; biases and norms have none"] = 0.04
    final_weight_decay: Annotated[NotNegative, "weight decay at the end of its cosine"] = 0.4
    clip: Annotated[NotNegative, "largest norm of each parameter's gradient; 0 = no clipping"] = 3.0
    keep: Annotated[Literal["student", "teacher"], "network that is saved as the model"] = "student"
    seed: Annotated[Seed, "seed of everything random"] = 0
    device: Annotated[str, "auto, cpu, cuda, or cuda:N"] = "auto"
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        "of the forward pass; the halves are for GPUs; on a CPU with avx512_bf16, bfloat16 is twice as fast for plain "
        "convolutions and twice as slow for depthwise ones",
    ] = "float32"
    compile: Annotated[bool, "compile the networks with torch.compile; pays off after some minutes"] = False
    gradient_checkpointing: Annotated[bool, "recompute activations in the backward pass: slower, less memory"] = False
    accumulate: Annotated[
        int, "parts that a step's images are cut into, one after the other: less memory", Interval(ge=1, le=1_000_000)
    ] = 1
    colours_on: Annotated[
        Literal["auto", "host", "device"], "where colours of views are changed; auto: on the device if it is a GPU"
    ] = "auto"
    threads: Annotated[
        int,
        "CPU threads of the network; 1 suits small ones, and results depend on it in the last bit",
        Interval(ge=1, le=1024),
    ] = 1
    workers: Annotated[Processes, "processes that prepare views ahead; 0 = none"] = 0
    memory_mb: Annotated[
        int, "decoded crops kept in memory; the others are decoded when needed", Interval(ge=0, le=1 << 30)
    ] = 2048
    bad_steps: Annotated[
        CountOrZero, "steps in a row whose loss or gradient may be not finite: skipped and counted"
    ] = 10
    validation: Annotated[
        Path | None, "validation set during training: a folder in Market-1501 layout; none if not given"
    ] = None
    validation_share: Annotated[
        float, "share of people held out for validation, where no folder is given", Interval(ge=0, lt=1)
    ] = 0.0
    validation_every: Annotated[CountOrZero, "steps between validations; 0 = never"] = 0
    tracker: Annotated[
        Literal["none", "tensorboard", "wandb", "mlflow"], "experiment tracker beside metrics.jsonl; offline by default"
    ] = "none"
    log_every: Annotated[Count, "steps between rows of metrics.jsonl"] = 10
    checkpoint_every: Annotated[Count, "steps between checkpoints"] = 100
    keep_checkpoints: Annotated[Count, "checkpoints kept, in case the newest is damaged"] = 2

    def __post_init__(self) -> None:
        method = self.method
        if isinstance(method, MocoSettings):
            if self.views.local_views:
                raise SettingsError(
                    f"views.local_views: method moco compares two views of an image, got {self.views.local_views} "
                    "local ones; set it to 0"
                )
            if method.queue < self.images_per_step:
                raise SettingsError(
                    f"method.queue: must hold the {self.images_per_step} images of a step, got {method.queue}"
                )
        elif not isinstance(method, DinoSettings):
            require_stages(method.curriculum, self.images_per_step)
