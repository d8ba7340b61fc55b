"""Training losses."""

from .contrast import IdentityContrastLoss
from .identity_distillation import IdentityDistillationLoss, Weighting

__all__ = ["IdentityContrastLoss", "IdentityDistillationLoss", "Weighting"]
