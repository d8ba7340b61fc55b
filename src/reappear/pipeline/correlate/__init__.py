"""correlate: embeddings → identities, by the stages of CION Sec. 3.1-3.2 and by average linkage.

step.py          the recorded step: reads crops, vectors and decisions; writes identities/NAME
choices.py       thresholds, how it links, and the vectors that it compares
stages.py        the fold: stage after stage on one assignment; row.py measures each for the report
checkpoints.py   what a killed call goes on from
numbers.py       identities keep their numbers from run to run
"""

from .settings import CorrelateSettings
from .stages import BASELINE, SO_FAR, identify
from .step import correlate, review_log

__all__ = ["BASELINE", "SO_FAR", "CorrelateSettings", "correlate", "identify", "review_log"]
