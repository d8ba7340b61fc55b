"""Training losses."""

from .contrast import IdentityContrastLoss
from .identity_distillation import IdentityDistillationLoss, Weighting
from .memory import IdentityMemory

__all__ = ["IdentityContrastLoss", "IdentityDistillationLoss", "IdentityMemory", "Weighting"]
