"""Formats the sightings that `reappear search` found, and reads its box."""

import csv
import io

from reappear.core import SettingsError, counted, escape_formula
from reappear.pipeline.search import SearchResult, Sighting

from .reasons import format_clock, format_table

_COLUMNS = ("rank", "identity", "camera", "video", "from", "to", "tracklet", "crop", "distance", "probability")


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a box in pixels, as in 10,20,60,180.

    Raises:
        SettingsError: The text is not four numbers.
    """
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"box: must be LEFT,TOP,RIGHT,BOTTOM in pixels as in 10,20,60,180, got {text!r}") from error
    return left, top, right, bottom


def format_sightings(found: SearchResult) -> str:
    """The sightings as a table."""
    whose = f"identities {found.identities}" if found.identities else "no identities yet"
    heading = f"{found.query}: {counted(len(found.sightings), 'sighting')} by embeddings {found.embeddings}; {whose}"
    return "\n".join([heading, *format_table([_COLUMNS, *map(_cells, found.sightings)])])


def sightings_csv(found: SearchResult) -> str:
    """The sightings as CSV with a header; unknown = empty. Text is escaped against formulas."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in found.sightings:
        plain = one.plain()
        cells = (plain[name] for name in _COLUMNS)
        writer.writerow(escape_formula(cell) if isinstance(cell, str) else cell for cell in cells)
    return out.getvalue()


def _cells(one: Sighting) -> tuple[str, ...]:
    identity = "-" if one.identity is None else str(one.identity)
    times = format_clock(one.start), format_clock(one.end)
    sure = "-" if one.probability is None else f"{one.probability:.2f}"
    numbers = str(one.tracklet), str(one.crop), f"{one.distance:.3f}", sure
    return (str(one.rank), identity, one.camera, one.video, *times, *numbers)
