"""export-data: writes crops with identities in a public layout, their sightings, or likely label errors."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from reappear.core import SILENT, ImageTable, InputError, Progress, WorkspaceError, counted, read_json, settings
from reappear.data import OWN_LABELS, WRITERS, Crop, Writer
from reappear.store import (
    CropStore,
    read_embeddings,
    read_identities,
    remove_scratch,
    write_csv,
    write_table,
    write_text,
)

from .label_issues import find_label_issues
from .labels import identities_folder, labelled_crops
from .record import Outcome, Record, require_made_of, run_step
from .sightings import write_mot, write_sightings
from .workspace import Workspace

_BLOCK = 8192  # crops that an interruption costs, and in a file of Parquet or WebDataset


@settings
class ExportDataSettings:
    """What to write."""

    to: Annotated[
        Literal["market1501", "cion_al", "coco", "parquet", "webdataset", "sightings", "mot", "label-issues"],
        "a layout of images; sightings: who was where and when, as CSV and Parquet; mot: the boxes of each frame of "
        "each video, with identities that hold across videos; or label-issues: a list of likely label errors",
    ] = "parquet"


def export_data(
    work: Workspace,
    out: Path,
    settings: ExportDataSettings,
    *,
    identities: str | None = None,
    progress: Progress = SILENT,
) -> Record:
    """Writes the crops that have an identity, their sightings, or boxes to `out`. Resumes an interrupted call.

    Args:
        work: The workspace.
        out: A new folder.
        settings: What to write.
        identities: Name of identities that `correlate` wrote, the newest if not given; or "tracklet", "given", "true".
            For label-issues a name.
        progress: Progress listener.

    Raises:
        InputError: There are no such identities, no images, or `out` is another folder.
    """
    crops = work.open_crops()
    if out.exists() and not (out / "record.json").exists():
        raise InputError(f"{out} exists and was not written by export-data; give a new folder")
    if identities is None:
        identities = work.newest_identities()
        progress.note(f"export-data: of the newest identities, {identities}")
    inputs: dict[str, Path | str] = {"crops": work.crops, "identities": identities}
    if identities not in OWN_LABELS:
        inputs["identities"] = identities_folder(work, identities)
    if settings.to == "label-issues":
        if identities in OWN_LABELS:
            raise InputError(f"label-issues needs identities that `correlate` wrote, not {identities!r}")
        inputs["embeddings"] = _embeddings(work, identities)
    elif settings.to in WRITERS:
        crops.require_images()

    chosen = identities

    def fill(staging: Path) -> Outcome:
        if settings.to == "label-issues":
            return _write_label_issues(work, crops, chosen, staging, progress)
        if settings.to == "sightings":
            return write_sightings(work, chosen, staging)
        if settings.to == "mot":
            return write_mot(work, chosen, staging, progress)
        return _write_images(work, crops, chosen, WRITERS[settings.to], staging, progress)

    return run_step(out, step="export-data", settings=settings, inputs=inputs, work=fill, progress=progress)


def _embeddings(work: Workspace, identities: str) -> Path:
    """The embeddings that identities were found with, as they were."""
    folder = work.identities(identities)
    embeddings = work.embeddings(str(read_json(folder / "report.json")["embeddings"]["name"]))
    require_made_of(folder, embeddings=embeddings)
    return embeddings


@dataclass(frozen=True)
class _Notes:
    """The notes of all blocks, read again each time they are gone through."""

    files: list[Path]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self.files:
            with path.open(encoding="utf-8") as file:
                yield from map(json.loads, file)


def _write_images(
    work: Workspace, crops: CropStore, labels: str, writer: Writer, staging: Path, progress: Progress
) -> Outcome:
    table, left_out = labelled_crops(work, labels)
    table = table.select(np.argsort(table.identity, kind="stable"))
    person = np.unique(table.identity, return_inverse=True)[1]
    notes = staging / "notes"
    files = []
    with progress.task("exporting", len(table), "crop") as tick:
        for number, begin in enumerate(range(0, len(table), _BLOCK)):
            places = range(begin, min(begin + _BLOCK, len(table)))
            files.append(notes / f"{number:05d}.jsonl")
            if not files[-1].exists():
                some = [_crop(crops, table, place, person=int(person[place])) for place in places]
                try:
                    entries = writer.block(staging, number, some)
                except InputError as error:
                    raise InputError(f"{crops.folder}: a crop cannot be exported ({error}); ingest again") from error
                write_text(files[-1], "".join(json.dumps(entry) + "\n" for entry in entries))
            tick(len(places))
    writer.finish(staging, _Notes(files))
    remove_scratch(notes, "[0-9]*.jsonl")
    return Outcome({"crops": len(table), "identities": int(person[-1]) + 1}, left_out, made=len(table))


def _crop(crops: CropStore, table: ImageTable, place: int, *, person: int) -> Crop:
    row, time = int(table.path[place]), float(table.time[place])
    columns, video = crops.crops, int(crops.crops["video"][row])
    return Crop(
        place=place,
        person=person,
        identity=int(table.identity[place]),
        camera=int(table.camera[place]),
        camera_name=table.cameras[table.camera[place]],
        video=video,
        video_name=crops.video_names[video],
        tracklet=int(table.sequence[place]),
        frame=int(table.frame[place]),
        time=None if np.isnan(time) else time,
        score=float(columns["score"][row]),
        box=(
            float(columns["left"][row]),
            float(columns["top"][row]),
            float(columns["right"][row]),
            float(columns["bottom"][row]),
        ),
        image=crops.image(row),
    )


def _write_label_issues(work: Workspace, crops: CropStore, name: str, staging: Path, progress: Progress) -> Outcome:
    found = read_identities(identities_folder(work, name))
    if len(found.assignment.tracklet) != len(crops):
        raise WorkspaceError(f"identities {name!r} are of other crops than {crops.folder}; correlate again")
    vectors, _ = read_embeddings(_embeddings(work, name))
    table = find_label_issues(crops, found.assignment, vectors)
    write_table(staging / "label_issues.parquet", table)
    write_csv(staging / "label_issues.csv", table)
    reasons, counts = np.unique(table["reason"], return_counts=True)
    progress.note(f"export-data: label issues: {len(table['crop']):,} of {counted(len(crops), 'crop')}")
    totals: dict[str, int | float] = {"crops": len(crops), "label_issues": len(table["crop"])}
    # Finding no label issue is a result, so `made` counts the crops that were examined.
    return Outcome(totals | dict(zip(reasons.tolist(), counts.tolist(), strict=True)), made=len(crops))
