"""The pretrain step: what a model is trained on, and the training of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from reappear.core import SILENT, ImageTable, Progress, SettingsError, generator
from reappear.data import OWN_LABELS
from reappear.methods.registry import spec_of
from reappear.methods.settings import MethodSettings
from reappear.pipeline.contents import hash_value
from reappear.pipeline.labels import crop_images, identities_folder, labelled_crops
from reappear.pipeline.readable import readable_images
from reappear.pipeline.record import Changed, Record, read_record
from reappear.pipeline.validation import Validation, held_out, validation_crops
from reappear.pipeline.workspace import Workspace
from reappear.store import CropStore

from .settings import PretrainSettings

if TYPE_CHECKING:
    from reappear.pipeline.training.training import TrainingSet


def pretrain(
    work: Workspace,
    name: str,
    settings: PretrainSettings,
    *,
    labels: str | None = None,
    resume: str | Path = "auto",
    decide: Callable[[Record], Changed] | None = None,
    progress: Progress = SILENT,
) -> Record:
    """Trains a backbone on the crops of a workspace.

    Args:
        work: Has crops, and identities if they are named.
        name: Of the model: `WORK/models/NAME/` with `model.safetensors`, `config.json`, `README.md`, `metrics.jsonl`.
        settings: See `PretrainSettings`.
        labels: Labels for methods that learn from identities: "instance" (each crop), "tracklet", "given" (the
            labels that a set came with), "true" (the footage's ground truth), or the name of identities that
            `correlate` wrote. Other methods have their own.
        resume: "auto" continues an interrupted training of this name, if its settings are the same. "never" discards
            it. A path is a checkpoint, or a folder of them, of the same training elsewhere, to continue from.
        decide: What happens to a model of this name by the same settings, but of other crops or identities: it is
            kept, or replaced and kept under another name; refused if not given.
        progress: Progress listener.

    Raises:
        InputError: There are no crops, no such identities, or the network does not take the views' sizes.
        SettingsError: A setting is out of range, or contradicts another.
        TrainingError: The training diverged.
        DeviceError: The device has too little memory. The checkpoints are kept.
    """
    crops = work.open_crops()
    crops.require_images()
    from reappear.methods.setup import choose_device  # imports torch, which takes seconds
    from reappear.pipeline.training.step import file_inputs, train_model
    from reappear.pipeline.training.training import Training
    from reappear.train import parallel

    labels = labels_of(settings.method, labels)
    parallel.torchrun_environment()
    device = choose_device(settings.device)
    inputs: dict[str, Path | str] = {"crops": work.crops, "labels": labels}
    if labels not in OWN_LABELS:
        inputs["identities"] = identities_folder(work, labels)
    inputs |= file_inputs(settings, work.hashes)
    training = Training(
        settings,
        settings.method,
        partial(_read, work, crops, settings, labels),
        device,
        name,
        unit="crops",
        keep=settings.keep,
        resume=resume,
    )
    return train_model(training, work.model(name), step="pretrain", inputs=inputs, decide=decide, progress=progress)


def labels_of(method: MethodSettings, labels: str | None) -> str:
    """Name of the labels to train on; the default depends on the method.

    Raises:
        SettingsError: The method needs other labels.
    """
    own = spec_of(method).labels
    if own == "identities":
        return labels or "round0"
    if labels not in (None, own):
        raise SettingsError(f"labels: method {method.kind} learns from labels {own}, got {labels}; leave them out")
    return own


def draw_identities(table: ImageTable, share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Mask of the images of a share of the identities, at least one; smaller shares are parts of larger ones."""
    identities = np.unique(table.identity)
    order = generator(seed, "data share").permutation(len(identities))
    return np.isin(table.identity, identities[order[: max(1, round(share * len(identities)))]])


def _read(
    work: Workspace, crops: CropStore, settings: PretrainSettings, labels: str, progress: Progress
) -> "TrainingSet":
    """The crops with their identities; of the first process also the validation set."""
    from reappear.pipeline.training.training import TrainingSet
    from reappear.train import parallel

    table, dropped = labelled_crops(work, labels)
    if settings.data_share < 1:
        drawn = draw_identities(table, settings.data_share, settings.seed)
        dropped = {**dropped, "beyond data_share": int(np.count_nonzero(~drawn))}
        table = table.select(drawn)
    readable, unreadable = readable_images(crop_images(work, table), progress=progress)
    table = readable.table
    first, preprocessing = parallel.rank_and_world()[0] == 0, settings.preprocessing
    validation = None
    if settings.validation is not None:
        validation = Validation.of_folder(settings.validation, preprocessing, progress=progress) if first else None
    elif settings.validation_share:
        held = held_out(crops, table, share=settings.validation_share, seed=settings.seed)
        if first and held.any():
            queries = validation_crops(crops, table.select(held))
            validation = Validation.of(crop_images(work, queries), preprocessing)
        if held.any():
            dropped = {**dropped, "held out for validation": int(held.sum())}
        table = table.select(~held)
    fingerprint = hash_value([read_record(crops.folder).fingerprint, table.path, table.identity], root=work.root)
    source = {"labels": labels}
    return TrainingSet(crop_images(work, table), source, labels, dropped, fingerprint, validation, unreadable)
