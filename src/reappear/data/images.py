"""The bytes of one image, wherever a table says that it lies; and whether they are an image."""

import io
import os
import re
import warnings
from pathlib import Path

from PIL import Image

from reappear.core import InputError

_MEMBER = re.compile(r"(.+\.tar)@(\d+)\+(\d+)")


def read_image(path: str) -> bytes:
    """The file of one image of an `ImageTable`: a file's path, or `SHARD.tar@OFFSET+SIZE`, bytes inside a tar.

    Raises:
        InputError: It cannot be read.
    """
    member = _MEMBER.fullmatch(path)
    try:
        if member is None:
            return Path(path).read_bytes()
        with open(member[1], "rb") as file:  # noqa: PTH123 (quicker than a Path, once for each image)
            return os.pread(file.fileno(), int(member[3]), int(member[2]))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def image_bytes(path: str) -> int:
    """How long `read_image(path)` is, without reading it; -1 where it is not there."""
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
