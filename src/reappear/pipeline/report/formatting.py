"""Formats numbers and describes protocols for the pages."""

import math

from reappear.core import plural

PROTOCOLS = {
    "market": "images of the same person from the query's camera are ignored",
    "cross-camera": "all images from the query's camera are ignored",
    "no-camera": "cameras are ignored",
    "video": "tracklets instead of images; those of the same person from the query's camera are ignored",
    "cuhk03-single-gallery-shot": "other cameras only, one random image per person; mean over the draws",
}


def number(value: int | float | None, digits: int = 0) -> str:
    """With thin spaces between thousands; means of whole numbers with one digit where they need it."""
    if value is None or not math.isfinite(value):
        return "–"
    if digits == 0 and value != round(value):
        digits = 1
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def number_of(value: int | float, noun: str) -> str:
    """A number with its noun in the singular or plural."""
    return f"{number(value)} {noun if value == 1 else plural(noun)}"


def percent(value: int | float | None) -> str:
    """Percent with one digit, without the sign."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.1f}"
