"""Selects the device for comparing pairs: CPU, or a GPU if available."""

import ctypes
from typing import Literal

from reappear.core import SettingsError
from reappear.denoise import BLAS, Products

from .settings import EngineSettings, LocalSettings


def choose_products(device: Literal["auto", "cpu", "cuda"], engine: EngineSettings) -> Products:
    """The products of the device; links are the same on all devices.

    Raises:
        SettingsError: `cuda` where there is none, or for an engine whose workers may have none.
    """
    local = isinstance(engine, LocalSettings)
    if device == "cuda" and not local:
        raise SettingsError("device: cuda is for this machine; leave it at auto, or take the local engine")
    if device == "cpu" or not local or (device == "auto" and not _has_driver()):
        return BLAS
    import torch  # takes seconds, and only a GPU is worth them

    from .torch_products import TorchProducts

    if torch.cuda.is_available():
        return TorchProducts("cuda")
    if device == "cuda":
        raise SettingsError("device: cuda is not available here; choose cpu, or auto")
    return BLAS


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
