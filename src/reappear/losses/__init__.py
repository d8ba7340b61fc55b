"""Training losses."""

from .circle import CircleLoss, circle_logits
from .contrast import IdentityContrastLoss
from .cross_entropy import smoothed_cross_entropy
from .identity_distillation import IdentityDistillationLoss, Weighting
from .memory import IdentityMemory
from .triplet import BatchHardTripletLoss

__all__ = [
    "BatchHardTripletLoss",
    "CircleLoss",
    "IdentityContrastLoss",
    "IdentityDistillationLoss",
    "IdentityMemory",
    "Weighting",
    "circle_logits",
    "smoothed_cross_entropy",
]
