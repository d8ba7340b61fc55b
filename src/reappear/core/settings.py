"""What a settings class is: a frozen dataclass whose fields carry their own help.

    @settings
    class MotionSettings:
        kind: Literal["motion"] = "motion"
        history: Annotated[int, "frames that the background model remembers"] = 300

The same class is read from a YAML recipe, shown by `--help`, and written into the record of the step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[T]) -> type[T]:
    """Makes `cls` a frozen, keyword-only dataclass that refuses unknown keys when read from a recipe."""
    made: Callable[[type[Any]], type[Any]] = dataclass(frozen=True, kw_only=True)
    made_cls = made(cls)
    made_cls.__pydantic_config__ = {"extra": "forbid"}
    return made_cls
