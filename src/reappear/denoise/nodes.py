from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Assignment, Engine, TrackletSet

from .constraints import CannotLink, Constraint
from .groups import Groups, add_rows, centroids, renumber, rows_of, to_unit
from .guard import Diameter, weak
from .joining import Joined, join
from .links import Links
from .normalize import center_by_place
from .rules import Rules
from .trace import Trace


@dataclass(frozen=True)
class Nodes:
    """Nodes of the link graph: current identities, in the order of their first tracklet.

    Attributes:
        of_tracklet: The node of each tracklet; -1 = no crops.
        representative: The first tracklet of each node.
        centers: The direction of the mean of all crops of each node, a unit row.
    """

    of_tracklet: Int[np.ndarray, " t"]
    representative: Int[np.ndarray, " n"]
    centers: Float[np.ndarray, "n d"]

    @classmethod
    def of(cls, tracklets: TrackletSet, assignment: Assignment, engine: Engine = LOCAL) -> "Nodes":
        """The identities that have crops."""
        kept = assignment.tracklet >= 0
        node, representative = _numbered(tracklets, assignment)
        owner = np.full(len(kept), -1, np.int64)
        owner[kept] = node[assignment.tracklet[kept]]
        return cls(node, representative, centroids(tracklets.embeddings, Groups.of(owner, len(representative)), engine))

    @classmethod
    def centered(
        cls, tracklets: TrackletSet, assignment: Assignment, place: Int[np.ndarray, " t"], engine: Engine = LOCAL
    ) -> "Nodes":
        """The same, but the centre of a node is the mean of its tracklets, each less the mean of its place.

        Args:
            tracklets: All crops.
            assignment: Where they are.
            place: Of each tracklet, such as its video.
            engine: Where centres lie.
        """
        node, representative = _numbered(tracklets, assignment)
        held = np.flatnonzero(node >= 0)
        means = centroids(tracklets.embeddings, Groups.of(assignment.tracklet, len(tracklets)), engine)
        means = rows_of(means, held, engine)
        center_by_place(means, np.unique(place[held], return_inverse=True)[1])
        if len(held) == len(representative):
            return cls(node, representative, means)
        total = engine.zeros(len(representative), means.shape[1])
        add_rows(total, node[held], means)
        return cls(node, representative, to_unit(total))

    def joined(
        self,
        stage: str,
        tracklets: TrackletSet,
        assignment: Assignment,
        links: Links,
        *,
        sigma_drm: float,
        rules: Rules,
        trace: Trace | None,
    ) -> Assignment:
        """The assignment in which linked nodes are one identity, as far as the rules allow."""
        count = len(self.representative)
        cannot_link = rules.cannot_link(tracklets, assignment.tracklet)
        constraint = Constraint(cannot_link, self.of_tracklet) if len(cannot_link.pairs) else None
        if rules.guard == "cut":
            frail = weak(count, links)
            made = join(count, links[~frail], constraint).without(links[frail])
        elif rules.guard == "diameter":
            made = join(count, links, constraint, Diameter(self.centers, rules.max_diameter * sigma_drm))
        else:
            made = join(count, links, constraint)
        return self.grouped(stage, assignment, made, cannot_link, trace)

    def grouped(
        self, stage: str, assignment: Assignment, made: Joined, cannot_link: CannotLink, trace: Trace | None
    ) -> Assignment:
        """The assignment in which the nodes of a group are one identity."""
        if trace is not None:
            ends = self.representative[made.kept.first], self.representative[made.kept.second]
            trace.add_links(stage, *ends, made.kept.distance, **made.evidence)
            trace.add_refused(stage, made, cannot_link, self.representative)
        identity = np.full(len(self.of_tracklet), -1, np.int64)
        filled = self.of_tracklet >= 0
        identity[filled] = made.group[self.of_tracklet[filled]]
        return Assignment(assignment.tracklet, renumber(identity))


def _numbered(tracklets: TrackletSet, assignment: Assignment) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " n"]]:
    """The node of each tracklet, -1 = no crops; the first tracklet of each node."""
    held = np.bincount(assignment.tracklet[assignment.tracklet >= 0], minlength=len(tracklets)) > 0
    node = renumber(np.where(held, assignment.identity, -1))
    _, representative = np.unique(node, return_index=True)
    return node, representative[node[representative] >= 0]
