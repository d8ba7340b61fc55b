"""The finetune step: a data set with identities, and the training on it."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reappear.core import SILENT, ImageTable, InputError, Progress, SettingsError
from reappear.data import Images
from reappear.methods.grl.settings import GrlSettings
from reappear.pipeline.contents import hash_images, hash_value
from reappear.pipeline.readable import readable_images
from reappear.pipeline.record import Record
from reappear.pipeline.sets import NamedSet, find_set, people_at
from reappear.pipeline.validation import Validation, across_cameras, hold_out_people
from reappear.pipeline.workspace import Workspace

from .settings import FinetuneSettings

if TYPE_CHECKING:
    from reappear.pipeline.training.training import TrainingSet


def finetune(
    data: str | Path,
    name: str,
    settings: FinetuneSettings,
    *,
    out: Workspace | None = None,
    resume: str | Path = "auto",
    progress: Progress = SILENT,
) -> Record:
    """Trains a model on the identities of a data set.

    The saved weights are those of the highest mAP on people of the training set who are held out, or on the set of
    `settings.validation`; the last weights are then in `last/`. Test images are never read.

    Args:
        data: A folder, LAYOUT:FOLDER, or a workspace; see `find_set`.
        name: Of the model: `OUT/models/NAME/` with `model.safetensors`, `config.json`, `README.md`, `metrics.jsonl`.
        settings: See `FinetuneSettings`.
        out: The workspace; that of the data if they are one.
        resume: As in `pretrain`.
        progress: Progress listener.

    Raises:
        InputError: The set cannot be read or has no training images, or the weights do not fit the network.
        SettingsError: A setting is out of range, or contradicts another; or no workspace is given.
        TrainingError: The training diverged.
        DeviceError: The device has too little memory. The checkpoints are kept.
    """
    settings = with_backbone(settings)
    found = find_set(data)
    from reappear.methods.setup import choose_device  # imports torch, which takes seconds
    from reappear.pipeline.training.step import file_inputs, train_model
    from reappear.pipeline.training.training import Training
    from reappear.train import parallel

    parallel.torchrun_environment()
    device = choose_device(settings.device)
    if out is None and found.layout != "workspace":
        raise SettingsError(f"out: must be given, as {data} is no workspace; the model goes to OUT/models/{name}")
    work = out or Workspace(found.root)
    images = read_identities(found, settings)
    folder = work.model(name)
    work.make()
    inputs: dict[str, str | Path] = {
        "images": hash_images(images.table, work.hashes, progress=progress),
        "data": hash_value(images.table, root=found.root),
        **file_inputs(settings, work.hashes),
    }
    training = Training(
        settings,
        settings.method,
        partial(_training_set, images, settings, hash_value([inputs["images"], inputs["data"]], root=found.root)),
        device,
        name,
        select=True,
        resume=resume,
    )
    return train_model(training, folder, step="finetune", inputs=inputs, progress=progress)


def with_backbone(settings: FinetuneSettings) -> FinetuneSettings:
    """Settings that name a backbone: their own, or that of the model folder that they start from.

    Raises:
        InputError: The folder holds no model.
        SettingsError: There is neither.
    """
    if settings.backbone:
        return settings
    if settings.init is None or not settings.init.is_dir():
        raise SettingsError(
            "backbone: must be given, such as --backbone resnet50_ibn; only a model folder as --init names its own"
        )
    from reappear.models.folder import read_config

    config = read_config(settings.init)
    backbone, arguments = config["architecture"], config["arguments"]
    if backbone == "grl" and isinstance(settings.method, GrlSettings):
        pooling = arguments.get("pooling", "grl")
        if pooling != settings.method.pooling:
            raise SettingsError(
                f"method.pooling: {settings.init} was trained with {pooling}, and {settings.method.pooling} is asked "
                f"for; give --method.pooling {pooling}, or begin with the backbone that it began with"
            )
        arguments = {name: value for name, value in arguments.items() if name not in ("pooling", "frames", "compat")}
        backbone = arguments.pop("network", "resnet50")
    return replace(settings, backbone=backbone, arguments={**arguments, **settings.arguments})


@dataclass(frozen=True)
class IdentitySet:
    """Images with identities.

    Attributes:
        table: Training images of people.
        dropped: Reason → images that were left out.
        source: What the set is called.
    """

    table: ImageTable
    dropped: dict[str, int]
    source: str


def read_identities(found: NamedSet, settings: FinetuneSettings) -> IdentitySet:
    """The training images of a set that have an identity.

    Raises:
        InputError: There are none.
        SettingsError: `settings.identities` are no positions of people.
    """
    table = found.read()
    dropped = {reason: list(table.skipped.values()).count(reason) for reason in dict.fromkeys(table.skipped.values())}
    table = table.where("train")
    unlabelled = int(np.count_nonzero(table.identity < 0))
    if unlabelled == len(table):
        raise InputError(f"{found.root} has no training images with an identity; give a set that has")
    if unlabelled:
        dropped["without an identity"] = unlabelled
    table = replace(table.select(table.identity >= 0), names=(), cameras=())
    if settings.identities is not None:
        table = table.select(people_at(table, settings.identities))
    return IdentitySet(table, dropped, found.name)


def _training_set(
    images: IdentitySet, settings: FinetuneSettings, fingerprint: str, progress: Progress
) -> "TrainingSet":
    from reappear.pipeline.training.training import TrainingSet
    from reappear.train import parallel

    readable, unreadable = readable_images(Images(images.table), progress=progress)
    table, dropped, validation = readable.table, images.dropped, None
    first, preprocessing = parallel.rank_and_world()[0] == 0, settings.preprocessing
    if settings.validation is not None:
        validation = Validation.of_folder(settings.validation, preprocessing, progress=progress) if first else None
    elif settings.validation_share and settings.validation_every:
        shown, cameras = _with_cameras(table)
        held = hold_out_people(
            shown.identity, shown.camera, share=settings.validation_share, seed=settings.seed, cameras=cameras
        )
        if first and (frames := settings.method.clip_frames):
            compat = settings.method.clip_compat
            validation = Validation.of_tracklets(
                Images(shown.select(held)), preprocessing, frames=frames, compat=compat
            )
        elif first:
            validation = Validation.of(Images(across_cameras(shown.select(held))), preprocessing)
        dropped = {**dropped, "held out for validation": int(held.sum())}
        table = table.select(~held)
    return TrainingSet(Images(table), {"data": images.source}, "given", dropped, fingerprint, validation, unreadable)


def _with_cameras(table: ImageTable) -> tuple[ImageTable, str]:
    """Images and what their cameras are; where the set knows none, each tracklet or image is a camera of its own."""
    if (table.camera >= 0).any():
        return table, "cameras"
    if (table.sequence >= 0).all():
        return replace(table, camera=table.sequence), "tracklets"
    return replace(table, camera=np.arange(len(table))), "images"
