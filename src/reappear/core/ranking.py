from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Ranking:
    """Scores of a ranking. All values are fractions in [0, 1], never percent.

    Attributes:
        cmc: `cmc[k-1]` is the share of valid queries with a hit among the first `k`.
        mean_ap: Mean average precision over valid queries.
        mean_inp: Mean inverse negative penalty (matches over the rank of the last) over valid queries.
        average_precision: Per query; NaN where the query has no match.
        inverse_negative_penalty: Per query; NaN where the query has no match.
        first_right: Per query: whether rank 1 is a match (a mean over random galleries); NaN
            where the query has no match.
        first_hit: Per query: rank of the first match, from 1 (a mean over random galleries); NaN where there
            is no match.
        valid: Whether the query has a match in the gallery that the protocol lets it find.
        reasons: Why queries are not valid: reason → count.
    """

    cmc: Float[np.ndarray, " k"]
    mean_ap: float
    mean_inp: float
    average_precision: Float[np.ndarray, " q"]
    inverse_negative_penalty: Float[np.ndarray, " q"]
    first_right: Float[np.ndarray, " q"]
    first_hit: Float[np.ndarray, " q"]
    valid: Bool[np.ndarray, " q"]
    reasons: dict[str, int]
