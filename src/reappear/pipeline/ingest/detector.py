"""The detector behind `--detector auto`."""

from typing import Any

from reappear.core import InputError, Progress, read_json
from reappear.pipeline.settings import resolve
from reappear.pipeline.workspace import Workspace
from reappear.store import find_weights
from reappear.video import AutoSettings, DetectorSettings, MotionSettings, YoloxSettings
from reappear.video.detectors.auto import SUGGESTED

from . import IngestSettings


def choose_detector(given: DetectorSettings, work: Workspace, progress: Progress) -> DetectorSettings:
    """The detector itself, where `given` is auto: that of the crops of the workspace, if there are any.

    Raises:
        InputError: Its weights are known by name, and not on this machine.
    """
    if isinstance(given, YoloxSettings):
        find_weights(given.weights)  # once, and not for each video
    if not isinstance(given, AutoSettings):
        return given
    here, earlier = given.choose(), _earlier(work)
    if earlier is not None and earlier.kind != here.kind:
        progress.note(
            f"ingest: {work.root} was begun with --detector {earlier.kind}, which is kept; for {here.kind} give "
            "another --out"
        )
    elif isinstance(here, MotionSettings):
        progress.note(
            "ingest: no weights of a detector on this machine, so what is found are moving regions, not people; to "
            f"find people: reappear weights download {SUGGESTED}, then another --out"
        )
    else:
        progress.note(f"ingest: people are found by {here.weights}")
    return earlier or here


def _earlier(work: Workspace) -> DetectorSettings | None:
    """The detector of crops that are there, or begun."""
    for path in (work.crops / "record.json", work.crops.with_name("crops.partial") / "begun.json"):
        try:
            plain: Any = read_json(path)["settings"]["detector"]
        except (InputError, KeyError, TypeError):
            continue
        return resolve(IngestSettings, {"detector": plain}, {}).detector
    return None
