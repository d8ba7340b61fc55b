"""Which engine compares pairs, and on which device: the settings, and what they choose."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from reappear.core import LOCAL, Engine, Only, Processes, SettingsError, settings
from reappear.denoise import BLAS, Products


@settings
class LocalSettings:
    """This machine."""

    kind: Literal["local"] = "local"


@settings
class RaySettings:
    """A Ray cluster, or a Ray of its own on this machine."""

    kind: Literal["ray"] = "ray"
    address: Annotated[
        str | None, "a cluster, as host:port or auto; RAY_ADDRESS if not given; without either one is started here"
    ] = None
    workers: Annotated[Processes, "processes, where Ray is started here; 0 = one per core", Only("address", None)] = 0


EngineSettings = LocalSettings | RaySettings


@contextmanager
def open_engine(settings: EngineSettings, memory: int) -> Iterator[Engine]:
    """The engine that the settings name.

    Args:
        settings: Which.
        memory: Bytes of shared memory that an engine of other processes may take on this machine.
    """
    if isinstance(settings, LocalSettings):
        yield LOCAL
        return
    from .cluster import cluster  # imports Ray, which is optional

    with cluster(settings, memory) as engine:
        yield engine


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
