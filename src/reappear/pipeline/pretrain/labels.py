"""Training labels."""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from reappear.core import ImageTable, InputError, SettingsError, WorkspaceError
from reappear.methods.registry import spec_of
from reappear.methods.settings import MethodSettings
from reappear.pipeline.record import require_made_of
from reappear.pipeline.workspace import Workspace
from reappear.store import CropStore, read_table

OWN = ("instance", "tracklet", "given", "true")  # that need no `correlate`


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


def labelled(
    crops: CropStore, labels: str, work: Workspace
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], dict[str, int]]:
    """Indices of the crops to train on, their labels, and counts of dropped crops by reason."""
    reason = "without an identity"
    if labels == "instance":
        identity = np.arange(len(crops))
    elif labels == "tracklet":
        identity = np.asarray(crops.crops["tracklet"], np.int64)
    elif labels == "given":
        if "label" not in crops.crops:
            raise InputError(f"{crops.folder} came without labels, as videos do; train with other labels")
        identity = np.asarray(crops.crops["label"], np.int64)
    elif labels == "true":
        identity, reason = np.asarray(crops.crops["truth"], np.int64), "not in the ground truth"
        if not np.any(identity >= 0):
            raise InputError(f"{crops.folder} has no true identities; train with other labels")
    else:
        identity = np.asarray(read_table(identities_folder(work, labels) / "identities.parquet")["identity"], np.int64)
        if len(identity) != len(crops):
            raise WorkspaceError(f"identities {labels!r} are of other crops than {crops.folder}; correlate again")
    rows = np.flatnonzero(identity >= 0)
    if len(rows) == 0:
        raise InputError(f"labels {labels!r} give no crop an identity; check the thresholds of correlate")
    left_out = len(identity) - len(rows)
    return rows, identity[rows], {reason: left_out} if left_out else {}


def crop_table(crops: CropStore, rows: Int[np.ndarray, " n"], identity: Int[np.ndarray, " n"]) -> ImageTable:
    """Crops with their labels; the camera is the video."""
    number = np.asarray(rows, np.int64)
    return ImageTable(
        path=np.array([f"crop {row}" for row in number.tolist()]),
        identity=np.asarray(identity, np.int64),
        camera=np.asarray(crops.crops["video"], np.int64)[rows],
        sequence=np.asarray(crops.crops["tracklet"], np.int64)[rows],
        split=np.full(len(number), "train"),
    )


def identities_folder(work: Workspace, labels: str) -> Path:
    """Folder of the identities of this name."""
    folder = work.identities(labels)
    if not (folder / "record.json").exists():
        there = sorted(path.parent.name for path in folder.parent.glob("*/record.json"))
        raise InputError(
            f"{work.root} has no identities {labels!r}; labels are {', '.join((*OWN, *there))}"
            + ("" if there else "; `reappear correlate` makes more")
        )
    require_made_of(folder, crops=work.crops)
    return folder
