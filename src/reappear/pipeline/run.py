"""Runs all steps from videos to the report, in rounds."""

import re
from collections.abc import Sequence
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Interval

from reappear.core import SILENT, Fraction, Only, Progress, counted, settings
from reappear.methods.registry import spec_of
from reappear.models.extractors import ColorSettings, ExtractorSettings, ModelSettings
from reappear.store import count_decisions

from .correlate import CorrelateSettings, correlate, review_log
from .embed import EmbedSettings, embed
from .ingest import IngestSettings, ingest, require_sources
from .pages import require_own_page
from .pretrain import PretrainSettings, pretrain
from .record import Changed, Record, fingerprint
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
    retrain: Annotated[
        bool, "models are trained anew after videos were added or removed; no = as retrain_share says"
    ] = False
    retrain_share: Annotated[
        Fraction, "models are trained anew when more of the crops than this are new to them", Only("retrain", False)
    ] = 0.5
    ingest: Annotated[IngestSettings, "videos to crops"] = field(default_factory=IngestSettings)
    correlate: Annotated[CorrelateSettings, "embeddings to identities"] = field(default_factory=CorrelateSettings)
    pretrain: Annotated[PretrainSettings, "identities to a model"] = field(default_factory=PretrainSettings)
    report: Annotated[ReportSettings, "the page"] = field(default_factory=ReportSettings)


def run(videos: Sequence[Path], work: Workspace, settings: RunSettings, *, progress: Progress = SILENT) -> Path:
    """Runs all steps on videos.

    Args:
        videos: Files, folders, MOTChallenge sequences, or a set of crops or embeddings with labels.
        work: The workspace. Finished steps are not repeated. Where videos were added, removed or repaired since, the
            new ones alone are processed, and what was made of all is brought up to date.
        settings: Settings of all steps.
        progress: Progress listener.

    Returns:
        The report, `report.html`, with `report.json` beside it.
    """
    require_own_page(work.root, "report")
    require_sources(videos, settings.ingest)
    from .training.step import check_training  # imports torch, which takes seconds

    rounds = count_rounds(settings)
    check_training(settings.pretrain)
    ingest(videos, work, settings.ingest, progress=progress)
    if work.open_crops().has_images:
        correlate_in_rounds(work, settings, rounds, progress=progress)
    else:
        progress.note("run: no images, so no model is trained; only identities are computed")
        name, numbers = f"round0{_revision(work, settings.correlate, progress)}", _last_of_round(work, 0)
        correlate(work, name, settings.correlate, embeddings="round0", numbers=numbers, progress=progress)
    return report([work], work.root, settings.report, progress=progress)


def correlate_in_rounds(
    work: Workspace, settings: RunSettings, rounds: int, *, progress: Progress = SILENT
) -> list[str]:
    """Runs rounds: each embeds with the model of the round before, correlates, and trains a model.

    A later round compares by the extractor of round 0 and the model of the round before, side by side.

    Writes identities and models `round0`, `round1`, ..., and embeddings `round0` to one beyond the last model. A call
    with more or fewer rounds reuses finished ones. After review decisions, everything that depends on them has their
    number in its name, such as `round0-review3`, beside the earlier results. Where a single identity is found, no model
    is trained from it, and it is the last round.

    Returns:
        The names of the rounds' identities, and of the models where there are any.
    """
    revision = _revision(work, settings.correlate, progress)
    embeddings, beside = "round0", None
    extractor: ExtractorSettings = settings.extractor or ColorSettings()
    names = [f"round{number}{revision}" for number in range(rounds)]
    for number, name in enumerate(names):
        embed(work, embeddings, EmbedSettings(extractor=extractor, beside=beside), replace=True, progress=progress)
        start, numbers = names[number - 1] if number and settings.carry else None, _last_of_round(work, number)
        found = correlate(
            work,
            name,
            settings.correlate,
            embeddings=embeddings,
            start=start,
            numbers=numbers,
            replace=True,
            progress=progress,
        )
        if found.counts["identities"] < 2 and spec_of(settings.pretrain.method).labels == "identities":
            progress.note("run: one identity was found, and people are learned from two or more; no model is trained")
            return names[: number + 1]
        decide = partial(_keep_or_replace, work, settings, progress)
        pretrain(work, name, settings.pretrain, labels=name, decide=decide, progress=progress)
        embeddings, extractor = f"round{number + 1}{revision}", ModelSettings(name=str(work.model(name)))
        beside = "round0" if settings.beside else None
    embed(work, embeddings, EmbedSettings(extractor=extractor, beside=beside), replace=True, progress=progress)
    return names


def _keep_or_replace(work: Workspace, settings: RunSettings, progress: Progress, model: Record) -> Changed:
    """Whether a model that was trained on an earlier state of the crops is kept."""
    if model.inputs.get("crops") == fingerprint(work.crops):  # on other identities of the same
        return "replace" if settings.retrain else "refuse"
    share = _share_of_new_crops(work, model)
    if share is None:
        return "refuse"
    new = f"{100 * share:.0f} % of the crops are new to the model"
    if settings.retrain or share > settings.retrain_share:
        progress.note(f"run: {new}; it is trained anew, and kept under another name")
        return "replace"
    progress.note(f"run: {new}; it is kept (up to {100 * settings.retrain_share:g} %; --retrain trains it anew)")
    return "keep"


def _share_of_new_crops(work: Workspace, model: Record) -> float | None:
    """The share of crops that are of no video that the model was trained on; None where those are unknown."""
    store = work.open_crops()
    rows = store.earlier()
    seen = rows["part"][rows["content"] == model.inputs.get("crops")]
    if not len(seen):
        return None
    now = store.part_sizes()
    new = ~np.isin(now["part"], seen.astype(str))
    return float(now["crops"][new].sum() / max(1, now["crops"].sum()))


def _last_of_round(work: Workspace, number: int) -> str | None:
    """The newest identities of a round, of any number of review decisions and any state of the crops."""
    pattern = re.compile(rf"round{number}(-review\d+)?")
    there = [path.parent for path in (work.root / "identities").glob("*/record.json")]
    mine = [path for path in there if pattern.fullmatch(path.name)]
    newest = max(mine, key=lambda path: ((path / "record.json").stat().st_mtime_ns, path.name), default=None)
    return None if newest is None else newest.name


def count_rounds(settings: RunSettings) -> int:
    """The number of rounds."""
    if settings.rounds is not None:
        return settings.rounds
    return 2 if settings.extractor is None else 1


def _revision(work: Workspace, settings: CorrelateSettings, progress: Progress) -> str:
    """Suffix of the names of rounds: empty without decisions, else their number."""
    log = review_log(work, settings)
    if log is None:
        return ""
    work.decisions(log)  # which raises for an invalid log
    decisions = count_decisions(log)
    if not decisions:
        return ""
    revision = f"-review{decisions}"
    if work.identities("round0").exists() and not work.identities(f"round0{revision}").exists():
        progress.note(
            f"run: {log} holds {counted(decisions, 'decision')}; they are applied in round0{revision} and so on, and "
            "earlier rounds are kept"
        )
    return revision
