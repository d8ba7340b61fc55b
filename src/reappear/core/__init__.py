"""Shared types: tables, errors, settings, seeds, progress. Depends on nothing heavier than numpy."""

from .columns import lengths_to_offsets, offsets_to_owner
from .csv_text import escape_formula, restore_formula
from .decision import KINDS, Decision, Kind
from .distance import cosine_distance, unit_rows
from .engine import LOCAL, Engine, Local
from .errors import (
    DeviceError,
    DownloadError,
    EngineError,
    InputError,
    MissingExtra,
    ReappearError,
    SettingsError,
    StorageError,
    TrainingError,
    WorkspaceError,
    describe_out_of_memory,
    device_memory_errors,
)
from .files import (
    MAX_TEXT_BYTES,
    check_name,
    inside,
    parse_json,
    parser_errors,
    read_bytes,
    read_json,
    read_json_object,
    read_text,
    require_regular_file,
)
from .footage import Detections, Tracks, Video
from .images import SPLITS, ImageTable, Split
from .names import counted, distinct_names, plural
from .onnx_files import onnx_files
from .progress import SILENT, Progress
from .ranking import Ranking
from .seeds import generator
from .settings import (
    OPERATIONAL,
    RISING,
    BatchSize,
    Count,
    CountOrZero,
    Fraction,
    ImageSide,
    Megabytes,
    NotNegative,
    Only,
    Positive,
    Processes,
    Seed,
    settings,
    unknown_name,
)
from .threads import thread_map
from .tracklets import Assignment, TrackletSet
from .workers import STOP_SIGNALS, killed_worker, process_pool, require_semaphores, signals_blocked

__all__ = [
    "KINDS",
    "LOCAL",
    "MAX_TEXT_BYTES",
    "OPERATIONAL",
    "RISING",
    "SILENT",
    "SPLITS",
    "STOP_SIGNALS",
    "Assignment",
    "BatchSize",
    "Count",
    "CountOrZero",
    "Decision",
    "Detections",
    "DeviceError",
    "DownloadError",
    "Engine",
    "EngineError",
    "Fraction",
    "ImageSide",
    "ImageTable",
    "InputError",
    "Kind",
    "Local",
    "Megabytes",
    "MissingExtra",
    "NotNegative",
    "Only",
    "Positive",
    "Processes",
    "Progress",
    "Ranking",
    "ReappearError",
    "Seed",
    "SettingsError",
    "Split",
    "StorageError",
    "TrackletSet",
    "Tracks",
    "TrainingError",
    "Video",
    "WorkspaceError",
    "check_name",
    "cosine_distance",
    "counted",
    "describe_out_of_memory",
    "device_memory_errors",
    "distinct_names",
    "escape_formula",
    "generator",
    "inside",
    "killed_worker",
    "lengths_to_offsets",
    "offsets_to_owner",
    "onnx_files",
    "parse_json",
    "parser_errors",
    "plural",
    "process_pool",
    "read_bytes",
    "read_json",
    "read_json_object",
    "read_text",
    "require_regular_file",
    "require_semaphores",
    "restore_formula",
    "settings",
    "signals_blocked",
    "thread_map",
    "unit_rows",
    "unknown_name",
]
