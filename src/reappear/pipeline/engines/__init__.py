"""Engines of a step: local or Ray, with bounded memory, and resumable."""

from .choose import open_engine
from .device import choose_products
from .kept import Kept
from .memory import Bounded, format_memory, parse_memory
from .settings import EngineSettings, LocalSettings, RaySettings

__all__ = [
    "Bounded",
    "EngineSettings",
    "Kept",
    "LocalSettings",
    "RaySettings",
    "choose_products",
    "format_memory",
    "open_engine",
    "parse_memory",
]
