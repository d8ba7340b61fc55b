"""Backbones by name."""

import difflib
import inspect
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import timm
from torch import nn

from reappear.core import InputError, ReappearError, SettingsError

from . import grl, mgn, pooling, small, transreid
from .zoo import ZOO

_TIMM = "timm:"
# What of timm's own builders opens files, downloads, or makes something else than a backbone.
_REFUSED = {
    *inspect.signature(timm.create_model).parameters,
    *inspect.signature(timm.models.build_model_with_cfg).parameters,
    *("features_only", "feature_cls", "out_indices", "pruned"),
} - {"kwargs"}


def list_models(pattern: str = "*", *, everything: bool = False) -> list[str]:
    """Names that `create_model` can build: the 32 of ReIDZoo.

    Args:
        pattern: A shell pattern, such as `"resnet*"`.
        everything: Also reappear's own small networks, and after them all that timm has.
    """
    names = [*ZOO]
    if everything:
        own = [*small.OWN, *transreid.OWN, *mgn.OWN, *pooling.OWN, *grl.OWN]
        names += [*own, *(name for name in timm.list_models() if name not in own and name not in ZOO)]
    return [name for name in names if fnmatchcase(name, pattern)]


def create_model(name: str, *, pretrained: str | Path | bool | None = None, **kw: Any) -> nn.Module:
    """A backbone without a classifier.

    Args:
        name: One of `list_models(everything=True)`. Where ReIDZoo and timm share a name, it is ReIDZoo's model;
            `timm:NAME` is timm's.
        pretrained: A model folder or checkpoint file to start from; None or False = random weights. Nothing is
            downloaded, so True is refused.
        kw: Passed to the architecture, such as `img_size=(384, 128)` or `drop_path_rate=0.1`.

    Returns:
        A module with `num_features`, called with float images (n 3 h w), giving features (n d). Those of ReIDZoo take
        256×128, 128×64, 384×128 and any other multiple of 32.

    Raises:
        InputError: No such name, or the weights do not fit.
        SettingsError: The architecture does not take an argument.
    """
    if pretrained is True:
        raise InputError("pretrained: nothing is downloaded here; give the path of a model folder or checkpoint file")
    if refused := sorted(_REFUSED & kw.keys()):
        raise SettingsError(f"{name}: {refused[0]} is no argument of an architecture; leave it out")
    given, name = name, name.removeprefix(_TIMM)
    if (given != name or name not in ZOO) and name not in timm.list_models():
        near = difflib.get_close_matches(name, list_models(everything=True), n=1)
        hint = f"did you mean {near[0]}?" if near else "`reappear models` lists those of ReIDZoo; the others are timm's"
        raise InputError(f"no model is called {given!r}; {hint}")
    try:
        if given == name and name in ZOO:
            model: Any = ZOO[name].build(**kw)
        else:
            model = timm.create_model(name, pretrained=False, **{"num_classes": 0, **kw})
    except ReappearError:
        raise
    except Exception as error:  # constructors raise what they stumble over
        raise SettingsError(
            f"{name} cannot be built with {str(kw)[:200]}: {type(error).__name__} {' '.join(str(error).split())[:200]}"
        ) from error
    # Some timm models end in a layer that num_features does not count (GhostNet: 960, in truth 1280).
    model.num_features = getattr(model, "head_hidden_size", None) or model.num_features
    if pretrained:
        from .checkpoints import load_checkpoint

        load_checkpoint(model, pretrained)
    return model  # type: ignore[no-any-return]
