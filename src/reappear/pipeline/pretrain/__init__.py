"""pretrain: identities → a model."""

from .settings import PretrainSettings
from .step import labels_of, pretrain

__all__ = ["PretrainSettings", "labels_of", "pretrain"]
