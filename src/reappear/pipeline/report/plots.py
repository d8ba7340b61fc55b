"""Plots as inline SVG with the colour variables of the page, so that they follow light and dark mode."""

import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from threadpoolctl import threadpool_limits

# Placeholder colours: matplotlib writes them, `_inline` replaces them by CSS variables of the page.
_INK, _MUTED, _LINE = "#010203", "#040506", "#070809"
_VARIABLES = {_INK: "var(--ink)", _MUTED: "var(--muted)", _LINE: "var(--line)"}
_SERIES = ("#d1603d", "#4a86c5", "#4f9d69", "#b58a2b", "#8f6cc0", "#3fa3a3", "#c7658f", "#7f8791")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reappear",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
}
_LONGEST = 300
_STANDALONE = {"var(--ink)": "#7a828c", "var(--muted)": "#7a828c", "var(--line)": "#9aa1a9"}


def colour(number: int) -> str:
    """The colour of the nth series."""
    return _SERIES[number % len(_SERIES)]


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    name: str,
    alt: str,
    colours: Sequence[str],
    marked: bool = False,
    percent: bool = False,
    zero: bool = False,
) -> str:
    """A line chart over training steps.

    Args:
        series: Label → steps and values.
        name: Unique on the page.
        alt: What the chart shows, in words.
        colours: One per series.
        marked: Whether values have markers.
        percent: Whether values are shown in percent.
        zero: Whether the axis starts at 0.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for (_, (steps, values)), line in zip(series.items(), colours, strict=True):
            stride = max(1, math.ceil(len(steps) / _LONGEST))
            axes.plot(
                list(steps)[::stride],
                np.asarray(list(values)[::stride]) * (100 if percent else 1),
                color=line,
                marker="o" if marked else None,
                markersize=3.5,
            )
        if zero:
            axes.set_ylim(bottom=0)
        axes.set_xlabel("step")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return _inline(figure, name, alt)


def scatter(
    points: Float[np.ndarray, "n 2"],
    group: Int[np.ndarray, " n"],
    shape: Int[np.ndarray, " n"],
    *,
    name: str,
    alt: str,
) -> str:
    """A scatter plot, coloured by group, with one marker per shape."""
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure, axes = _axes(size=(4.6, 4.3))
        draw_points(axes, points, group, shape, size=5.5)
        return _inline(figure, name, alt)


def draw_points(
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    group: Int[np.ndarray, " n"],
    shape: Int[np.ndarray, " n"],
    *,
    size: float,
) -> None:
    """Points of a size in a frame without ticks, coloured by group, with one marker per shape."""
    groups = np.unique(group)
    for number, g in enumerate(groups):
        for s in np.unique(shape[group == g]):
            axes.plot(
                *points[(group == g) & (shape == s)].T,
                linestyle="none",
                marker=_MARKERS[int(s) % len(_MARKERS)],
                markersize=size,
                markeredgewidth=0,
                color=wheel(number, len(groups)),
                alpha=0.85,
            )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)


def roc(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, name: str, alt: str, colours: Sequence[str]
) -> str:
    """ROC curves: true-match rate by false-match rate, on a logarithmic axis.

    Args:
        curves: Label → false- and true-match rates, ascending.
        name: Unique on the page.
        alt: What the chart shows, in words.
        colours: One per curve.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for (false, true), line in zip(curves.values(), colours, strict=True):
            rates, kept = np.asarray(false), np.asarray(true) * 100
            some = np.unique(np.linspace(0, len(rates) - 1, _LONGEST * 4).astype(int))
            some = some[rates[some] > 0]
            axes.plot(rates[some], kept[some], color=line)
        axes.set_xscale("log")
        axes.set_xlim(1e-5, 1)
        axes.set_ylim(0, 101)
        axes.set_xlabel("false-match rate")
        axes.set_ylabel("true-match rate, %")
        return _inline(figure, name, alt)


