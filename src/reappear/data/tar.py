"""Tars of images and of JSON: where the images lie, and what the JSON says."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reappear.core import InputError, parse_json, parser_errors, require_regular_file

_MAX_JSON_BYTES = 1 << 20  # of the labels of one image


def read_tar(path: Path, is_image: Callable[[Path], bool]) -> tuple[dict[str, tuple[int, int]], dict[str, Any]]:
    """Key → offset and size of its image in bytes; key → the value of its JSON. Only plain files are looked at.

    Raises:
        InputError: It is missing, is no tar, or a JSON in it is damaged or too large.
    """
    require_regular_file(path)
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, Any] = {}
    with parser_errors(path, "a tar of images and JSON"), tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, ending = member.name.rpartition(".")
            if not member.isreg() or member.issparse():
                continue
            if is_image(Path(member.name)):
                images[key] = (member.offset_data, member.size)
            elif ending == "json":
                if member.size > _MAX_JSON_BYTES:
                    raise InputError(f"{path}: {member.name} is larger than {_MAX_JSON_BYTES:,} bytes; check the tar")
                body = tar.extractfile(member)
                labels[key] = parse_json(body.read() if body else b"", f"{member.name} in {path}")
    return images, labels
