from typing import Annotated, Literal

from reappear.core import Processes, settings


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
    workers: Annotated[Processes, "processes, where Ray is started here; 0 = one per core"] = 0


EngineSettings = LocalSettings | RaySettings
