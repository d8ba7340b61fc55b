"""Which thresholds a run uses, and why these."""

import math
from dataclasses import asdict
from typing import Any

from reappear.core import Assignment, Engine, Progress, SettingsError, TrackletSet
from reappear.denoise import SIGMA_CST, SIGMA_DRM, calibrate

from .settings import CorrelateSettings


def choose_thresholds(
    tracklets: TrackletSet, assignment: Assignment, settings: CorrelateSettings, engine: Engine, progress: Progress
) -> dict[str, Any]:
    """`sigma_cst`, `sigma_drm`, and what the report says of them."""
    for key in ("sigma_cst", "sigma_drm"):
        value = getattr(settings, key)
        if value is not None and not 0 <= value <= 2:
            raise SettingsError(f"{key}: must be a cosine distance in 0..2, got {value}")
    cst, drm = settings.sigma_cst, settings.sigma_drm
    said: dict[str, Any] = {"rule": settings.thresholds}
    if settings.thresholds == "auto" and (cst is None or drm is None):
        evidence = calibrate(
            tracklets,
            assignment,
            outliers=settings.outliers,
            strangers=settings.strangers,
            false_links=settings.false_links,
            radius=settings.radius if settings.pairs == "sliding" else None,
            overlap=settings.overlap,
            sigma_cst=cst,
            engine=engine,
        )
        for note in evidence.notes:
            progress.note(f"correlate: {note}")
        cst, drm = evidence.sigma_cst if cst is None else cst, evidence.sigma_drm if drm is None else drm
        said["evidence"] = {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(evidence).items()
            if key not in ("sigma_cst", "sigma_drm")
        }
    cst, drm = SIGMA_CST if cst is None else cst, SIGMA_DRM if drm is None else drm
    by_hand = [key for key in ("sigma_cst", "sigma_drm") if getattr(settings, key) is not None]
    return {"sigma_cst": cst, "sigma_drm": drm, "by_hand": by_hand, **said}
