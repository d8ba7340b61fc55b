"""Training losses: tensors in, a scalar out. None knows a network, a sampler or a step.

Those that compare all pairs, or all prototypes, work in chunks: no table of them is stored.
"""

from .circle import CircleLoss, circle_logits
from .contrast import IdentityContrastLoss
from .cross_entropy import smoothed_cross_entropy, verification_loss
from .identity_distillation import IdentityDistillationLoss, Weighting
from .intra_identity import PatchContrastLoss, PatchVectors, relation_divergence
from .memory import IdentityMemory
from .triplet import BatchHardTripletLoss

__all__ = [
    "BatchHardTripletLoss",
    "CircleLoss",
    "IdentityContrastLoss",
    "IdentityDistillationLoss",
    "IdentityMemory",
    "PatchContrastLoss",
    "PatchVectors",
    "Weighting",
    "circle_logits",
    "relation_divergence",
    "smoothed_cross_entropy",
    "verification_loss",
]
