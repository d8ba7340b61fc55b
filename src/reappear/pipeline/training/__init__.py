"""Training of a `Task` from settings, into the folder of a model: what `pretrain` and `finetune` share."""

from .images import CropImages

__all__ = ["CropImages"]
