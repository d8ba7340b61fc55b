"""Scores: ranking (CMC, mAP, mINP), verification, and agreement of identities with true ones."""

from .bootstrap import Difference, Interval, interval, paired_difference
from .cameras import CameraPairs, score_cameras
from .clustering import ClusteringScores, score_identities
from .gallery import Block, Gallery, Holds, NumpyGallery
from .labels import label_numbers
from .ranking import RankedLists, rank, rank_search, top
from .reranking import k_reciprocal_rerank, reranked
from .same_images import digests, feature_keys
from .search import Protocol, Search
from .verification import OperatingPoint, Verification, verify

__all__ = [
    "Block",
    "CameraPairs",
    "ClusteringScores",
    "Difference",
    "Gallery",
    "Holds",
    "Interval",
    "NumpyGallery",
    "OperatingPoint",
    "Protocol",
    "RankedLists",
    "Search",
    "Verification",
    "digests",
    "feature_keys",
    "interval",
    "k_reciprocal_rerank",
    "label_numbers",
    "paired_difference",
    "rank",
    "rank_search",
    "reranked",
    "score_cameras",
    "score_identities",
    "top",
    "verify",
]
