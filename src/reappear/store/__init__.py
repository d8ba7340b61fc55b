"""Files of a workspace, written atomically."""

from .arrays import read_npy, read_npz, write_npy
from .atomic import atomic_write, disk_errors, file_lock, remove_scratch, sync_folder, write_text, write_texts
from .crops import CropStore, Renumbering, write_earlier
from .embeddings import (
    TRACKLETS,
    read_embeddings,
    read_tracklet_vectors,
    write_embedding_blocks,
    write_embeddings,
    write_tracklet_vectors,
)
from .hashes import FileHashes
from .identities import Identities, read_identities, write_identities
from .review import append_decision, count_decisions, read_decisions, stamp_decisions
from .shards import PART_TAR, ShardReader, ShardWriter, members, shard_path
from .tables import Columns, read_table, write_csv, write_table
from .weights import (
    WEIGHTS,
    CachedWeights,
    Weights,
    WeightsCache,
    WeightsFile,
    find_weights,
    hash_file,
    how_to_get,
    known_weights,
)

__all__ = [
    "PART_TAR",
    "TRACKLETS",
    "WEIGHTS",
    "CachedWeights",
    "Columns",
    "CropStore",
    "FileHashes",
    "Identities",
    "Renumbering",
    "ShardReader",
    "ShardWriter",
    "Weights",
    "WeightsCache",
    "WeightsFile",
    "append_decision",
    "atomic_write",
    "count_decisions",
    "disk_errors",
    "file_lock",
    "find_weights",
    "hash_file",
    "how_to_get",
    "known_weights",
    "members",
    "read_decisions",
    "read_embeddings",
    "read_identities",
    "read_npy",
    "read_npz",
    "read_table",
    "read_tracklet_vectors",
    "remove_scratch",
    "shard_path",
    "stamp_decisions",
    "sync_folder",
    "write_csv",
    "write_earlier",
    "write_embedding_blocks",
    "write_embeddings",
    "write_identities",
    "write_npy",
    "write_table",
    "write_text",
    "write_texts",
    "write_tracklet_vectors",
]
