"""The training methods: command line, help, recipes, model cards and tests read this table. Does not import torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Union

from .cion.settings import CionSettings, DinoSettings, TrackletSettings
from .moco.settings import MocoSettings
from .settings import MethodSettings

if TYPE_CHECKING:
    from reappear.train.task import Task

    from .setup import Setup


@dataclass(frozen=True)
class MethodSpec:
    """A training method.

    Attributes:
        settings: Its settings; their `kind` is the method's name.
        task: Where its `Task` is, as `module:class` below this package; built from a `Setup`.
        labels: What it learns from: identities that the user names, each image by itself, or tracklets.
        title: For the model card.
    """

    settings: type[MethodSettings]
    task: str
    labels: Literal["identities", "instance", "tracklet"]
    title: str

    def build(self, setup: "Setup[MethodSettings]") -> "Task[Any]":
        """The method with its first weights. All processes of a training must build theirs together."""
        module, _, name = self.task.partition(":")
        task: Task[Any] = getattr(import_module(f"{__package__}.{module}"), name)(setup)
        return task


METHODS = {
    "cion": MethodSpec(CionSettings, "cion.task:Cion", "identities", "identity-guided self-distillation (CION)"),
    "tracklet": MethodSpec(TrackletSettings, "cion.task:Cion", "tracklet", "self-distillation among tracklets"),
    "dino": MethodSpec(DinoSettings, "cion.task:Cion", "instance", "self-distillation of single images (DINO)"),
    "moco": MethodSpec(MocoSettings, "moco.task:Moco", "instance", "momentum contrast of single images (MoCo-v2)"),
}

if TYPE_CHECKING:
    AnyMethod = MethodSettings
else:
    AnyMethod = Union[tuple(spec.settings for spec in METHODS.values())]  # noqa: UP007 (built from the table)


def spec_of(settings: MethodSettings) -> MethodSpec:
    """The entry of a method by its settings."""
    return next(spec for spec in METHODS.values() if type(settings) is spec.settings)
