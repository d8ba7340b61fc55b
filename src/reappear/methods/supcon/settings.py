"""Settings of the supervised contrast over identities."""

from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Fraction, NotNegative, Only, Positive, SettingsError, settings
from reappear.methods.settings import Buffers, Curriculum, HiddenWidth, MethodSettings, Width
from reappear.train.schedule import require_stages
from reappear.train.settings import TrainSettings


@settings
class SupConSettings(MethodSettings):
    """Contrast among identities: all views of one identity are positives, all others of the step negatives (SupCon)."""

    kind: Literal["supcon"] = "supcon"
    head_hidden: HiddenWidth = 0
    head_width: Annotated[Width, "width of the vectors that are compared"] = 128
    temperature: Annotated[Positive, "temperature of the contrastive loss"] = 0.1
    curriculum: Curriculum = ((0.0, 2), (0.4, 4), (0.6, 6), (0.8, 8))
    negatives: Annotated[
        Literal["any", "camera"],
        "negatives of a step: any other identities, or those of the same camera as far as there are; these share light "
        "and background, and are less often the same person",
    ] = "camera"
    memory_weight: Annotated[
        NotNegative,
        "weight of the cross-entropy to a centroid of every identity of the set, as in method memory; 0 = none",
    ] = 1.0
    memory_temperature: Annotated[Positive, "temperature of that cross-entropy", Only("memory_weight")] = 0.05
    memory_momentum: Annotated[
        Fraction, "share of a centroid that an image of its identity leaves as it was", Only("memory_weight")
    ] = 0.5
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
