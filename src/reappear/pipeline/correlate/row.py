"""What the report says of one stage."""

from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import Assignment, TrackletSet
from reappear.denoise import Trace, noise_terms
from reappear.metrics import score_identities


def stage_row(
    name: str,
    tracklets: TrackletSet,
    before: Assignment,
    after: Assignment,
    trace: Trace,
    sigma_cst: float,
    sigma_drm: float,
    truth: Int[np.ndarray, " n"] | None,
    seconds: float,
) -> dict[str, Any]:
    """What one stage did, and how things stand after it."""
    noise = noise_terms(tracklets, after, sigma_cst=sigma_cst, sigma_drm=sigma_drm)
    left, came = before.tracklet >= 0, after.tracklet >= 0
    row: dict[str, Any] = {
        "name": name,
        "crops_discarded": int(np.count_nonzero(left & ~came)),
        "crops_moved": int(np.count_nonzero(~left & came)),
        "crops_kept": int(np.count_nonzero(came)),
        "tracklets_merged": sum(len(columns["first"]) for stage, columns in trace.links if stage == name),
        "links_vetoed": trace.vetoed.get(name, 0),
        "identities": noise.identities,
        "noise": noise.score,
        "inconsistent": noise.inconsistent,
        "similar_pairs": noise.similar_pairs,
        "seconds": round(seconds, 3),
    }
    identity = after.crop_identity
    if truth is not None and ((truth >= 0) & (identity >= 0)).any():
        row["scores"] = asdict(score_identities(truth, identity))
    return row


def said(row: dict[str, Any]) -> str:
    """The same in a line."""
    text = (
        f"{row['name']}: {row['crops_discarded']} crops out, {row['crops_moved']} moved, {row['tracklets_merged']} "
        f"tracklets merged, {row['identities']} identities, n_S {row['noise']:.3f}"
    )
    if "scores" in row:
        text += f", pairwise F1 {row['scores']['pairwise_f1']:.3f}, B-cubed F1 {row['scores']['bcubed_f1']:.3f}"
    return text
