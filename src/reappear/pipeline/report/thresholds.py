"""Plot of the evidence for thresholds: distances within one person and between two, and the thresholds."""

from collections.abc import Mapping
from typing import Any

from .plots import Panel, colour, histograms


def draw_thresholds(thresholds: Mapping[str, Any], *, name: str) -> str | None:
    """A plot as inline SVG; None if the thresholds were not calibrated.

    Args:
        thresholds: Section `thresholds` of the report of correlate.
        name: Unique on the page.
    """
    evidence = thresholds.get("evidence", {})
    if "curves" not in evidence:
        return None
    curves = evidence["curves"]
    kinds = (
        ("sigma_cst", "σ_cst: crops", (("own", "the rest of their tracklet"), ("others", "simultaneous tracklets"))),
        ("sigma_drm", "σ_drm: tracklets", (("parts", "parts of one"), ("simultaneous", "simultaneous tracklets"))),
    )
    panels = [
        Panel(
            title=title,
            shares={label: curves[key] for key, label in lines},
            top=curves["top"],
            mark=thresholds[sigma],
            interval=evidence[f"{sigma}_interval"],
        )
        for sigma, title, lines in kinds
    ]
    alt = (
        "Distances of crops to the rest of their tracklet and to simultaneous tracklets, "
        f"threshold {thresholds['sigma_cst']:.3f}; distances between parts of a tracklet and between simultaneous "
        f"tracklets, threshold {thresholds['sigma_drm']:.3f}"
    )
    return histograms(panels, name=name, alt=alt, colours=(colour(1), colour(0)))
