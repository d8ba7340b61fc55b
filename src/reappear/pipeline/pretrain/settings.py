"""How a model is pre-trained."""

from dataclasses import field
from typing import Annotated

from annotated_types import Interval

from reappear.core import settings
from reappear.methods.registry import AnyMethod
from reappear.methods.supcon.settings import SupConSettings
from reappear.train.settings import TrainSettings


@settings
class PretrainSettings(TrainSettings):
    """How a model is pre-trained. The defaults suit small crops and one core of a CPU; see docs/paper-to-code.md."""

    method: Annotated[
        AnyMethod,
        "training method: supcon contrasts identities, and measured best with thousands of images; memory is a part of "
        "it; cion is the paper's, made for millions, and far behind with 45,000 even after 16 times the steps; "
        "tracklet, dino and moco are its baselines; upreid is moco with intra-identity regularisation",
    ] = field(default_factory=SupConSettings)

    data_share: Annotated[
        float,
        "share of the identities that is trained on, drawn by the seed; a smaller share is a part of a larger one",
        Interval(gt=0, le=1),
    ] = 1.0

    def __post_init__(self) -> None:
        self.method.check(self)
