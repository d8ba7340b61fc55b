from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from reappear.core import LOCAL, Assignment, Engine, TrackletSet

from .constraints import Constraint
from .groups import Groups, centroids, renumber
from .guard import Diameter, weak
from .joining import join
from .links import Links
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
        held = np.bincount(assignment.tracklet[kept], minlength=len(tracklets)) > 0
        node = renumber(np.where(held, assignment.identity, -1))
        _, representative = np.unique(node, return_index=True)
        representative = representative[node[representative] >= 0]
        owner = np.full(len(kept), -1, np.int64)
        owner[kept] = node[assignment.tracklet[kept]]
        return cls(node, representative, centroids(tracklets.embeddings, Groups.of(owner, len(representative)), engine))

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
        if trace is not None:
            trace.add_links(
                stage, self.representative[made.kept.first], self.representative[made.kept.second], made.kept.distance
            )
            trace.add_refused(stage, made, cannot_link, self.representative)
        identity = np.full(len(tracklets), -1, np.int64)
        filled = self.of_tracklet >= 0
        identity[filled] = made.group[self.of_tracklet[filled]]
        return Assignment(assignment.tracklet, renumber(identity))
