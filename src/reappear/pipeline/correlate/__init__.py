"""correlate: embeddings → identities, by the stages of CION Sec. 3.1-3.2."""

from .fold import BASELINE, SO_FAR, identify
from .settings import CorrelateSettings
from .step import correlate, review_log

__all__ = ["BASELINE", "SO_FAR", "CorrelateSettings", "correlate", "identify", "review_log"]
