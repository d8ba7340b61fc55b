"""Engines: where `correlate` and `embed` run pieces of work, here or on a Ray cluster, and what bounds and keeps it.

choose.py     settings → an engine, and the device that inner products are taken on
cluster.py    pieces as tasks of Ray
memory.py     matrices beyond a limit are memory-mapped files
kept.py       results are stored as they come, so that a killed call goes on
"""

from .choose import EngineSettings, LocalSettings, RaySettings, choose_products, open_engine
from .kept import Kept
from .memory import Bounded, format_memory, parse_memory

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
