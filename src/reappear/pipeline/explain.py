"""Explains an identity from the links, moves and refusals that `correlate` recorded."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from reappear.core import Decision, InputError
from reappear.store import Columns, CropStore, Identities, read_identities

from .workspace import Workspace

Row = dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """Explanation of an identity, or of a discarded tracklet or crop.

    Attributes:
        identities: Name of the identities.
        identity: Its number; `None` = discarded.
        tracklets: tracklet, video, camera, start and end (s, `None` = unknown), crops (that it holds now).
        links: first, second (tracklets), distance (None = by review or carried over), similarity (z of the groups that
            average linkage merged, else None), probability (that these are one person, else None), stage: its minimum
            spanning tree.
        refused: The same for refused links to other identities, with their `identity` and the
            `reason`: "seen together" or "review", then `cannot_link` are the two tracklets, or "guard".
        left: Crops that left one of its tracklets: crop, tracklet, distance (to the others of it), stage, to (the
        current
            tracklet; None = discarded), to_distance (to the nearest other tracklet).
        came: The same for crops that moved into one of its tracklets.
        decisions: Review decisions about its tracklets or crops.
    """

    identities: str
    identity: int | None
    tracklets: list[Row]
    links: list[Row]
    refused: list[Row]
    left: list[Row]
    came: list[Row]
    decisions: list[Row]

    def plain(self) -> Row:
        """The explanation as plain types for JSON."""
        return asdict(self)


def explain(
    work: Workspace,
    *,
    identities: str | None = None,
    identity: int | None = None,
    tracklet: int | None = None,
    crop: int | None = None,
) -> Explanation:
    """Explains an identity.

    Args:
        work: A workspace.
        identities: Name of the identities; the newest if not given.
        identity: Its number; or
        tracklet: one of its tracklets; or
        crop: one of its crops.

    Raises:
        InputError: None or several of the three are given, or the item does not exist.
    """
    if [identity, tracklet, crop].count(None) != 2:
        raise InputError("give exactly one of: an identity, --tracklet, --crop")
    name = identities or work.newest_identities()
    found = read_identities(work.finished_identities(name))
    store = work.open_crops()
    of_tracklet, of_crop = found.assignment.identity, found.assignment.crop_identity
    held = np.bincount(found.assignment.tracklet[found.assignment.tracklet >= 0], minlength=len(of_tracklet))
    if crop is not None:
        _within("crop", crop, len(of_crop))
        identity = int(of_crop[crop])
        tracklet = int(store.crops["tracklet"][crop])
    elif tracklet is not None:
        _within("tracklet", tracklet, len(of_tracklet))
        identity = int(of_tracklet[tracklet]) if held[tracklet] else -1
    elif identity is None or not ((of_tracklet == identity) & (held > 0)).any() or identity < 0:
        raise InputError(f"{work.identities(name)} has no identity {identity}; they are numbered from 0")
    mine = np.arange(len(of_tracklet)) == tracklet if identity == -1 else (of_tracklet == identity) & (held > 0)
    left, came = _moves(found, mine, crop if identity == -1 else None)
    return Explanation(
        identities=name,
        identity=None if identity == -1 else identity,
        tracklets=_tracklets(store, np.flatnonzero(mine), held),
        links=_links(found.links, mine),
        refused=_refused(found, mine, held),
        left=left,
        came=came,
        decisions=_decisions(work, name, mine, found.assignment.tracklet, crop),
    )


def _within(what: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise InputError(f"there is no {what} {number}; they are numbered 0 to {count - 1}")


def _tracklets(store: CropStore, mine: Int[np.ndarray, " m"], held: Int[np.ndarray, " t"]) -> list[Row]:
    names = store.video_names
    rows = store.tracklets
    out = []
    for t in mine.tolist():
        video = int(rows["video"][t])
        out.append(
            {
                "tracklet": t,
                "video": str(names[video]),
                "camera": store.videos[video].camera,
                "start": _known(rows["start"][t]),
                "end": _known(rows["end"][t]),
                "crops": int(held[t]),
            }
        )
    return out


def _links(table: Columns, mine: Bool[np.ndarray, " t"]) -> list[Row]:
    rows = np.flatnonzero(mine[table["first"]] & mine[table["second"]])
    return [_link(table, row) for row in rows[np.argsort(table["distance"][rows], kind="stable")].tolist()]


def _link(table: Columns, row: int) -> Row:
    return {
        "first": int(table["first"][row]),
        "second": int(table["second"][row]),
        "distance": _known(table["distance"][row]),
        "similarity": _known(table["similarity"][row]) if "similarity" in table else None,
        "probability": _known(table["probability"][row]) if "probability" in table else None,
        "stage": str(table["stage"][row]),
    }


def _refused(found: Identities, mine: Bool[np.ndarray, " t"], held: Int[np.ndarray, " t"]) -> list[Row]:
    table = found.refused
    if not table:
        return []
    rows = np.flatnonzero(mine[table["first"]] != mine[table["second"]])
    out = []
    for row in rows[np.argsort(table["distance"][rows], kind="stable")].tolist():
        first, second = int(table["first"][row]), int(table["second"][row])
        other = second if mine[first] else first
        pair = [int(table[key][row]) for key in ("cannot_link_first", "cannot_link_second")]
        out.append(
            _link(table, row)
            | {
                "identity": int(found.assignment.identity[other]) if held[other] else None,
                "reason": str(table["reason"][row]),
                "cannot_link": pair if pair[0] >= 0 else None,
            }
        )
    return out


def _moves(found: Identities, mine: Bool[np.ndarray, " t"], only: int | None) -> tuple[list[Row], list[Row]]:
    """Crops that left, and crops that came."""
    table = found.moves
    now = found.assignment.tracklet
    touched = mine[table["source"]] | mine[now[table["crop"]]] & (now[table["crop"]] >= 0)
    steps: dict[int, list[int]] = {}
    for row in np.flatnonzero(touched).tolist():
        steps.setdefault(int(table["crop"][row]), []).append(row)
    left, came = [], []
    for crop, rows in sorted(steps.items()):
        out, last = rows[0], rows[-1]
        source, to = int(table["source"][out]), int(now[crop])
        if source == to or (only is not None and crop != only):
            continue
        move = {
            "crop": crop,
            "tracklet": source,
            "distance": _known(table["distance"][out]),
            "stage": str(table["stage"][out]),
            "to": to if to >= 0 else None,
            "to_distance": _known(table["distance"][last]) if last != out else None,
        }
        if mine[source]:
            left.append(move)
        elif to >= 0 and mine[to]:
            came.append(move)
    return left, came


def _decisions(
    work: Workspace, name: str, mine: Bool[np.ndarray, " t"], owner: Int[np.ndarray, " n"], crop: int | None
) -> list[Row]:
    log = work.identities(name) / "review.jsonl"
    if not log.exists():
        return []
    origin = np.asarray(work.open_crops().crops["tracklet"])

    def about(decision: Decision) -> bool:
        named = [*decision.tracklets, *decision.others, *origin[list(decision.crops)].tolist()]
        return bool(mine[named].any()) or crop in decision.crops

    return [
        {key: value for key, value in asdict(decision).items() if value not in ((), "")}
        for decision in work.decisions(log)
        if about(decision)
    ]


def _known(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
