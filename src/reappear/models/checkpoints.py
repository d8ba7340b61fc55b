"""Weights from files that others or we wrote, without running anything in them."""

import argparse
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from reappear.core import InputError

_NESTS = ("teacher", "student", "state_dict", "model")
_PREFIXES = ("module.", "backbone.", "encoder_q.", "base.")
_CLASSIFIERS = ("fc.", "head.fc.", "classifier.", "head.weight", "head.bias")
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What of a checkpoint went where.

    Attributes:
        matched: Names of the model's tensors that were set.
        missing: Names of the model's tensors that the file lacks.
        unexpected: Names in the file that the model has no place for, or in another shape.
        ignored: Names in the file that belong to a head or a classifier, which a backbone has no place for by design.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    ignored: tuple[str, ...]


def load_checkpoint(model: nn.Module, path: str | Path, *, partial: bool = False) -> LoadReport:
    """Sets the weights of a model from a file.

    Reads safetensors files, model folders, and PyTorch files (.pth, .pt, .bin) of plain tensors, also nested under
    "teacher", "student", "state_dict" or "model" (in this order) and with the prefixes module. and backbone.

    Args:
        model: Changed in place, or not at all when an error is raised.
        path: A file, or a folder that holds `model.safetensors`.
        partial: Take what fits when something is missing or left over.

    Raises:
        InputError: The file cannot be read without running code in it, or does not fit; the message says what.
    """
    path = Path(path)
    named = _read(path)
    own = model.state_dict()
    named, heads = _of_backbone(named)
    classifier = tuple(name for name in named if name not in own and name.startswith(_CLASSIFIERS))
    matched = [name for name, value in named.items() if name in own and own[name].shape == value.shape]
    wrong = [
        f"{name} {tuple(value.shape)} for {tuple(own[name].shape)}"
        for name, value in named.items()
        if name in own and own[name].shape != value.shape
    ]
    unexpected = [name for name in named if name not in own and name not in classifier] + wrong
    missing = [name for name in own if name not in named and not name.endswith(_COUNTER)]
    if (missing or unexpected) and not (partial and matched):
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise InputError(
            f"{path} does not fit {type(model).__name__}: {len(matched)} of {len(own)} tensors match, "
            f"{' and '.join(parts)}; check the architecture and its arguments"
        )
    model.load_state_dict({name: named[name] for name in matched}, strict=False)
    return LoadReport(tuple(matched), tuple(missing), tuple(unexpected), (*heads, *classifier))


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a model folder or a checkpoint file")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except SafetensorError as error:
            raise InputError(f"{path} is not readable as safetensors: {error}") from error
    try:
        # argparse.Namespace holds settings and nothing that runs; DINO and CION store theirs in checkpoints.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickle protocols: what matters is whether it loads
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a file of plain tensors, and loading it could run code hidden in it; "
            "save its state_dict alone and load that"
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        said = " ".join(str(error).split())[:120] or "it ends at once"
        raise InputError(f"{path} is not readable as a PyTorch file: {said}") from error
    while isinstance(found, Mapping):
        nest = next((name for name in _NESTS if isinstance(found.get(name), Mapping)), None)
        if nest is None:
            break
        found = found[nest]
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise InputError(f"{path} holds no tensors under their names")
    return tensors


def _of_backbone(named: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Without prefixes; where a prefix marks the backbone, what lacks it belongs to a head."""
    heads: tuple[str, ...] = ()
    for _ in range(3):
        for prefix in _PREFIXES:
            inside = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
            if not inside:
                continue
            heads += tuple(name for name in named if not name.startswith(prefix))
            named = inside
    return named, heads
