"""Formats numbers and describes protocols for the pages."""

import math

PROTOCOLS = {
    "market": "pictures of the same person by the query's own camera are passed over",
    "cross-camera": "all images of the query's own camera are ignored",
    "no-camera": "cameras play no part",
    "video": "tracklets, not pictures; those of the same person by the query's own camera are passed over",
    "cuhk03-single-gallery-shot": "other cameras only, with one picture drawn of each person; the mean over the draws",
}


def number(value: int | float | None, digits: int = 0) -> str:
    """With thin spaces between thousands; means of whole numbers with one digit where they need it."""
    if value is None or not math.isfinite(value):
        return "–"
    if digits == 0 and value != round(value):
        digits = 1
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def percent(value: int | float | None) -> str:
    """Percent with one digit, without the sign."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f}"
