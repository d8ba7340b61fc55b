import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from reappear.core import Assignment, read_json_object

from .atomic import write_text
from .tables import Columns, read_table, write_table


@dataclass(frozen=True)
class Identities:
    """The result of correlate.

    Attributes:
        assignment: Of crops to tracklets and of tracklets to identities.
        links: Columns stage (text), first, second (tracklets), distance, and where average linkage merged groups their
            similarity, and the probability that they are one person (NaN for other links): why tracklets are one
            person, a spanning forest of the identities. The distance of links by review or carried over is NaN.
        moves: Columns stage (text), crop, source, target (tracklets; target -1 = discarded), distance.
        report: Per stage: crops discarded, moved, tracklets merged, n_S, identities, and scores where truth is known.
        refused: Columns stage, first, second, distance as in links, reason (text), cannot_link_first,
            cannot_link_second: links within the threshold that were refused.
    """

    assignment: Assignment
    links: Columns
    moves: Columns
    report: dict[str, Any]
    refused: Columns = field(default_factory=dict)


def write_identities(folder: Path, found: Identities) -> None:
    """Writes identities.parquet (per crop), tracklets, links, moves and refused.parquet, and report.json."""
    crop_identity: Int[np.ndarray, " n"] = found.assignment.crop_identity
    write_table(
        folder / "identities.parquet",
        {
            "crop": np.arange(len(crop_identity)),
            "tracklet": found.assignment.tracklet,
            "identity": crop_identity,
        },
    )
    write_table(
        folder / "tracklets.parquet",
        {"tracklet": np.arange(len(found.assignment.identity)), "identity": found.assignment.identity},
    )
    write_table(folder / "links.parquet", found.links)
    write_table(folder / "moves.parquet", found.moves)
    write_table(folder / "refused.parquet", found.refused)
    write_text(folder / "report.json", json.dumps(found.report, indent=2) + "\n")


def read_identities(folder: Path) -> Identities:
    """Reads the files of `write_identities`."""
    crops = read_table(folder / "identities.parquet", "tracklet")
    tracklets = read_table(folder / "tracklets.parquet", "identity")
    return Identities(
        Assignment(crops["tracklet"], tracklets["identity"]),
        read_table(folder / "links.parquet"),
        read_table(folder / "moves.parquet"),
        read_json_object(folder / "report.json"),
        read_table(folder / "refused.parquet") if (folder / "refused.parquet").exists() else {},
    )
