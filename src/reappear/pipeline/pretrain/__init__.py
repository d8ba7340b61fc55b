"""pretrain: identities → a model."""

from reappear.pipeline.training import CropImages

from .labels import labels_of
from .settings import PretrainSettings
from .step import pretrain

__all__ = ["CropImages", "PretrainSettings", "labels_of", "pretrain"]
