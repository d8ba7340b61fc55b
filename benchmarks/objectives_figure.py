"""Plots mAP over steps of methods that learn from found identities, from the results of `objectives.py`.

    python benchmarks/objectives_figure.py docs/images/pretraining.svg

Lines are means over seeds, bands are ranges.
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from reappear.pipeline.report.plots import colour

PANELS = {"world": "synthetic worlds", "crops": "CUHK03"}
RESULTS = Path(__file__).parent / "results" / "objectives_methods.json"
GREY = "#7a828c"  # stands on light and on dark


def panel(axes: mpl.axes.Axes, title: str, runs: dict[str, list[dict]]) -> None:
    ends = []
    for number, (arm, seeds) in enumerate(runs.items()):
        steps = np.array([step for step, _ in seeds[0]["curve"]])
        values = 100 * np.array([[value for _, value in seed["curve"]] for seed in seeds])
        if len(steps) == 0:  # never trained
            axes.axhline(100 * np.mean([seed["map"] for seed in seeds]), color=GREY, linestyle=":")
            continue
        axes.plot(steps, values.mean(0), color=colour(number - 1), marker="o", markersize=2.5)
        axes.fill_between(steps, values.min(0), values.max(0), color=colour(number - 1), alpha=0.18, linewidth=0)
        ends.append((values.mean(0)[-1], arm, colour(number - 1)))
    axes.set(title=title, xlabel="step", ylabel="mAP in percent", ylim=(0, None), xlim=(0, 1.28 * steps[-1]))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= steps[-1]])
    height, apart = -np.inf, 0.055 * axes.get_ylim()[1]
    for value, arm, of_arm in sorted(ends):  # names beside their lines, none on another
        height = max(value, height + apart)
        axes.text(1.03 * steps[-1], height, arm, color=of_arm, verticalalignment="center")


def main() -> None:
    there: dict[str, dict[str, list[dict]]] = {name: {} for name in PANELS}
    for run in json.loads(RESULTS.read_text())["runs"]:
        if run["labels"] == "found" or run["arm"] == "random":
            there[run["set"].rstrip("0123456789")].setdefault(run["arm"], []).append(run)
    there = {name: dict(sorted(arms.items(), key=lambda arm: arm[0] != "random")) for name, arms in there.items()}
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "reappear",
        "font.size": 9,
        "lines.linewidth": 1.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), GREY),
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(4.4 * len(there), 3.0), layout="constrained")
        for axes, (name, runs) in zip(figure.subplots(1, len(there), squeeze=False)[0], there.items(), strict=True):
            panel(axes, PANELS[name], runs)
        figure.savefig(sys.argv[1], metadata={"Date": None}, transparent=True)


if __name__ == "__main__":
    main()
