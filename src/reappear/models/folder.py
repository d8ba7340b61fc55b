"""A model on disk: `model.safetensors`, `config.json`, and a model card, `README.md`."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from reappear.core import InputError, SettingsError, TrainingError, read_json_object, require_regular_file
from reappear.store import atomic_write, write_text

from .checkpoints import require_finite
from .registry import create_model

_MAX_SIDE, _MAX_NUMBER, _MAX_ITEMS = 8192, 16_384, 64
_NEEDED = ("architecture", "arguments", "height", "width", "mean", "std")


def save_model(folder: Path, model: nn.Module, config: dict[str, Any], *, card: str) -> None:
    """Writes a backbone.

    Args:
        folder: Made if missing.
        model: From `create_model`.
        config: `architecture` and `arguments` for `create_model`; `height` and `width` of its images in pixels; `mean`
            and `std` per channel, of pixels in [0, 1]; and whatever else is known of it.
        card: Text of README.md.

    Raises:
        TrainingError: A weight is NaN or infinite; nothing is written.
    """
    lacking = [name for name in _NEEDED if name not in config]
    if lacking:
        raise InputError(f"the configuration of a model needs {', '.join(lacking)}")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    try:
        require_finite(state, config["architecture"])
    except InputError as error:
        raise TrainingError(f"the model is not saved: {error}") from error
    with atomic_write(folder / "model.safetensors") as staging:
        staging.write_bytes(safetensors.torch.save(state))  # `save_file` makes files that only their owner can read
    write_text(folder / "config.json", json.dumps({**config, "features": model.num_features}, indent=2) + "\n")
    write_text(folder / "README.md", card)


def load_model(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """A backbone in evaluation mode, and its `config.json`.

    Raises:
        InputError: The folder holds no model, or a damaged one.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.exists():
        raise InputError(f"{folder} holds no model (no config.json)")
    config = read_json_object(path, *_NEEDED)
    _check(config, path)
    try:
        with torch.device("meta"):  # without memory: what the arguments ask for may be too large for any machine
            sketch = create_model(config["architecture"], **config["arguments"])
        numbers = sum(parameter.numel() for parameter in sketch.parameters())
        weights = require_regular_file(folder / "model.safetensors").st_size
        if numbers > weights:
            raise InputError(f"{path}: a model of {numbers:,} parameters, but model.safetensors has {weights:,} bytes")
        model = create_model(config["architecture"], pretrained=folder, **config["arguments"])
    except SettingsError as error:
        raise InputError(f"{path}: {error}") from error
    return model.eval(), config


def _check(config: dict[str, Any], path: Path) -> None:
    """Refuses a configuration that `save_model` would not have written."""
    if not isinstance(config["architecture"], str):
        raise InputError(f"{path}: architecture must be a name, got {config['architecture']!r:.80}")
    for name in ("height", "width"):
        if type(config[name]) is not int or not 1 <= config[name] <= _MAX_SIDE:
            raise InputError(f"{path}: {name} must be 1 to {_MAX_SIDE} pixels, got {config[name]!r:.80}")
    for name in ("mean", "std"):
        if not isinstance(config[name], list) or len(config[name]) != 3 or not all(map(_is_finite, config[name])):
            raise InputError(f"{path}: {name} must be three numbers, got {config[name]!r:.80}")
    if min(config["std"]) <= 0:
        raise InputError(f"{path}: std must be positive, got {config['std']}")
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
