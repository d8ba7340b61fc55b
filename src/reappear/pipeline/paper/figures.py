"""Draws the figures of a paper as SVG, in greys and colours that are legible on light and dark."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from reappear.pipeline.report.plots import colour, draw_points, project
from reappear.store import read_npz

from .recipe import Arm, PaperSettings
from .results import Results

_GREY = "#7a828c"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reappear",
    "font.size": 9,
    "lines.linewidth": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _GREY),
}


def draw(recipe: PaperSettings, results: Results, arms: Sequence[Arm], scale: str) -> str | None:
    """The figure of a recipe; None if it has none, or nothing is there to be drawn."""
    figure = recipe.figure
    rows = [row for row in recipe.rows if any(results.values[row].values())]
    if figure is None or not rows:
        return None
    with mpl.rc_context(_STYLE):
        if figure.chart == "embedding":
            return _embedding(recipe, rows, arms, scale)
        page, axes = _page(1)
        if figure.chart == "bars":
            _bars(axes[0], recipe, results, rows, scale)
        else:
            _lines(axes[0], recipe, results, rows)
        axes[0].set_ylabel(figure.y_label)
        axes[0].set_ylim(bottom=0)
        axes[0].legend(frameon=False, labelcolor=_GREY, fontsize=8)
        return _svg(page, recipe.title)


def _bars(axes: Axes, recipe: PaperSettings, results: Results, rows: Sequence[str], scale: str) -> None:
    """A group for each row, a bar for each column with the range over seeds; a cross is the paper's value."""
    width = 0.8 / len(recipe.columns)
    for number, column in enumerate(recipe.columns):
        at = np.arange(len(rows)) + (number - (len(recipe.columns) - 1) / 2) * width
        values = [results.values[row][column] or [np.nan] for row in rows]
        mean = np.array([np.mean(of) for of in values])
        spread = np.array([[m - min(of), max(of) - m] for m, of in zip(mean, values, strict=True)]).T
        axes.bar(at, mean, 0.9 * width, yerr=spread, color=colour(number), ecolor=_GREY, label=column)
        paper = [recipe.rows[row]["paper"][number] for row in rows]
        known = [i for i, value in enumerate(paper) if value is not None]
        axes.plot(at[known], [paper[i] for i in known], "x", color=_GREY, label="paper" if not number else None)
    axes.set_xticks(range(len(rows)), [recipe.label(row, scale).replace(", ", ",\n") for row in rows])


def _lines(axes: Axes, recipe: PaperSettings, results: Results, rows: Sequence[str]) -> None:
    """A line for each column over the rows, with the range over seeds; a dashed line is the paper's."""
    figure = recipe.figure
    assert figure is not None  # noqa: S101 (for the type checker)
    for number, column in enumerate(recipe.columns):
        there = [row for row in rows if results.values[row][column]]
        x = [recipe.rows[row][figure.x] for row in there]
        values = [results.values[row][column] for row in there]
        axes.plot(x, [np.mean(of) for of in values], color=colour(number), marker="o", markersize=3, label=column)
        axes.fill_between(
            x, [min(of) for of in values], [max(of) for of in values], color=colour(number), alpha=0.18, linewidth=0
        )
        known = [(recipe.rows[row][figure.x], recipe.rows[row]["paper"][number]) for row in recipe.rows]
        known = [point for point in known if point[1] is not None]
        if known:
            axes.plot(*zip(*known, strict=True), "--x", color=colour(number), label=f"{column}, paper")
    axes.set_xlabel(figure.x_label or figure.x)


def _embedding(recipe: PaperSettings, rows: Sequence[str], arms: Sequence[Arm], scale: str) -> str:
    """A panel for each row, of its first seed: vectors of people by t-SNE, coloured by person, shaped by camera."""
    folders = {arm.row: next(iter(arm.values.values()))[0] for arm in reversed(arms)}
    page, axes = _page(len(rows))
    for place, row in zip(axes, rows, strict=True):
        people, cameras, vectors = _shown(folders[row])
        draw_points(place, project(vectors, how="tsne", seed=0), people, cameras, size=4.5)
        place.set(title=recipe.label(row, scale))
    return _svg(page, recipe.title)


def _shown(evaluation: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = read_npz(evaluation / "ranking.npz", "shown_ids", "shown_cameras", "shown_vectors")
    return found["shown_ids"], found["shown_cameras"], found["shown_vectors"]


def _page(panels: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(5.4 if panels == 1 else 3.0 * panels, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _svg(figure: Figure, title: str) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Title": title}, transparent=True)
    return re.sub(r"[ \t]+\n", "\n", out.getvalue())
