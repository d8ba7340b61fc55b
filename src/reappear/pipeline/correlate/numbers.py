"""Numbers of identities that last from run to run."""

from collections import defaultdict
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
    changes = {"next": used, **_changes(new, old, set(rows["identity"].tolist()))}
    return new, changes, columns


def format_changes(changes: dict[str, Any]) -> str:
    """What changed in one line; "" for the first identities."""
    if "kept" not in changes:
        return ""
    parts = [f"{changes['kept']} identities keep their numbers ({len(changes['grown'])} have grown)"]
    parts += [f"{len(changes['new'])} are new"]
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
    shared = (identity >= 0) & (old >= 0)
    pairs, counts = np.unique(np.stack([old[shared], identity[shared]]), axis=1, return_counts=True)
    given: set[int] = set()
    for place in np.lexsort((pairs[1], pairs[0], -counts)).tolist():
        earlier, mine = int(pairs[0, place]), int(pairs[1, place])
        if earlier not in given and number[mine] < 0:
            number[mine] = earlier
            given.add(earlier)
    there = np.unique(identity[identity >= 0])
    fresh = there[number[there] < 0]
    number[fresh] = unused + np.arange(len(fresh))
    return number, unused + len(fresh)


def _changes(new: Int[np.ndarray, " t"], old: Int[np.ndarray, " t"], ever: set[int]) -> dict[str, Any]:
    came, went = defaultdict[int, set[int]](set), defaultdict[int, set[int]](set)
    for mine, earlier in zip(new.tolist(), old.tolist(), strict=True):
        if mine >= 0 and earlier >= 0:
            came[mine].add(earlier)
            went[earlier].add(mine)
    now = set(new[new >= 0].tolist())
    grown = set(new[(new >= 0) & (old < 0)].tolist())
    return {
        "kept": sum(mine in came[mine] for mine in now),
        "new": sorted(mine for mine in now if not came[mine]),
        "grown": sorted(mine for mine in grown if mine in came[mine]),
        "merged": [[mine, *sorted(came[mine] - {mine})] for mine in sorted(now) if len(came[mine]) > 1],
        "split": [[one, *sorted(went[one] - {one})] for one in sorted(went) if len(went[one]) > 1],
        "gone": sorted(ever - now - set(went)),
    }
