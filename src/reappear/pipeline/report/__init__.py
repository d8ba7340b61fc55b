"""The report: one HTML page, and all its numbers as JSON.

report.html   self-contained: images are data URIs, plots inline SVG; nothing is fetched
report.json   the result of `gather.numbers`, which documents the layout
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval

from reappear.core import SILENT, InputError, Only, Progress, Seed, settings
from reappear.pipeline.pages import require_own_page, write_page
from reappear.pipeline.workspace import Workspace

__all__ = ["ReportSettings", "report"]

Shown = Annotated[int, Interval(ge=0, le=10_000)]


@settings
class ReportSettings:
    """How much the page shows. Numbers are always complete."""

    tracklets: Annotated[Shown, "rows of crops in the gallery of tracklets"] = 12
    identities: Annotated[Shown, "identities shown with their links, sampled evenly, those in several videos first"] = 8
    overview: Annotated[Shown, "identities in the overview, one crop each, by reach"] = 600
    strips: Annotated[Shown, "tracklets shown per identity", Only("identities")] = 12
    crops: Annotated[Shown, "crops shown per tracklet"] = 6
    failures: Annotated[Shown, "wrong merges, and as many wrong splits, shown if true identities are known"] = 3
    discarded: Annotated[Shown, "removed crops shown"] = 24
    queries: Annotated[Shown, "ranked lists shown per kind: good, typical, worst"] = 3
    worst: Annotated[Shown, "worst queries, and as many hard negatives, shown"] = 8
    projected: Annotated[Shown, "identities in the embedding plot"] = 15
    projection: Annotated[Literal["tsne", "pca"], "projection of embeddings to two dimensions", Only("projected")] = (
        "tsne"
    )
    seed: Annotated[Seed, "seed of the projection", Only("projected")] = 0
    height: Annotated[int, "height of the crops' thumbnails in px", Interval(ge=16, le=512)] = 96


def report(works: Sequence[Workspace], out: Path, settings: ReportSettings, *, progress: Progress = SILENT) -> Path:
    """Writes `out/report.html` and `out/report.json`, replacing earlier ones.

    Parts missing in a workspace are omitted, with the reason on the page.

    Args:
        works: Workspaces of the same footage or world under different seeds. Images and curves are of the first;
            numbers are of all, with mean and standard deviation.
        out: Folder to write to.
        settings: How much the page shows.
        progress: Progress listener.

    Returns:
        The path of `report.html`.

    Raises:
        InputError: No workspace was given, the first has no crops, or a file is damaged.
        WorkspaceError: `out` has a `report.html` or `report.json` that reappear did not write.
    """
    # Rendering needs matplotlib, scikit-learn and jinja2, imported only when needed.
    from .gather import numbers, read_runs
    from .page import render, summarize

    if not works:
        raise InputError("a report needs a workspace; give the folder that `reappear run` wrote")
    require_own_page(out, "report")
    runs = read_runs(works)
    found = numbers(runs)
    found["summary"] = summarize(runs[0], found)
    page = render(runs[0], found, settings, progress=progress)
    Workspace(out).make()
    write_page(out, "report", found, page)
    return out / "report.html"
