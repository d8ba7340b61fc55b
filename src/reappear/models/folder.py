"""A model on disk: `model.safetensors`, `config.json`, and a `README.md` that says where it came from."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from reappear.core import InputError
from reappear.store import write_text, writing

from .registry import create_model

_NEEDED = ("architecture", "arguments", "height", "width", "mean", "std")


def save_model(folder: Path, model: nn.Module, config: dict[str, Any], *, card: str) -> None:
    """Writes a backbone.

    Args:
        folder: Made if missing.
        model: From `create_model`.
        config: `architecture` and `arguments` for `create_model`; `height` and `width` of its images in pixels; `mean`
            and `std` per channel, of pixels in [0, 1]; and whatever else is known of it.
        card: Text of README.md.
    """
    lacking = [name for name in _NEEDED if name not in config]
    if lacking:
        raise InputError(f"the configuration of a model needs {', '.join(lacking)}")
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with writing(folder / "model.safetensors") as aside:
        safetensors.torch.save_file(state, aside)
    write_text(folder / "config.json", json.dumps({**config, "features": model.num_features}, indent=2) + "\n")
    write_text(folder / "README.md", card)


def load_model(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """A backbone in evaluation mode, and its `config.json`.

    Raises:
        InputError: The folder holds no model, or a damaged one.
    """
    folder = Path(folder)
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lacking = [name for name in _NEEDED if name not in config]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{folder} holds no model (no config.json)") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if lacking:
        raise InputError(f"{path} lacks {', '.join(lacking)}")
    model = create_model(config["architecture"], pretrained=folder, **config["arguments"])
    return model.eval(), config
