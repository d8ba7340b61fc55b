"""Settings of each training method. Does not import torch: the command line imports it."""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import AfterValidator

from reappear.core import Count, CountOrZero, Fraction, Positive, settings

Width = Annotated[int, Interval(ge=1, le=65_536)]
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
Weighting = Annotated[Literal["equation", "official"], "weights of pairs: as Eq. 9, or as the public code"]
Buffers = Annotated[
    Literal["own", "average", "copy"], "batch norm statistics of the teacher: of its own passes, averaged, copied"
]
_CURRICULUM = ((0.0, 2), (0.4, 4), (0.6, 6), (0.8, 8))


@settings
class DistillationSettings:
    """Settings of self-distillation, whatever the labels. The defaults suit small crops."""

    head_hidden: Annotated[Width, "width of the head's hidden layers"] = 512
    head_bottleneck: Annotated[Width, "width of the vectors that are compared with prototypes"] = 128
    head_batch_norm: Annotated[bool, "batch norm in the head"] = True
    prototypes: Annotated[int, "prototypes (K)", Interval(ge=2, le=10_000_000)] = 2048
    student_temperature: Annotated[Positive, "tau_s"] = 0.1
    teacher_temperature: Annotated[Positive, "tau_t"] = 0.03
    first_teacher_temperature: Annotated[Positive | None, "tau_t at step 0; tau_t if not given"] = None
    teacher_temperature_warmup: Annotated[CountOrZero, "steps from first_teacher_temperature to tau_t"] = 0
    center_momentum: Annotated[Fraction, "momentum of the centre"] = 0.9
    momentum: Annotated[Fraction, "EMA momentum of the teacher; rises to 1 along a cosine"] = 0.97
    teacher_buffers: Buffers = "own"
    freeze_steps: Annotated[CountOrZero, "first steps in which the prototypes are frozen"] = 0


@settings
class CionSettings(DistillationSettings):
    """Identity-guided self-distillation: images of one person are targets of each other (CION, Sec. 3.3)."""

    kind: Literal["cion"] = "cion"
    curriculum: Curriculum = _CURRICULUM
    weighting: Weighting = "equation"


@settings
class TrackletSettings(DistillationSettings):
    """CION with tracklets as labels, without correlation across videos."""

    kind: Literal["tracklet"] = "tracklet"
    curriculum: Curriculum = _CURRICULUM
    weighting: Weighting = "equation"


@settings
class DinoSettings(DistillationSettings):
    """DINO: each image by itself."""

    kind: Literal["dino"] = "dino"


@settings
class MocoSettings:
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


MethodSettings = CionSettings | DinoSettings | TrackletSettings | MocoSettings

# Labels of methods that do not use identities.
OWN_LABELS = {"dino": "instance", "moco": "instance", "tracklet": "tracklet"}
