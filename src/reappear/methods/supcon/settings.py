"""Settings of the supervised contrast over identities."""

from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Fraction, Positive, SettingsError, settings
from reappear.methods.settings import Buffers, Curriculum, MethodSettings, Width
from reappear.train.schedule import require_stages
from reappear.train.settings import TrainSettings


@settings
class SupConSettings(MethodSettings):
    """Contrast among identities: all views of one identity are positives, all others of the step negatives (SupCon)."""

    kind: Literal["supcon"] = "supcon"
    head_hidden: Annotated[Width, "width of the head's hidden layer"] = 512
    head_width: Annotated[Width, "width of the vectors that are compared"] = 128
    temperature: Annotated[Positive, "temperature of the contrastive loss"] = 0.1
    curriculum: Curriculum = ((0.0, 2), (0.4, 4), (0.6, 6), (0.8, 8))
    queue: Annotated[
        int,
        "vectors of earlier steps, by the teacher, that are compared with too; 0 = none",
        Interval(ge=0, le=10_000_000),
    ] = 0
    momentum: Annotated[Fraction, "EMA momentum of the teacher; rises to 1 along a cosine"] = 0.97
    teacher_buffers: Buffers = "average"

    def check(self, training: TrainSettings) -> None:
        """Refuses a curriculum whose groups do not fill a step, and statistics of passes that no teacher makes."""
        require_stages(self.curriculum, training.images_per_step)
        if self.teacher_buffers == "own" and not self.queue:
            raise SettingsError(
                "method.teacher_buffers: without a queue the teacher makes no passes of its own; take average or copy"
            )
