"""The bytes of one image, wherever a table says that it lies; and whether they are an image."""

import io
import os
import re
import warnings
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from reappear.core import InputError

ROWS_TOGETHER = 64  # rows of a Parquet file that are read together, as exports have them
_MEMBER = re.compile(r"(.+\.tar)@(\d+)\+(\d+)")
_ROW = re.compile(r"(.+\.parquet)@(\d+)")
_ENDINGS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"BM": ".bmp", b"RI": ".webp"}


def read_image(path: str) -> bytes:
    """The file of one image of an `ImageTable`.

    Args:
        path: A file's path; or `SHARD.tar@OFFSET+SIZE`, bytes inside a tar; or `FILE.parquet@ROW`, of the column image.

    Raises:
        InputError: It cannot be read.
    """
    row = _ROW.fullmatch(path)
    if row is not None:
        return _row_of(row[1], int(row[2]))
    member = _MEMBER.fullmatch(path)
    try:
        if member is None:
            return Path(path).read_bytes()
        with open(member[1], "rb") as file:  # noqa: PTH123 (quicker than a Path, once for each image)
            return os.pread(file.fileno(), int(member[3]), int(member[2]))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _row_of(file: str, row: int) -> bytes:
    group, first = 0, 0
    try:
        for count in _group_sizes(file):
            if row < first + count:
                return _group(file, group)[row - first]
            group, first = group + 1, first + count
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read: {' '.join(str(error).split())[:120]}") from error
    raise InputError(f"{file} has no row {row}; it has {first}")


@lru_cache(8)
def _group_sizes(file: str) -> tuple[int, ...]:
    metadata = pq.read_metadata(file)
    return tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))


@lru_cache(2)  # images are mostly asked for one after the other
def _group(file: str, group: int) -> list[bytes]:
    with pq.ParquetFile(file) as opened:
        column = opened.read_row_group(group, columns=["image"]).column("image").to_pylist()
    return [image["bytes"] if isinstance(image, dict) else image for image in column]


def ending(data: bytes) -> str:
    """What the name of an image's file ends in: `.jpg`, `.png`, `.bmp` or `.webp`."""
    return _ENDINGS.get(data[:2], ".jpg")


def image_bytes(path: str) -> int:
    """How long `read_image(path)` is, without reading it; -1 where it is not there or that takes reading."""
    member = _MEMBER.fullmatch(path)
    if member is not None:
        return int(member[3])
    try:
        return os.stat(path).st_size  # noqa: PTH116 (as above)
    except OSError:
        return -1


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height of an image whose pixels were all decoded: half a file is no image.

    Raises:
        InputError: It is none; the message says why, in a few words without a path.
    """
    if not data:
        raise InputError("an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # of odd but harmless metadata
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                return image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError("more pixels than an image of a person has") from error
    except Exception as error:  # each format of Pillow's raises what its parser stumbles over
        raise InputError("damaged or cut off" if _known(data) else "not an image") from error


def _known(data: bytes) -> bool:
    """Whether it begins as JPEG, PNG, BMP or WebP do."""
    return data.startswith((b"\xff\xd8", b"\x89PNG", b"BM")) or data[8:12] == b"WEBP"
