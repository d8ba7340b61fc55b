"""The bytes of one image, wherever a table says that it lies; and whether they are an image."""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from reappear.core import SILENT, ImageTable, InputError, Progress, read_bytes, require_regular_file, thread_map

from .parquet import group_sizes, read_images

MAX_PIXELS = 1 << 26  # 8192 x 8192; pictures of the largest cameras have 33 million
_MAX_BYTES = 256 << 20  # of one image's file
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # of Pillow's some dozens, those that `is_image` names
UNREADABLE = "images that cannot be decoded"  # the reason in records
ROWS_TOGETHER = 64  # rows of a Parquet file that are read together, as exports have them
_MEMBER = re.compile(r"(.+\.tar)@(\d+)\+(\d+)", re.DOTALL)
_ROW = re.compile(r"(.+\.parquet)@(\d+)", re.DOTALL)
_ENDINGS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"BM": ".bmp", b"RI": ".webp"}


def read_image(path: str) -> bytes:
    """The file of one image of an `ImageTable`.

    Args:
        path: A file's path; or `SHARD.tar@OFFSET+SIZE`, bytes inside a tar; or `FILE.parquet@ROW`, of the column image.

    Raises:
        InputError: It cannot be read, is no regular file, or too large for an image.
    """
    row = _ROW.fullmatch(path)
    if row is not None:
        return _row_of(row[1], int(row[2]))
    member = _MEMBER.fullmatch(path)
    if member is None:
        return read_bytes(Path(path), max_bytes=_MAX_BYTES)
    require_regular_file(Path(member[1]))
    if int(member[3]) > _MAX_BYTES:
        raise InputError(f"{path} is larger than {_MAX_BYTES:,} bytes, the limit for an image; check the tar")
    try:
        with open(member[1], "rb") as file:  # noqa: PTH123 (quicker than a Path, once for each image)
            return os.pread(file.fileno(), int(member[3]), int(member[2]))
    except (OSError, OverflowError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def container(path: str) -> str:
    """The file on disk that `read_image(path)` reads: a tar, a Parquet file, or the image itself."""
    inside = _ROW.fullmatch(path) or _MEMBER.fullmatch(path)
    return path if inside is None else inside[1]


def _row_of(file: str, row: int) -> bytes:
    group, first = 0, 0
    for count in _group_sizes(file):
        if row < first + count:
            return _group(file, group)[row - first]
        group, first = group + 1, first + count
    raise InputError(f"{file} has no row {row}; it has {first}")


@lru_cache(8)
def _group_sizes(file: str) -> tuple[int, ...]:
    return group_sizes(Path(file))


@lru_cache(2)  # images are mostly asked for one after the other
def _group(file: str, group: int) -> list[bytes]:
    return read_images(Path(file), group)


def ending(data: bytes) -> str:
    """What the name of an image's file ends in: `.jpg`, `.png`, `.bmp` or `.webp`."""
    return _ENDINGS.get(data[:2], ".jpg")


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height of an image whose pixels were all decoded: half a file is no image.

    Raises:
        InputError: It is none; the message says why, in a few words without a path.
    """
    with open_image(data) as image:
        image.load()
        return image.size


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a JPEG, PNG, BMP or WebP file as RGB, turned as its EXIF orientation says.

    Of a file that is cut off, the rows that are missing are grey. The size that the header states is checked before
    anything is decoded.

    Raises:
        InputError: It is no image, or has more than `MAX_PIXELS`; the message says why, without a path.
    """
    with open_image(data):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise InputError("damaged or cut off")
    return np.asarray(pixels, np.uint8)


@dataclass(frozen=True)
class Images:
    """The images of a table, read and decoded when they are asked for.

    Attributes:
        table: Their references and labels.
        read: A reference in `table.path` to the bytes of the image's file; `CropStore.image` where they are crops.
        remedy: What a user can do about an image that cannot be decoded.
    """

    table: ImageTable
    read: Callable[[Any], bytes] = read_image
    remedy: str = "remove it from the set"

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "h w 3"]:
        """The image of a row of the table, as RGB.

        Raises:
            InputError: It cannot be read or decoded.
        """
        reference = self.table.path[row].item()
        data = self.read(reference)
        try:
            return decode_image(data)
        except InputError as error:
            raise InputError(f"{self.name(row)} is not a readable image: {error}; {self.remedy}") from error

    def select(self, rows: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> "Images":
        """Rows by number, in this order, or by a mask."""
        return replace(self, table=self.table.select(rows))

    def name(self, row: int) -> str:
        """What messages call the image of a row: its reference, or "crop N"."""
        reference = self.table.path[row].item()
        return reference if isinstance(reference, str) else f"crop {reference}"

    def unreadable(self, rows: range, *, progress: Progress = SILENT) -> dict[int, str]:
        """Row → why its image cannot be read or decoded; every image of `rows` is decoded."""
        found: dict[int, str] = {}
        with progress.task("decoding", len(rows), "image") as tick:
            for row, why in zip(rows, thread_map(self._failure, rows), strict=True):
                if why:
                    found[row] = why
                tick(1)
        return found

    def _failure(self, row: int) -> str:
        reference = self.table.path[row].item()
        try:
            decode_image(self.read(reference))
        except InputError as error:
            return str(error).removeprefix(f"{reference} ")
        return ""


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """An image whose header was read, and whose size was checked; its pixels are decoded when they are asked for.

    Raises:
        InputError: It is none, too large, or damaged (also when that shows inside the block); without a path.
    """
    if not data:
        raise InputError("an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd but harmless metadata, and of sizes: those are checked here
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError("more pixels than an image of a person has")
                yield image
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError("more pixels than an image of a person has") from error
    except Exception as error:  # each format of Pillow's raises what its parser stumbles over
        raise InputError("damaged or cut off" if _known(data) else "not an image") from error


def _known(data: bytes) -> bool:
    """Whether it begins as JPEG, PNG, BMP or WebP do."""
    return data.startswith((b"\xff\xd8", b"\x89PNG", b"BM")) or data[8:12] == b"WEBP"
