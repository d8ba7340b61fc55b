"""Settings of MoCo-v2."""

from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Fraction, Positive, SettingsError, counted, settings
from reappear.methods.settings import Buffers, MethodSettings, Width
from reappear.train.settings import TrainSettings


@settings
class MocoSettings(MethodSettings):
    """MoCo-v2 as LUP has it: two views of an image against a queue of other images."""

    kind: Literal["moco"] = "moco"
    head_hidden: Annotated[Width | None, "width of the head's hidden layer; that of the features if not given"] = None
    head_width: Annotated[Width, "width of the vectors that are compared"] = 128
    queue: Annotated[int, "keys stored as negatives; at least the images of a step", Interval(ge=1, le=10_000_000)] = (
        65536
    )
    temperature: Annotated[Positive, "temperature of the contrastive loss"] = 0.1
    momentum: Annotated[Fraction, "EMA momentum of the key network"] = 0.999
    teacher_buffers: Buffers = "own"

    def check(self, training: TrainSettings) -> None:
        """Refuses local views, and a queue that is shorter than a step."""
        if training.views.local_views:
            raise SettingsError(
                f"views.local_views: method {self.kind} compares two views of an image, got "
                f"{counted(training.views.local_views, 'local view')}; set it to 0"
            )
        if self.queue < training.images_per_step:
            raise SettingsError(
                f"method.queue: must hold the {counted(training.images_per_step, 'image')} of a step, got {self.queue}"
            )
