from collections.abc import Iterator
from contextlib import contextmanager

from reappear.core import LOCAL, Engine

from .settings import EngineSettings, LocalSettings


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
