"""Training losses."""

from .identity_distillation import IdentityDistillationLoss, Weighting

__all__ = ["IdentityDistillationLoss", "Weighting"]
