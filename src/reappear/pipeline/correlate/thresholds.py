"""Thresholds of a run, by rule or calibrated."""

import math
from dataclasses import asdict
from typing import Any

from reappear.core import Assignment, Engine, Progress, TrackletSet
from reappear.denoise import SIGMA_CST, SIGMA_DRM, calibrate

from .settings import CorrelateSettings, Rule


def choose_thresholds(
    tracklets: TrackletSet, assignment: Assignment, settings: CorrelateSettings, engine: Engine, progress: Progress
) -> dict[str, Any]:
    """`sigma_cst`, `sigma_drm`, and the report's entries on them."""
    rules = settings.rules
    cst, drm = _of_rule(rules[0], SIGMA_CST), _of_rule(rules[1], SIGMA_DRM)
    entries: dict[str, Any] = {}
    if "calibrated" in rules:
        evidence = calibrate(
            tracklets,
            assignment,
            impostors=settings.impostors,
            false_links=settings.false_links,
            resamples=settings.resamples,
            radius=settings.radius if settings.pairs == "sliding" else None,
            overlap=settings.overlap,
            sigma_cst=cst,
            engine=engine,
        )
        for note in evidence.notes:
            progress.note(f"correlate: {note}")
        cst, drm = evidence.sigma_cst if cst is None else cst, evidence.sigma_drm if drm is None else drm
        found = asdict(evidence)
        entries["evidence"] = {key: _plain(found[key]) for key in found if key not in ("sigma_cst", "sigma_drm")}
    words = ["by hand" if isinstance(rule, float) else rule for rule in rules]
    return {"sigma_cst": cst, "sigma_drm": drm, "rules": words, **entries}


def _of_rule(rule: Rule, paper: float) -> float | None:
    """None = to be calibrated."""
    if isinstance(rule, float):
        return rule
    return paper if rule == "paper" else None


def _plain(value: Any) -> Any:
    """JSON knows no NaN, nor an interval of two."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return None if isinstance(value, tuple) and value and value[0] != value[0] else value
