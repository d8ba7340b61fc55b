"""Labels of a workspace by name: the one place that says who is on its crops."""

from pathlib import Path

import numpy as np

from reappear.core import ImageTable, InputError
from reappear.data import OWN_LABELS, Images, read_crops

from .record import require_made_of
from .workspace import Workspace


def labelled_crops(work: Workspace, labels: str) -> tuple[ImageTable, dict[str, int]]:
    """The crops that have an identity.

    Args:
        work: Its crops are referred to by number: `crop_images` decodes them.
        labels: "instance", "tracklet", "given", "true", or the name of identities that `correlate` wrote; see
            `reappear.data.read_crops`.

    Returns:
        The crops in their order, and the number of those left out by reason.

    Raises:
        InputError: There are no such labels, or no crop has an identity by them.
        WorkspaceError: The identities are of other crops.
    """
    if labels not in OWN_LABELS:
        identities_folder(work, labels)
    table = read_crops(work.root, labels)
    known = table.identity >= 0
    if not known.any():
        raise InputError(f"{work.root}: no crop has an identity by the labels {labels!r}; choose other labels")
    left_out = int(np.count_nonzero(~known))
    reason = "not in the ground truth" if labels == "true" else "without an identity"
    return table.select(known), {reason: left_out} if left_out else {}


def crop_images(work: Workspace, table: ImageTable) -> Images:
    """The images of crops that `table` refers to by number."""
    return Images(table, work.open_crops().image, "ingest into a new workspace")


def identities_folder(work: Workspace, labels: str) -> Path:
    """Folder of identities that `correlate` wrote.

    Raises:
        InputError: There are none of this name.
        WorkspaceError: They are of other crops than the workspace holds now.
    """
    folder = work.identities(labels)
    if not (folder / "record.json").exists():
        there = sorted(path.parent.name for path in folder.parent.glob("*/record.json"))
        raise InputError(
            f"{work.root} has no identities {labels!r}; labels are {', '.join((*OWN_LABELS, *there))}"
            + ("" if there else "; `reappear correlate` makes more")
        )
    require_made_of(folder, crops=work.crops)
    return folder
