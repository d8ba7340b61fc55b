"""Numbers of identities that last from run to run."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import read_json_object
from reappear.store import Columns, CropStore, read_table

TABLE = "numbers.parquet"


def keep_numbers(
    identity: Int[np.ndarray, " t"], store: CropStore, earlier: Path | None
) -> tuple[Int[np.ndarray, " t"], dict[str, Any], Columns]:
    """Numbers identities as earlier ones with which they share tracklets.

    The pair of an identity and an earlier one with most tracklets in common comes first (of equals that with the lower
    earlier number), and each number is given once. Identities without a number get numbers that were never used.

    Args:
        identity: Of each tracklet, from 0; -1 = discarded.
        store: The crops.
        earlier: A finished folder of identities with `numbers.parquet`, of any state of these crops; None = there is
            none, and the numbers stay as they are.

    Returns:
        The identities with their numbers. What changed: `next` (the lowest number never used), `kept` (a count), and
        lists of numbers: `new`, `grown` (with more tracklets), `merged` (the number that is kept, then those that ended
        in it), `split` (the same, for those that began in it), `gone` (without a tracklet now). The columns of
        `numbers.parquet`: part, tracklet (its number in the part), identity; of all tracklets ever seen that had one.
    """
    part, local, starts = _places(store)
    if earlier is None or not (earlier / TABLE).exists():
        used = int(identity.max(initial=-1)) + 1
        return identity, {"next": used}, _columns(part, local, identity)
    rows = read_table(earlier / TABLE, "part", "tracklet", "identity")
    present = np.isin(rows["part"].astype(str), list(starts))
    begin = np.array([starts.get(one, 0) for one in rows["part"].tolist()], np.int64)
    old = np.full(len(identity), -1, np.int64)
    old[(begin + rows["tracklet"])[present]] = rows["identity"][present]
    unused = int(read_json_object(earlier / "report.json")["numbers"]["next"])
    number, used = _match(identity, old, unused)
    new = np.where(identity >= 0, number[identity], -1)
    away = {name: values[~present] for name, values in rows.items()}
    now = _columns(part, local, new)
    columns = {name: np.concatenate([now[name], away[name].astype(now[name].dtype)]) for name in now}
    changes = {"next": used, **_changes(new, old, np.unique(rows["identity"]))}
    return new, changes, columns


def format_changes(changes: dict[str, Any]) -> str:
    """What changed in one line; "" for the first identities."""
    if "kept" not in changes:
        return ""
    parts = [f"identities kept: {changes['kept']:,} (grown: {len(changes['grown']):,})"]
    parts += [f"new: {len(changes['new']):,}"]
    parts += [f"merged {' + '.join(map(str, group))}" for group in changes["merged"][:5]]
    parts += [f"split {group[0]} into {' + '.join(map(str, group))}" for group in changes["split"][:5]]
    more = sum(max(0, len(changes[name]) - 5) for name in ("merged", "split"))
    parts += [f"{more} more merged or split, see report.json"] if more else []
    parts += [f"{len(changes['gone'])} are in no video now"] if changes["gone"] else []
    return ", ".join(parts)


def _places(store: CropStore) -> tuple[np.ndarray, Int[np.ndarray, " t"], dict[str, int]]:
    """The part of each tracklet and its number there; part → number of its first tracklet."""
    count = len(store.offsets) - 1
    if not any(store.parts):
        return np.full(count, ""), np.arange(count), {"": 0}
    video = np.asarray(store.tracklets["video"])
    first = np.searchsorted(video, np.arange(len(store.parts)))
    starts = dict(zip(store.parts, first.tolist(), strict=True))
    return np.array(store.parts, np.str_)[video], np.arange(count) - first[video], starts


def _columns(part: np.ndarray, local: Int[np.ndarray, " t"], identity: Int[np.ndarray, " t"]) -> Columns:
    known = identity >= 0
    return {"part": part[known], "tracklet": local[known], "identity": identity[known]}


def _match(
    identity: Int[np.ndarray, " t"], old: Int[np.ndarray, " t"], unused: int
) -> tuple[Int[np.ndarray, " k"], int]:
    """The number of each identity, and the lowest number that is then unused."""
    number = np.full(int(identity.max(initial=-1)) + 1, -1, np.int64)
    mine, earlier, counts = _pairs(identity, old)
    given: set[int] = set()
    for place in np.lexsort((mine, earlier, -counts)).tolist():
        if number[mine[place]] < 0 and int(earlier[place]) not in given:
            number[mine[place]] = earlier[place]
            given.add(int(earlier[place]))
    there = np.unique(identity[identity >= 0])
    fresh = there[number[there] < 0]
    number[fresh] = unused + np.arange(len(fresh))
    return number, unused + len(fresh)


def _changes(new: Int[np.ndarray, " t"], old: Int[np.ndarray, " t"], ever: Int[np.ndarray, " e"]) -> dict[str, Any]:
    mine, earlier, _ = _pairs(new, old)
    same = mine[mine == earlier]
    now = np.unique(new[new >= 0])
    return {
        "kept": len(same),
        "new": np.setdiff1d(now, mine).tolist(),
        "grown": np.intersect1d(new[(new >= 0) & (old < 0)], same).tolist(),
        "merged": _several(mine, earlier),
        "split": _several(earlier, mine),
        "gone": np.setdiff1d(ever, np.union1d(now, earlier)).tolist(),
    }


def _pairs(
    one: Int[np.ndarray, " t"], other: Int[np.ndarray, " t"]
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """The distinct pairs of numbers from 0, sorted, and how often each occurs."""
    both = (one >= 0) & (other >= 0)
    base = int(other.max(initial=0)) + 1
    keys, counts = np.unique(one[both] * base + other[both], return_counts=True)
    return keys // base, keys % base, counts


def _several(one: Int[np.ndarray, " p"], other: Int[np.ndarray, " p"]) -> list[list[int]]:
    """Numbers that occur in several pairs, each followed by the different ones that it is paired with."""
    values, counts = np.unique(one, return_counts=True)
    rows = np.isin(one, values[counts > 1])
    groups: dict[int, list[int]] = {}
    for value, partner in sorted(zip(one[rows].tolist(), other[rows].tolist(), strict=True)):
        groups.setdefault(value, [value]).extend([partner] if partner != value else [])
    return list(groups.values())
