"""Backbones by name."""

import difflib
from pathlib import Path
from typing import Any

import timm
from torch import nn

from reappear.core import InputError, SettingsError

from . import small


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` can build: reappear's own first, then timm's.

    Args:
        pattern: A shell pattern, such as `"resnet*"`.
    """
    names = timm.list_models(pattern)
    return [name for name in small.OWN if name in names] + [name for name in names if name not in small.OWN]


def create_model(name: str, *, pretrained: str | Path | bool | None = None, **kw: Any) -> nn.Module:
    """A backbone without a classifier.

    Args:
        name: One of `list_models()`.
        pretrained: A model folder or checkpoint file to start from; None or False = random weights. Nothing is
            downloaded, so True is refused.
        kw: Passed to the architecture, such as `width=48` or `img_size=(256, 128)`.

    Returns:
        A module with `num_features`, called with float images (n 3 h w), giving features (n d).

    Raises:
        InputError: No such name, or the weights do not fit.
        SettingsError: The architecture does not take an argument.
    """
    if pretrained is True:
        raise InputError("pretrained: nothing is downloaded here; give the path of a model folder or checkpoint file")
    if name not in (known := timm.list_models()):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "reappear.list_models() shows those there are"
        raise InputError(f"no model is called {name!r}; {hint}")
    try:
        model: Any = timm.create_model(name, pretrained=False, **{"num_classes": 0, **kw})
    except (TypeError, AssertionError, ValueError) as error:
        raise SettingsError(f"{name} cannot be built with {kw}: {' '.join(str(error).split())}") from error
    # Some timm models end in a layer that num_features does not count (GhostNet: 960, in truth 1280).
    model.num_features = getattr(model, "head_hidden_size", None) or model.num_features
    if pretrained:
        from .checkpoints import load_checkpoint

        load_checkpoint(model, pretrained)
    return model  # type: ignore[no-any-return]
