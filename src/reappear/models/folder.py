"""The folder of a model on disk: `model.safetensors`, `config.json`, and a model card, `README.md`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import safetensors.torch
import torch
from torch import Tensor, nn

from reappear.core import (
    InputError,
    SettingsError,
    TrainingError,
    counted,
    read_json_object,
    require_regular_file,
)
from reappear.store import atomic_write, write_text

from .checkpoints import read_tensors, require_finite
from .necks import NeckKind
from .registry import create_model

NEEDED = ("architecture", "arguments", "height", "width", "mean", "std")  # keys of config.json
_CHOICES = {"neck": get_args(NeckKind), "feature": ("after", "before")}  # the first where the key is missing
_WEIGHTS = "model.safetensors"
_MAX_NUMBER, _MAX_ITEMS = 16_384, 64


def write(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], card: str) -> None:
    """Writes the files of a model.

    Raises:
        TrainingError: A weight is NaN or infinite; nothing is written.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        require_finite(state, config["architecture"])
    except InputError as error:
        raise TrainingError(f"the model is not saved: {error}") from error
    with atomic_write(folder / _WEIGHTS) as staging:
        staging.write_bytes(safetensors.torch.save(state))  # `save_file` makes files that only their owner can read
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "README.md", card)


def read_config(folder: Path) -> dict[str, Any]:
    """The checked `config.json` of a model folder.

    Raises:
        InputError: It is missing, damaged, or asks for what `write` would not have written.
    """
    path = folder / "config.json"
    if not path.exists():
        raise InputError(f"{folder} holds no model (no config.json)")
    config = read_json_object(path, *NEEDED)
    for name, choices in _CHOICES.items():
        config.setdefault(name, choices[0])
    _check(config, path)
    return config


def read_backbone(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """The backbone of a model folder with its weights.

    Raises:
        InputError: The weights are damaged, or do not fit the architecture and its arguments.
    """
    path = folder / "config.json"
    try:
        with torch.device("meta"):  # without memory: what the arguments ask for may be too large for any machine
            sketch = create_model(config["architecture"], **config["arguments"])
        numbers = sum(parameter.numel() for parameter in sketch.parameters())
        weights = require_regular_file(folder / _WEIGHTS).st_size
        if numbers > weights:
            raise InputError(
                f"{path}: a model of {counted(numbers, 'parameter')}, but {_WEIGHTS} has {counted(weights, 'byte')}"
            )
        return create_model(config["architecture"], pretrained=folder, **config["arguments"])
    except SettingsError as error:
        raise InputError(f"{path}: {error}") from error


def read_neck(folder: Path, neck: nn.Module) -> None:
    """Sets the weights of a neck from those of a model folder.

    Raises:
        InputError: They do not fit, or are NaN or infinite.
    """
    if not neck.state_dict():
        return
    path, tensors = folder / _WEIGHTS, read_tensors(folder)
    own = {name.removeprefix("neck."): value for name, value in tensors.items() if name.startswith("neck.")}
    require_finite(own, path)
    try:
        neck.load_state_dict(own)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit its neck: {' '.join(str(error).split())[:200]}") from error


def _check(config: dict[str, Any], path: Path) -> None:
    """Refuses a configuration that `write` would not have written."""
    if not isinstance(config["architecture"], str):
        raise InputError(f"{path}: architecture must be a name, got {config['architecture']!r:.80}")
    for name in ("height", "width"):
        if type(config[name]) is not int:
            raise InputError(f"{path}: {name} must be a whole number of pixels, got {config[name]!r:.80}")
    for name in ("mean", "std"):
        if not isinstance(config[name], list) or not all(map(_is_finite, config[name])):
            raise InputError(f"{path}: {name} must be three numbers, got {config[name]!r:.80}")
    for name, choices in _CHOICES.items():
        if config[name] not in choices:
            raise InputError(f"{path}: {name} must be one of {', '.join(choices)}, got {config[name]!r:.80}")
    arguments = config["arguments"]
    if not isinstance(arguments, dict) or not all(_is_plain(value) for value in arguments.values()):
        raise InputError(
            f"{path}: arguments must be numbers up to {_MAX_NUMBER:,}, words, or short lists of them, got "
            f"{arguments!r:.200}"
        )
    if not_theirs := {"name", "pretrained"} & arguments.keys():  # of `create_model` itself
        raise InputError(f"{path}: arguments must be those of the architecture, got {', '.join(sorted(not_theirs))}")


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return len(value) <= _MAX_ITEMS and all(_is_plain(item) and not isinstance(item, list) for item in value)
    return value is None or (isinstance(value, str) and len(value) <= _MAX_ITEMS) or _is_finite(value)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= _MAX_NUMBER  # also not nan
