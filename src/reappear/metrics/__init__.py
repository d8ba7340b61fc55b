"""Scores: ranking (CMC, mAP, mINP) and agreement of identities with true ones."""

from .clustering import ClusteringScores, score_identities
from .ranking import Protocol, RankedLists, rank, top

__all__ = ["ClusteringScores", "Protocol", "RankedLists", "rank", "score_identities", "top"]
