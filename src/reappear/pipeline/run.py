"""Runs all steps from videos to the report, in rounds."""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from reappear.core import SILENT, Progress, settings
from reappear.models.extractors import ColorSettings, ExtractorSettings, ModelSettings
from reappear.store import read_decisions

from .correlate import CorrelateSettings, correlate, review_log
from .embed import EmbedSettings, embed
from .ingest import IngestSettings, ingest
from .pages import require_own_page
from .pretrain import PretrainSettings, pretrain
from .record import read_record
from .report import ReportSettings, report
from .workspace import Workspace


@settings
class RunSettings:
    """Settings of all steps."""

    extractor: Annotated[
        ExtractorSettings | None,
        "extractor of round 0 (a name or a file); the colour descriptor if not given",
    ] = None
    rounds: Annotated[
        Annotated[int, Interval(ge=1, le=100)] | None,
        "rounds of embed, correlate, pretrain; 2 if not given, or 1 with --extractor",
    ] = None
    beside: Annotated[
        bool, "later rounds compare by the extractor of round 0 and the own model side by side; no = by the model alone"
    ] = True
    carry: Annotated[bool, "later rounds start from the identities of the round before; no = each from tracklets"] = (
        False
    )
    ingest: Annotated[IngestSettings, "videos to crops"] = field(default_factory=IngestSettings)
    correlate: Annotated[CorrelateSettings, "embeddings to identities"] = field(default_factory=CorrelateSettings)
    pretrain: Annotated[PretrainSettings, "identities to a model"] = field(default_factory=PretrainSettings)
    report: Annotated[ReportSettings, "the page"] = field(default_factory=ReportSettings)


def run(videos: Sequence[Path], work: Workspace, settings: RunSettings, *, progress: Progress = SILENT) -> Path:
    """Runs all steps on videos.

    Args:
        videos: Files, folders, MOTChallenge sequences, or a set of crops or embeddings with labels.
        work: The workspace. Finished steps are not repeated.
        settings: Settings of all steps.
        progress: Progress listener.

    Returns:
        The report, `report.html`, with `report.json` beside it.
    """
    from .training.check import check_training  # imports torch

    rounds = count_rounds(settings)
    require_own_page(work.root, "report")
    check_training(settings.pretrain)
    ingest(videos, work, settings.ingest, progress=progress)
    if work.open_crops().has_images:
        correlate_in_rounds(work, settings, rounds, progress=progress)
    else:
        progress.note("run: no images, so no model is trained; only identities are computed")
        revision = _revision(work, settings.correlate, progress)
        correlate(work, f"round0{revision}", settings.correlate, embeddings="round0", progress=progress)
    return report([work], work.root, settings.report, progress=progress)


def correlate_in_rounds(
    work: Workspace, settings: RunSettings, rounds: int, *, progress: Progress = SILENT
) -> list[str]:
    """Runs rounds: each embeds with the model of the round before, correlates, and trains a model.

    A later round compares by the extractor of round 0 and the model of the round before, side by side.

    Writes identities and models `round0`, `round1`, ..., and embeddings `round0` to one beyond the last model. A call
    with more or fewer rounds reuses finished ones. After review decisions, everything that depends on them has their
    number in its name, such as `round0-review3`, beside the earlier results.

    Returns:
        The names of the rounds' identities and models.
    """
    revision = _revision(work, settings.correlate, progress)
    embeddings, beside = "round0", None
    extractor: ExtractorSettings = settings.extractor or ColorSettings()
    names = [f"round{number}{revision}" for number in range(rounds)]
    for number, name in enumerate(names):
        embed(work, embeddings, EmbedSettings(extractor=extractor, beside=beside), progress=progress)
        start = names[number - 1] if number and settings.carry else None
        correlate(work, name, settings.correlate, embeddings=embeddings, start=start, progress=progress)
        pretrain(work, name, settings.pretrain, labels=name, progress=progress)
        embeddings, extractor = f"round{number + 1}{revision}", ModelSettings(name=str(work.model(name)))
        beside = "round0" if settings.beside else None
    embed(work, embeddings, EmbedSettings(extractor=extractor, beside=beside), progress=progress)
    return names


def count_rounds(settings: RunSettings) -> int:
    """The number of rounds."""
    if settings.rounds is not None:
        return settings.rounds
    return 2 if settings.extractor is None else 1


def _revision(work: Workspace, settings: CorrelateSettings, progress: Progress) -> str:
    """Suffix of the names of rounds: empty without decisions, else their number."""
    log = review_log(work, settings)
    decisions = len(read_decisions(log, footage=read_record(work.crops).fingerprint)) if log is not None else 0
    if not decisions:
        return ""
    revision = f"-review{decisions}"
    if work.identities("round0").exists() and not work.identities(f"round0{revision}").exists():
        progress.note(
            f"run: {log} holds {decisions} decisions; rounds that apply them are round0{revision} and so on, "
            f"and earlier rounds are kept"
        )
    return revision
