"""Videos of people in, a person re-identification model out, without labels.

The names below are imported when first used, so that `import reappear` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from reappear.models import create_model, list_models, load_checkpoint

__all__ = ["__version__", "create_model", "list_models", "load_checkpoint"]

_LAZY = dict.fromkeys(("create_model", "list_models", "load_checkpoint"), "reappear.models")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    try:
        return import_module(f"reappear.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"reappear.{name}":
            raise
        raise AttributeError(f"module 'reappear' has no attribute {name!r}") from None