def histogram(
    edges: Float[np.ndarray, " _"],
    counts: Mapping[str, Int[np.ndarray, " bins"]],
    marks: Sequence[float],
    *,
    name: str,
    alt: str,
) -> str:
    """Filled histograms of distances in 64 bins, with dashed lines at `marks`."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        width = (len(edges) - 1) // 64
        for number, values in enumerate(counts.values()):
            whole = values.reshape(64, width).sum(axis=1)
            line = colour(1 - number)
            axes.stairs(100 * whole / max(values.sum(), 1), edges[::width], fill=True, color=line, alpha=0.28)
            axes.stairs(100 * whole / max(values.sum(), 1), edges[::width], color=line, linewidth=1.5)
        for mark in marks:
            axes.axvline(mark, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlim(0, float(edges[-1]))
        axes.set_ylim(bottom=0)
        axes.set_xlabel("cosine distance")
        axes.set_ylabel("share, %")
        return _inline(figure, name, alt)


def draw_thresholds(thresholds: Mapping[str, Any], *, name: str) -> str | None:
    """Evidence for thresholds: distances within one person and between two, stacked; None if not calibrated.

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
    with mpl.rc_context({**_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(6.4, 2.1 * len(kinds)), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        for axes, (sigma, title, lines) in zip(figure.subplots(len(kinds), 1), kinds, strict=True):
            axes.patch.set_visible(False)
            axes.tick_params(length=0)
            for (key, label), tint in zip(lines, (colour(1), colour(0)), strict=True):
                edges = np.linspace(0, curves["top"], len(curves[key]) + 1)
                axes.stairs(curves[key], edges, color=tint, fill=True, alpha=0.25)
                axes.stairs(curves[key], edges, color=tint, label=label)
            axes.axvline(thresholds[sigma], color=_INK, linewidth=1.2, linestyle="--")
            if evidence[f"{sigma}_interval"] is not None:
                axes.axvspan(*evidence[f"{sigma}_interval"], color=_MUTED, alpha=0.2, linewidth=0)
            axes.set_xlim(0, max(curves["top"], min(2.0, thresholds[sigma])))
            axes.set_yticks([])
            axes.set_title(f"{title}, {thresholds[sigma]:.3f}", loc="left", fontsize=9.5)
            axes.legend(frameon=False, fontsize=8.5, labelcolor=_MUTED)
        axes.set_xlabel("cosine distance")
        alt = (
            "Distances of crops to the rest of their tracklet and to simultaneous tracklets, "
            f"threshold {thresholds['sigma_cst']:.3f}; distances between parts of a tracklet and between simultaneous "
            f"tracklets, threshold {thresholds['sigma_drm']:.3f}"
        )
        return _inline(figure, name, alt)


def standalone(svg: str) -> str:
    """An inline plot as a standalone SVG file, in greys that are legible on light and dark."""
    for variable, grey in _STANDALONE.items():
        svg = svg.replace(variable, grey)
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def wheel(number: int, of: int) -> str:
    """Colours evenly spaced on the colour wheel, with two alternating lightnesses."""
    hue = number / max(of, 1)
    lightness = 0.48 if number % 2 else 0.62
    a = 0.62 * min(lightness, 1 - lightness)

    def channel(n: int) -> int:
        k = (n + hue * 12) % 12
        return round(255 * (lightness - a * max(-1.0, min(k - 3, 9 - k, 1.0))))

    return f"#{channel(0):02x}{channel(8):02x}{channel(4):02x}"


def project(vectors: Float[np.ndarray, "n d"], *, how: str, seed: int) -> Float[np.ndarray, "n 2"]:
    """Projects embeddings to two dimensions: t-SNE initialised with PCA, or PCA alone; on one core."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = np.asarray(vectors, np.float32)
    if len(rows) < 3 or not np.ptp(rows, axis=0).any():
        return np.zeros((len(rows), 2), np.float32)
    # Threads would share out steps of a millisecond and wait for each other after each, and points would depend on how
    # many there are.
    with threadpool_limits(1):
        plane = PCA(2, svd_solver="full").fit_transform(rows)
        if how == "tsne" and len(rows) >= 12:
            scaled = plane / max(float(plane[:, 0].std()), 1e-12) * 1e-4
            plane = TSNE(
                2,
                init=scaled.astype(np.float32),
                perplexity=min(30.0, (len(rows) - 1) / 4),
                metric="cosine",
                random_state=seed,
                n_jobs=1,
            ).fit_transform(rows)
    return np.asarray(plane, np.float32)


def _axes(size: tuple[float, float] = (4.6, 2.9)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_visible(False)
    axes: Any = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


def _inline(figure: Figure, name: str, alt: str) -> str:
    """The SVG without headers of standalone files, with ids unique on the page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(xmlns(:\w+)?|version)="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for placeholder, variable in _VARIABLES.items():
        text = text.replace(placeholder, variable)
    box = re.search(r'viewBox="[^"]*"', text)
    head = f'<svg {box[0] if box else ""} role="img" aria-label="{html.escape(alt)}">'
    return re.sub(r"\n\s*", "\n", head + text[text.index(">") + 1 :])
