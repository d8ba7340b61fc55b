"""The training methods: command line, help, recipes, model cards and tests read this table. Does not import torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Union

from .settings import FinetuneMethodSettings, MethodSettings

if TYPE_CHECKING:
    from reappear.train.task import Task

    from .setup import Setup


@dataclass(frozen=True)
class MethodSpec:
    """A training method.

    Attributes:
        settings_class: Where its settings are, as `module:class` below this package.
        task_class: Where its `Task` is, which is built from a `Setup`.
        labels: What it learns from: identities that the user names, each image by itself, or tracklets.
        title: For the model card.
        command: Which trains by it.
    """

    settings_class: str
    task_class: str
    labels: Literal["identities", "instance", "tracklet"]
    title: str
    command: Literal["pretrain", "finetune"] = "pretrain"

    @property
    def settings(self) -> type[MethodSettings]:
        """Class of its settings."""
        settings: type[MethodSettings] = _load(self.settings_class)
        return settings

    def build(self, setup: "Setup[MethodSettings]") -> "Task[Any]":
        """The method with its first weights. All processes of a training must build theirs together."""
        task: Task[Any] = _load(self.task_class)(setup)
        return task


METHODS = {
    "supcon": MethodSpec("supcon.settings:SupConSettings", "supcon.task:SupCon", "identities", "contrast among identities (SupCon)"),
    "memory": MethodSpec("memory.settings:MemorySettings", "memory.task:Memory", "identities", "contrast with a memory of identities (Cluster Contrast)"),
    "cion": MethodSpec("cion.settings:CionSettings", "cion.task:Cion", "identities", "identity-guided self-distillation (CION)"),
    "tracklet": MethodSpec("cion.settings:TrackletSettings", "cion.task:Cion", "tracklet", "self-distillation among tracklets"),
    "dino": MethodSpec("cion.settings:DinoSettings", "cion.task:Cion", "instance", "self-distillation of single images (DINO)"),
    "moco": MethodSpec("moco.settings:MocoSettings", "moco.task:Moco", "instance", "momentum contrast of single images (MoCo-v2)"),
    "upreid": MethodSpec("upreid.settings:UpReidSettings", "upreid.task:UpReid", "instance", "momentum contrast with intra-identity regularisation (UP-ReID)"),
    "transreid": MethodSpec("transreid.settings:TransReidSettings", "transreid.task:TransReid", "identities", "cross-entropy and triplets (TransReID)", "finetune"),
    "mgn": MethodSpec("mgn.settings:MgnSettings", "mgn.task:Mgn", "identities", "circle loss and triplets of the image's parts (MGN)", "finetune"),
    "cluster_contrast": MethodSpec("cluster_contrast.settings:ClusterContrastSettings", "cluster_contrast.task:ClusterContrast", "instance", "contrast with clusters of its own features (Cluster Contrast)", "finetune"),
    "grl": MethodSpec("grl.settings:GrlSettings", "grl.task:Grl", "identities", "reciprocal learning of clips (GRL)", "finetune"),
}  # fmt: skip


def spec_of(settings: MethodSettings) -> MethodSpec:
    """The entry of a method by its settings."""
    return METHODS[settings.kind]


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(f"{__package__}.{module}"), name)


if TYPE_CHECKING:
    AnyMethod = MethodSettings
    AnyFinetuneMethod = FinetuneMethodSettings
else:
    AnyMethod, AnyFinetuneMethod = (
        Union[tuple(spec.settings for spec in METHODS.values() if spec.command == command)]  # noqa: UP007 (a table)
        for command in ("pretrain", "finetune")
    )
