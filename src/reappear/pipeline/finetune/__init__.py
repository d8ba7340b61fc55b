"""finetune: a data set with identities → a model."""

from .settings import FinetuneSettings
from .step import finetune

__all__ = ["FinetuneSettings", "finetune"]
