"""Exporters of crops with identities. A new one is one file with a `Writer`, named here."""

from .cion_al import CionAlWriter
from .coco import CocoWriter
from .market1501 import Market1501Writer
from .parquet import ParquetWriter
from .webdataset import WebDatasetWriter
from .writer import Crop, Entry, Writer

WRITERS: dict[str, Writer] = {
    "market1501": Market1501Writer(),
    "cion_al": CionAlWriter(),
    "coco": CocoWriter(),
    "parquet": ParquetWriter(),
    "webdataset": WebDatasetWriter(),
}

__all__ = ["WRITERS", "Crop", "Entry", "Writer"]
