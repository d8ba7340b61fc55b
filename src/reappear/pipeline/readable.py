"""Images that cannot be decoded, left out of a training and of its validation, and listed."""

from collections.abc import Mapping

import numpy as np

from reappear.core import SILENT, InputError, Progress, counted
from reappear.data import Images

_NAMED = 3  # images in a note


def readable_images(images: Images, *, progress: Progress = SILENT) -> tuple[Images, dict[str, str]]:
    """The images that can be decoded, the same in every process, and image → reason for the others; see `leave_out`.

    Every image is decoded once, in a share for each process, which takes about as long as a pass of training reads
    them: a training does not stop days later at an image that it has not met before.

    Args:
        images: Of the training set.
        progress: Progress listener.

    Raises:
        InputError: None can be decoded.
    """
    from reappear.train import parallel  # imports torch, which takes seconds

    rank, world = parallel.rank_and_world()
    mine = images.unreadable(range(rank, len(images), world), progress=progress)
    failed = {row: why for share in parallel.gather_objects(mine) for row, why in share.items()}
    return leave_out(images, failed, more="; unreadable.json of the model lists all", progress=progress)


def leave_out(
    images: Images, failed: Mapping[int, str], *, more: str = "", progress: Progress = SILENT
) -> tuple[Images, dict[str, str]]:
    """Images without some rows, and image → reason for those, which are counted in a note; the first are named.

    Args:
        images: Of a set.
        failed: Row → why it is left out.
        more: Where those that are not named are listed.
        progress: Progress listener.

    Raises:
        InputError: None is left.
    """
    if not failed:
        return images, {}
    listed = {images.name(row): failed[row] for row in sorted(failed)}
    first = ", ".join(f"{name} ({why})" for name, why in list(listed.items())[:_NAMED])
    if len(failed) == len(images):
        raise InputError(f"none of {counted(len(images), 'image')} can be decoded: {first}; check the files")
    rest = f" and {len(failed) - _NAMED:,} more{more}" if len(failed) > _NAMED else ""
    progress.note(f"left out: {counted(len(failed), 'image')} that cannot be decoded: {first}{rest}")
    return images.select(np.delete(np.arange(len(images)), list(failed))), listed
