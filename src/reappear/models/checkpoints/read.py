"""A file to named tensors, without running anything in it."""

import argparse
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from reappear.core import InputError

_NESTS = ("teacher", "student", "state_dict", "model")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of a model folder, or of a PyTorch file of plain tensors.

    Raises:
        InputError: It is none of these; the message says why.
    """
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
