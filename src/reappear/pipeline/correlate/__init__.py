"""correlate: embeddings → identities, by the stages of CION Sec. 3.1-3.2."""

from .settings import CorrelateSettings
from .stages import BASELINE, SO_FAR, identify
from .step import correlate, review_log

__all__ = ["BASELINE", "SO_FAR", "CorrelateSettings", "correlate", "identify", "review_log"]
