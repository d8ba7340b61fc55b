"""Share of the crops that show another person than their tracklet, and the distance from which most do: σ_cst."""

from dataclasses import dataclass

import numpy as np

from .evidence import Sample

_MOST = 0.5  # of a tracklet's crops that show another person; with more it would be the other's tracklet


@dataclass(frozen=True)
class Outliers:
    """Crops to the rest of their tracklet, and impostors' crops to the same: a mixture and one of its two parts.

    What the first has of the second is, beyond any distance, at most their ratio there; the least of these ratios is
    the share of all crops that show another person (the proportion of a mixture as in Blanchard et al. 2010). It is
    looked for between the 10 % and 50 % quantiles of the impostors: nearer there is no difference, farther out too
    few crops lie.

    Attributes:
        own: Crops to the rest of their tracklet.
        others: Crops to tracklets seen at the same time.
        share: Share of the crops that show another person, at most a half.
    """

    own: Sample
    others: Sample
    share: float

    @classmethod
    def of(cls, own: Sample, others: Sample) -> "Outliers":
        """Estimates the share."""
        at = np.array([others.quantile(q) for q in (0.1, 0.2, 0.3, 0.4, 0.5)])
        return cls(own, others, min(_MOST, float((own.share_from(at) / others.share_from(at)).min())))

    def wrong_from(self, distance: float) -> float:
        """Share of the crops at this distance or farther that show another person; NaN where there are none."""
        there = self.own.share_from(np.array([distance]))[0]
        return (
            float(min(1.0, self.share * self.others.share_from(np.array([distance]))[0] / there))
            if there > 0
            else np.nan
        )

    def nearest(self, wanted: float) -> float:
        """The nearest distance from which so large a share of the crops shows another person; 2 where there is none."""
        there = self.own.share_from(self.own.value)
        enough = self.share * self.others.share_from(self.own.value) >= wanted * there
        found = np.flatnonzero(enough & (there > 0))
        return float(self.own.value[found[0]]) if len(found) else 2.0
