"""Estimates the share of impostor crops in tracklets and the distance beyond which most are impostors: σ_cst."""

from dataclasses import dataclass

import numpy as np

from .evidence import Sample
from .thresholds import NO_CROP

_MOST = 0.5  # of a tracklet's crops that show another person; with more it would be the other's tracklet


_QUANTILES = np.array([0.1, 0.2, 0.3, 0.4, 0.5])  # of the impostors; below, both are alike; above, there are few crops
_FACTORS = np.linspace(0.6, 1, 41)
_FLAT = 0.04  # standard deviation of the logarithm of a ratio that counts as constant
_FEWEST = 5  # crops beyond a distance


@dataclass(frozen=True)
class Outliers:
    """Distances of crops to the rest of their tracklet, and of impostors: a mixture and one of its two components.

    Beyond any distance the mixture proportion is at most the ratio of the two tails; the least ratio estimates the
    share of impostor crops (mixture proportion, Blanchard et al. 2010). It is searched between the 10 % and 50 %
    quantiles of the impostors. But an impostor in a tracklet shares its light and background, and may lie nearer than
    crops of other tracklets do. So if their distances times a factor make the ratio constant over these quantiles,
    they are taken for those of impostors, and the constant for the share.

    Attributes:
        own: Crops to the rest of their tracklet.
        others: Crops to simultaneous tracklets, times the factor.
        share: Share of the crops that show another person, at most a half.
    """

    own: Sample
    others: Sample
    share: float

    @classmethod
    def of(cls, own: Sample, others: Sample) -> "Outliers":
        """Estimates the share."""
        at = np.array([others.quantile(q) for q in _QUANTILES])
        beyond = own.share_from(np.outer(_FACTORS, at))
        logarithm = np.log(np.maximum(beyond, 1e-12) / (1 - _QUANTILES))
        spread = np.where((beyond * len(own.value) >= _FEWEST).all(axis=1), logarithm.std(axis=1), np.inf)
        flattest = int(spread.argmin())
        if spread[flattest] <= _FLAT and _FACTORS[flattest] < 1:
            nearer = Sample(others.value * _FACTORS[flattest], others.weight)
            return cls(own, nearer, min(_MOST, float(np.exp(logarithm[flattest].mean()))))
        return cls(own, others, min(_MOST, float((own.share_from(at) / others.share_from(at)).min())))

    def wrong_from(self, distance: float) -> float:
        """Share of impostors among crops at or beyond this distance; NaN for none."""
        there = self.own.share_from(np.array([distance]))[0]
        return (
            float(min(1.0, self.share * self.others.share_from(np.array([distance]))[0] / there))
            if there > 0
            else np.nan
        )

    def nearest(self, wanted: float) -> float:
        """The smallest distance beyond which at least this share of crops are impostors; 2 if there is none."""
        there = self.own.share_from(self.own.value)
        enough = self.share * self.others.share_from(self.own.value) >= wanted * there
        found = np.flatnonzero(enough & (there > 0))
        return float(self.own.value[found[0]]) if len(found) else NO_CROP
