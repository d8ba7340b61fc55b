"""Settings of self-distillation: CION, and its baselines on tracklets and on single images."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import Fraction, Only, Positive, settings
from reappear.methods.settings import Buffers, Curriculum, MethodSettings, Width
from reappear.methods.upreid.settings import IntraIdentityOption
from reappear.train.schedule import require_stages
from reappear.train.settings import TrainSettings

Weighting = Annotated[Literal["equation", "official"], "weights of pairs: as Eq. 9, or as the public code"]


@settings
class DistillationSettings(MethodSettings):
    """Settings of self-distillation, whatever the labels. The defaults suit small crops."""

    head_hidden: Annotated[Width, "width of the head's hidden layers"] = 512
    head_bottleneck: Annotated[Width, "width of the vectors that are compared with prototypes"] = 128
    head_batch_norm: Annotated[bool, "batch norm in the head"] = True
    prototypes: Annotated[int, "prototypes (K)", Interval(ge=2, le=10_000_000)] = 2048
    prototype_length: Annotated[Positive, "initial length of the prototypes; a step turns long ones less"] = 1.0
    student_temperature: Annotated[Positive, "tau_s"] = 0.1
    teacher_temperature: Annotated[Positive, "tau_t"] = 0.03
    first_teacher_temperature: Annotated[
        Positive | None, "tau_t at step 0; tau_t if not given", Only("teacher_temperature_warmup")
    ] = None
    teacher_temperature_warmup: Annotated[
        Fraction,
        "share of the training in which tau_t changes from first_teacher_temperature",
        Only("first_teacher_temperature"),
    ] = 0.0
    center_momentum: Annotated[Fraction, "momentum of the centre"] = 0.9
    momentum: Annotated[Fraction, "EMA momentum of the teacher; rises to 1 along a cosine"] = 0.97
    teacher_buffers: Buffers = "own"
    freeze_prototypes: Annotated[Fraction, "share of the training, from its start, with frozen prototypes"] = 0.0


@settings
class IdentityDistillationSettings(DistillationSettings):
    """Self-distillation among images of one identity."""

    curriculum: Curriculum = ((0.0, 2), (0.4, 4), (0.6, 6), (0.8, 8))
    weighting: Weighting = "equation"

    def check(self, training: TrainSettings) -> None:
        """Refuses a curriculum whose groups do not fill a step."""
        require_stages(self.curriculum, training.images_per_step)


@settings
class CionSettings(IdentityDistillationSettings):
    """Identity-guided self-distillation: images of one person are targets of each other (CION, Sec. 3.3)."""

    kind: Literal["cion"] = "cion"
    intra_identity: Annotated[
        IntraIdentityOption, "UP-ReID's regularisation beside the distillation (not in the paper); off by default"
    ] = field(default_factory=IntraIdentityOption)

    def check(self, training: TrainSettings) -> None:
        """Refuses what does not fill a step, and patches that do not fit."""
        IdentityDistillationSettings.check(self, training)
        self.intra_identity.check_terms(training)


@settings
class TrackletSettings(IdentityDistillationSettings):
    """CION with tracklets as labels, without correlation across videos."""

    kind: Literal["tracklet"] = "tracklet"


@settings
class DinoSettings(DistillationSettings):
    """DINO: each image by itself."""

    kind: Literal["dino"] = "dino"
