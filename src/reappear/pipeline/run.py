"""All arrows from videos to the report, round by round."""

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from reappear.core import SILENT, Progress, settings
from reappear.models.extractors import ColorSettings, ExtractorSettings, ModelSettings

from .correlate import CorrelateSettings, correlate
from .embed import EmbedSettings, embed
from .ingest import IngestSettings, ingest
from .pretrain import PretrainSettings, pretrain
from .report import ReportSettings, report
from .workspace import Workspace


@settings
class RunSettings:
    """Settings of every step, under its name."""

    extractor: Annotated[
        ExtractorSettings | None,
        "what embeds the crops in round 0 (a name or a file); the colour descriptor if not given",
    ] = None
    rounds: Annotated[
        Annotated[int, Interval(ge=1, le=100)] | None,
        "rounds of embed, correlate, pretrain; 2 if not given, or 1 with an extractor of your own",
    ] = None
    carry: Annotated[bool, "later rounds go on from the identities of the round before; no = each from tracklets"] = (
        True
    )
    ingest: Annotated[IngestSettings, "videos to crops"] = field(default_factory=IngestSettings)
    correlate: Annotated[CorrelateSettings, "embeddings to identities"] = field(default_factory=CorrelateSettings)
    pretrain: Annotated[PretrainSettings, "identities to a model"] = field(default_factory=PretrainSettings)
    report: Annotated[ReportSettings, "the page"] = field(default_factory=ReportSettings)


def run(videos: Sequence[Path], work: Workspace, settings: RunSettings, *, progress: Progress = SILENT) -> Path:
    """Takes videos to a model and a report.

    Args:
        videos: Files, folders, MOTChallenge sequences, or a set of crops or embeddings with labels.
        work: Where everything goes. What is finished there is not done again.
        settings: Of every step.
        progress: Who is told.

    Returns:
        The report, `report.html`, with `report.json` beside it.
    """
    rounds = count_rounds(settings)
    ingest(videos, work, settings.ingest, progress=progress)
    if work.open_crops().has_images:
        correlate_in_rounds(work, settings, rounds, progress=progress)
    else:
        progress.note("run: without images there is nothing to train on; what can be done is to correlate")
        correlate(work, "round0", settings.correlate, embeddings="round0", progress=progress)
    return report([work], work.root, settings.report, progress=progress)


def correlate_in_rounds(work: Workspace, settings: RunSettings, rounds: int, *, progress: Progress = SILENT) -> None:
    """The loop of the whole: each round embeds with the model of the round before, and trains a better one.

    A later round goes on from the identities of the one before it: a model that learned from them sees what they still
    leave apart, with other eyes than the descriptor that found them.

    Leaves embeddings, identities and models `round0`, `round1`, ..., and the embeddings `final` of the last model.
    """
    for number in range(rounds):
        name = f"round{number}"
        embed(work, name, EmbedSettings(extractor=_extractor(work, settings, number)), progress=progress)
        start = f"round{number - 1}" if number and settings.carry else None
        correlate(work, name, settings.correlate, embeddings=name, start=start, progress=progress)
        pretrain(work, name, settings.pretrain, labels=name, progress=progress)
    embed(work, "final", EmbedSettings(extractor=_trained(work, rounds - 1)), progress=progress)


def count_rounds(settings: RunSettings) -> int:
    """How many rounds the settings ask for."""
    if settings.rounds is not None:
        return settings.rounds
    return 2 if settings.extractor is None else 1


def _extractor(work: Workspace, settings: RunSettings, number: int) -> ExtractorSettings:
    if number:
        return _trained(work, number - 1)
    return settings.extractor or ColorSettings()


def _trained(work: Workspace, number: int) -> ModelSettings:
    return ModelSettings(name=str(work.model(f"round{number}")))
