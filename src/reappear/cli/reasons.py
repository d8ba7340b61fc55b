"""Formats explanations of identities for `reappear explain`."""

from collections.abc import Sequence
from typing import Any

from reappear.core import counted
from reappear.denoise.trace import CARRIED_OVER
from reappear.pipeline.explain import Explanation

_MOST = 20  # lines of one kind


def format_explanation(why: Explanation) -> str:
    """Formats an explanation as text."""
    parts = [_heading(why), *_table(why.tracklets)]
    if why.links:
        parts += ["", "links (minimum spanning tree)", *_tree(why)]
    if why.refused:
        parts += ["", "refused links", *_cut([_format_refused(row) for row in why.refused])]
    if why.left:
        parts += ["", "crops that left", *_cut([_format_left(row) for row in why.left])]
    if why.came:
        parts += ["", "crops that joined", *_cut([_format_came(row) for row in why.came])]
    if why.decisions:
        parts += ["", "review decisions", *_cut([_format_decision(row) for row in why.decisions])]
    return "\n".join(parts)


def _heading(why: Explanation) -> str:
    tracklets = counted(len(why.tracklets), "tracklet")
    if why.identity is None:
        return f"in no identity of {why.identities}: {tracklets}"
    crops = sum(row["crops"] for row in why.tracklets)
    videos = len({row["video"] for row in why.tracklets})
    return (
        f"identity {why.identity} of {why.identities}: {tracklets}, {counted(crops, 'crop')}, "
        f"{counted(videos, 'video')}"
    )


def _table(tracklets: Sequence[dict[str, Any]]) -> list[str]:
    rows = [("tracklet", "video", "camera", "from", "to", "crops")]
    rows += [
        (
            str(t["tracklet"]),
            t["video"],
            t["camera"],
            format_clock(t["start"]),
            format_clock(t["end"]),
            str(t["crops"]),
        )
        for t in tracklets
    ]
    return format_table(rows)


def format_table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells as indented lines of aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _tree(why: Explanation) -> list[str]:
    """Links as a tree rooted at the first tracklet."""
    near: dict[int, list[tuple[int, dict[str, Any]]]] = {row["tracklet"]: [] for row in why.tracklets}
    for row in why.links:
        near[row["first"]].append((row["second"], row))
        near[row["second"]].append((row["first"], row))
    lines, seen = [], set()
    for root in near:
        waiting: list[tuple[int, str, str, dict[str, Any] | None]] = [(root, "", "", None)]
        while waiting:
            node, branch, indent, link = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            by = "" if link is None else f"  {_evidence(link)}  {link['stage']}"
            lines.append(f"  {branch}{node}{by}")
            below = [(other, by_which) for other, by_which in near[node] if other not in seen]
            for place, (other, by_which) in enumerate(reversed(below)):  # the last one first
                last = not place
                sign, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
                waiting.append((other, indent + sign, indent + rest, by_which))
    return lines


def _format_refused(row: dict[str, Any]) -> str:
    where = "since discarded" if row["identity"] is None else f"identity {row['identity']}"
    why = {
        "guard": "refused by the guard: the identity would be too wide or depend on one link",
        "review": "tracklets {} and {} are different people by review",
        "seen together": "tracklets {} and {} are simultaneous",
    }[row["reason"]].format(*(row["cannot_link"] or ()))
    return f"{row['first']} – {row['second']}  {_distance(row['distance'])}  {row['stage']}, {where}: {why}"


def _evidence(link: dict[str, Any]) -> str:
    if link["stage"] == CARRIED_OVER:
        return "linked through a tracklet that left"
    if link["similarity"] is None:
        return _distance(link["distance"])
    sure = "" if link["probability"] is None else f"  {link['probability']:.0%} sure"
    return f"{_distance(link['distance'])}  z {link['similarity']:.1f}{sure}"


def _format_left(row: dict[str, Any]) -> str:
    at = "" if row["distance"] is None else f" at {_distance(row['distance'])} from the rest"
    goes = "discarded"
    if row["to"] is not None:
        goes = f"now in tracklet {row['to']}"
    if row["to_distance"] is not None:
        goes += f" ({'' if row['to'] is not None else 'nearest other: '}{_distance(row['to_distance'])})"
    return f"crop {row['crop']} left tracklet {row['tracklet']}{at} ({row['stage']}), {goes}"


def _format_came(row: dict[str, Any]) -> str:
    return f"crop {row['crop']} came from tracklet {row['tracklet']} to {row['to']} ({_distance(row['to_distance'])})"


def _format_decision(row: dict[str, Any]) -> str:
    about = []
    for key in ("tracklets", "others", "crops"):
        if key in row:
            numbers = " ".join(str(number) for number in row[key][:12]) + (" …" if len(row[key]) > 12 else "")
            about.append(f"from {numbers}" if key == "others" else f"{key} {numbers}")
    by = ", ".join(str(row[key]) for key in ("who", "when") if key in row)
    note = f": {row['note']}" if "note" in row else ""
    return f"line {row['line']}, {row['kind']} {' '.join(about)}" + (f" ({by})" if by else "") + note


def _cut(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - _MOST} more (--json has all)"] if len(lines) > _MOST else []
    return ["  " + line for line in [*lines[:_MOST], *more]]


def _distance(value: float | None) -> str:
    return "decided" if value is None else f"{value:.3f}"


def format_clock(seconds: float | None) -> str:
    """Seconds as [H:]M:SS.S; "?" = unknown."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{rest:04.1f}"
