"""Settings of GRL."""

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from reappear.core import NotNegative, Positive, SettingsError, counted, settings
from reappear.methods.settings import FinetuneMethodSettings
from reappear.models.clips import Compat
from reappear.train.image_augment import ImageAugmentSettings
from reappear.train.settings import BaseTrainSettings


@settings
class GrlSettings(FinetuneMethodSettings):
    """Clips of tracklets, compared by what their frames have in common and what they do not (GRL)."""

    extended: ClassVar[str] = "grl"
    kind: Literal["grl"] = "grl"
    pooling: Annotated[
        Literal["grl", "attention", "average"],
        "frames of a clip to one vector: grl, or without correlation and memory: by attention, or their average",
    ] = "grl"
    frames: Annotated[int, "frames of a clip (T)", Interval(ge=1, le=256)] = 8
    oim_scale: Annotated[Positive, "cosines with the remembered vectors of identities are multiplied by this"] = 30.0
    oim_momentum: Annotated[
        float, "share of a remembered vector that a vector of its identity leaves as it was", Interval(ge=0, lt=1)
    ] = 0.5
    pair_weight: Annotated[NotNegative, "weight of the verification of pairs"] = 20.0
    new_lr: Annotated[
        Positive, "learning rate of layers after the backbone and its correlation map, over that of these"
    ] = 2.0
    compat: Annotated[
        Literal["fixed", "official"],
        "official: uneven parts of short tracklets, and a shorter mean in the vector, as in the public code",
    ] = "fixed"
    augment: Annotated[ImageAugmentSettings, "augmentation of clips: all frames alike"] = field(
        default_factory=lambda: ImageAugmentSettings(padding=0)
    )

    @property
    def clip_frames(self) -> int:
        """T."""
        return self.frames

    @property
    def clip_compat(self) -> Compat:
        """`compat`."""
        return self.compat

    def check(self, training: BaseTrainSettings) -> None:
        """Refuses steps that are not two pairs of clips or more."""
        pairs, rest = divmod(training.images_per_step, 2 * self.frames)
        if rest or pairs < 2:
            raise SettingsError(
                f"images_per_step: must be pairs of clips of method.frames {self.frames}, so a multiple of "
                f"{2 * self.frames}, twice or more, got {training.images_per_step}"
            )
        if pairs // training.accumulate < 2:
            raise SettingsError(
                f"accumulate: each part of a step needs two pairs of clips, and {counted(pairs, 'pair')} in "
                f"{counted(training.accumulate, 'part')} is less; lower it"
            )
