"""Base and common types of the settings of methods. Does not import torch: the command line imports it."""

from typing import Annotated, ClassVar, Literal

from annotated_types import Interval
from pydantic import AfterValidator

from reappear.core import Count, SettingsError, counted, settings
from reappear.models.clips import Compat
from reappear.train.settings import BaseTrainSettings, TrainSettings

Width = Annotated[int, Interval(ge=1, le=65_536)]
HiddenWidth = Annotated[
    int, "width of the head's hidden layer; 0 = none: the head is linear", Interval(ge=0, le=65_536)
]
Stages = tuple[tuple[Annotated[float, Interval(ge=0, lt=1)], Count], ...]


def _check_stages(stages: Stages) -> Stages:
    """Pairs of share and images, the shares rising from 0 and below 1."""
    shares = [share for share, _ in stages]
    if not shares or shares[0] != 0 or shares != sorted(set(shares)):
        raise ValueError
    return stages


Curriculum = Annotated[
    Stages, "images per identity (N_id), from which share of the training on", AfterValidator(_check_stages)
]
Buffers = Annotated[
    Literal["own", "average", "copy"], "batch norm statistics of the teacher: of its own passes, averaged, copied"
]


@settings
class MethodSettings:
    """Base of the settings of a method.

    Attributes:
        kind: Its name.
        extended: Architecture of the models that it saves and goes on from, where they are more than the backbone.
    """

    kind: str
    extended: ClassVar[str] = ""

    def check(self, training: TrainSettings) -> None:
        """Checks what depends on the settings of the training.

        Raises:
            SettingsError: They contradict each other.
        """


@settings
class FinetuneMethodSettings(MethodSettings):
    """Base of the settings of a method of fine-tuning, which is trained on whole images, or on clips of them."""

    @property
    def clip_frames(self) -> int:
        """Frames of a clip; 0 = it is trained on images."""
        return 0

    @property
    def clip_compat(self) -> Compat:
        """How tracklets are cut into clips."""
        return "fixed"

    def check(self, training: BaseTrainSettings) -> None:
        """Checks what depends on the settings of the training.

        Raises:
            SettingsError: They contradict each other.
        """


@settings
class SupervisedMethodSettings(FinetuneMethodSettings):
    """Base of the settings of a method whose steps are identities, or clusters, with K images of each."""

    images: int

    def check(self, training: BaseTrainSettings) -> None:
        """Refuses steps that are not two identities or more of K images."""
        identities, rest = divmod(training.images_per_step, self.images)
        if rest or identities < 2:
            raise SettingsError(
                f"images_per_step: must be a multiple of method.images {self.images}, twice or more, "
                f"got {training.images_per_step}"
            )
        if identities // training.accumulate < 2:
            raise SettingsError(
                "accumulate: each part of a step needs two identities, and "
                f"{counted(identities, 'identity')} in {counted(training.accumulate, 'part')} is less; lower it"
            )
