"""The report's row for one stage."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import Assignment, Engine, TrackletSet, counted
from reappear.denoise import DOUBTFUL, Products, Trace, noise_terms, sampled_noise, weakest_links
from reappear.denoise.trace import CARRIED_OVER
from reappear.metrics import score_identities

_EXACT_UP_TO = 50_000  # identities; beyond, all pairs take minutes after each stage


def measure_noise(
    tracklets: TrackletSet,
    assignment: Assignment,
    how: str,
    thresholds: dict[str, Any],
    engine: Engine,
    products: Products,
) -> dict[str, Any]:
    """n_S and its terms as the report has them; `noise_error` and `noise_sample` where it is an estimate."""
    identities = assignment.identities
    if how == "none":
        return {"identities": identities}
    sigmas = {key: thresholds[key] for key in ("sigma_cst", "sigma_drm")}
    if how == "exact" or (how == "auto" and identities <= _EXACT_UP_TO):
        exact = noise_terms(tracklets, assignment, engine=engine, products=products, **sigmas)
        return {
            "identities": exact.identities,
            "noise": exact.score,
            "inconsistent": exact.inconsistent,
            "similar_pairs": exact.similar_pairs,
        }
    sampled = sampled_noise(tracklets, assignment, engine=engine, **sigmas)
    return {
        "identities": sampled.identities,
        "noise": sampled.score,
        "noise_error": sampled.error,
        "noise_sample": sampled.rows,
        "inconsistent": sampled.inconsistent,
        "similar_pairs": round(sampled.similar * sampled.identities / 2),
    }


def stage_row(
    name: str,
    before: Assignment,
    after: Assignment,
    trace: Trace,
    known: int,
    noise: dict[str, Any],
    truth: Int[np.ndarray, " n"] | None,
    seconds: float,
) -> dict[str, Any]:
    """What one stage did, and how things stand after it; `known`: how many parts of links the trace held before."""
    left, came = before.tracklet >= 0, after.tracklet >= 0
    joins = [columns for stage, columns in trace.links[known:] if stage != CARRIED_OVER]
    row: dict[str, Any] = {
        "name": name,
        "crops_discarded": int(np.count_nonzero(left & ~came)),
        "crops_moved": int(np.count_nonzero(~left & came)),
        "crops_kept": int(np.count_nonzero(came)),
        "tracklets_merged": sum(len(columns["first"]) for columns in joins),
        "links_vetoed": sum(trace.vetoed.values()),
        "links_guarded": sum(trace.guarded.values()),
        **noise,
        "seconds": round(seconds, 3),
    }
    if name in trace.recall:
        row["recall"] = trace.recall[name]
    if name in trace.skipped:
        row["skipped_neighbors"] = trace.skipped[name]
    if not np.isnan(trace.precision.get(name, np.nan)):
        row["precision"] = _round_down(trace.precision[name], 3)
        sure = weakest_links(after.identity, trace.link_columns())
        row["doubtful"] = int(np.count_nonzero(sure < DOUBTFUL))
    identity = after.crop_identity
    if truth is not None and ((truth >= 0) & (identity >= 0)).any():
        row["scores"] = asdict(score_identities(truth, identity))
    return row


def format_row(row: dict[str, Any]) -> str:
    """The row as one line of text."""
    text = (
        f"{row['name']}: {counted(row['crops_discarded'], 'crop')} out, {row['crops_moved']} moved, "
        f"{counted(row['tracklets_merged'], 'tracklet')} merged, {counted(row['identities'], 'identity')}"
    )
    if "noise" in row:
        text += f", n_S {row['noise']:.3f}"
    if "noise_error" in row:
        text += f" ± {row['noise_error']:.3f} (from {row['noise_sample']} of them)"
    if "recall" in row:
        found = "neighbors" if "skipped_neighbors" in row else "links"
        text += f", the index found {row['recall']:.1%} of {found} (of a sample)"
    if "precision" in row:
        text += f", {_round_down(row['precision'], 2):.0%} of linked pairs expected right, {row['doubtful']} doubtful"
    if "scores" in row:
        text += f", pairwise F1 {row['scores']['pairwise_f1']:.3f}, B-cubed F1 {row['scores']['bcubed_f1']:.3f}"
    return text


def _round_down(share: float, digits: int) -> float:
    """What a report shows is reached, so that `--precision` with that value links the same."""
    unit: int = 10**digits
    return math.floor(round(share * unit, 6)) / unit
