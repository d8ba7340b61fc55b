"""Settings of the contrast with a memory of identities."""

from typing import Annotated, Literal

from reappear.core import Fraction, Positive, SettingsError, settings
from reappear.methods.settings import Curriculum, HiddenWidth, MethodSettings, Width
from reappear.train.schedule import require_stages
from reappear.train.settings import TrainSettings


@settings
class MemorySettings(MethodSettings):
    """Contrast with a centroid of every identity of the set, which follows its images slowly (as Cluster Contrast)."""

    kind: Literal["memory"] = "memory"
    head_hidden: HiddenWidth = 0
    head_width: Annotated[Width, "width of the vectors that are compared"] = 128
    temperature: Annotated[Positive, "temperature of the cross-entropy"] = 0.05
    momentum: Annotated[Fraction, "share of a centroid that an image of its identity leaves as it was"] = 0.1
    curriculum: Curriculum = ((0.0, 2), (0.4, 4), (0.6, 6), (0.8, 8))

    def check(self, training: TrainSettings) -> None:
        """Refuses a curriculum whose groups do not fill a step, and to keep a teacher."""
        require_stages(self.curriculum, training.images_per_step)
        if training.keep == "teacher":
            raise SettingsError("keep: method memory has no teacher; take student")
