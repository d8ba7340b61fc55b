"""Backbones, necks, heads, and embedders: images of people in, a feature vector each out.

Nothing here imports torch until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints import LoadReport, load_checkpoint
    from .describe import Description, describe_model
    from .embedder import Embedder, load_model, save_model
    from .heads import DistillationHead, ProjectionHead
    from .maps import feature_map
    from .necks import BNNeck
    from .preprocessing import Preprocessing
    from .registry import create_model, list_models

_HOMES = {
    "BNNeck": "necks",
    "Description": "describe",
    "DistillationHead": "heads",
    "Embedder": "embedder",
    "LoadReport": "checkpoints",
    "Preprocessing": "preprocessing",
    "ProjectionHead": "heads",
    "create_model": "registry",
    "describe_model": "describe",
    "feature_map": "maps",
    "list_models": "registry",
    "load_checkpoint": "checkpoints",
    "load_model": "embedder",
    "save_model": "embedder",
}

__all__ = [
    "BNNeck",
    "Description",
    "DistillationHead",
    "Embedder",
    "LoadReport",
    "Preprocessing",
    "ProjectionHead",
    "create_model",
    "describe_model",
    "feature_map",
    "list_models",
    "load_checkpoint",
    "load_model",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
