"""Scores: ranking (CMC, mAP, mINP), verification, and agreement of identities with true ones."""

from .bootstrap import Difference, Interval, interval, paired_difference
from .cameras import CameraPairs, most_seen, score_cameras
from .clustering import ClusteringScores, score_identities
from .gallery import Block, Gallery, GalleryFactory, NumpyGallery
from .jaccard import cluster_by_jaccard, jaccard_graph
from .labels import label_numbers
from .ranking import RankedLists, rank, rank_task, top
from .reranking import k_reciprocal_rerank, reranked
from .retrieval_task import RankingProtocol, RetrievalTask
from .same_images import digests, feature_keys
from .verification import OperatingPoint, Verification, verify

__all__ = [
    "Block",
    "CameraPairs",
    "ClusteringScores",
    "Difference",
    "Gallery",
    "GalleryFactory",
    "Interval",
    "NumpyGallery",
    "OperatingPoint",
    "RankedLists",
    "RankingProtocol",
    "RetrievalTask",
    "Verification",
    "cluster_by_jaccard",
    "digests",
    "feature_keys",
    "interval",
    "jaccard_graph",
    "k_reciprocal_rerank",
    "label_numbers",
    "most_seen",
    "paired_difference",
    "rank",
    "rank_task",
    "reranked",
    "score_cameras",
    "score_identities",
    "top",
    "verify",
]
