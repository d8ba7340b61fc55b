"""MOTChallenge sequences: a folder with `seqinfo.ini` and numbered images."""

import configparser
import math
import re
from dataclasses import dataclass
from pathlib import Path

from reappear.core import InputError
from reappear.core.files import inside, read_text

MAX_RATE = 1000.0  # frames a second; larger values in files are time bases, not rates
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True)
class ImageSequence:
    """A MOTChallenge sequence.

    Attributes:
        images: Number in the file name → path, by number. The number is that of the last digits before the ending.
        unnumbered: Names of images without a number.
        rate: Frames a second; 0 = unknown.
    """

    images: dict[int, Path]
    unnumbered: tuple[str, ...]
    rate: float

    @property
    def first(self) -> int:
        """The number of frame 0: 1, as MOTChallenge counts, or 0 where the images are numbered from 0."""
        return 0 if min(self.images, default=1) == 0 else 1


def is_image_sequence(folder: Path) -> bool:
    """Whether a folder is a MOTChallenge sequence: `seqinfo.ini` and a folder of numbered images."""
    return (folder / "seqinfo.ini").is_file()


def sequence_images(folder: Path) -> list[Path]:
    """The images of a MOTChallenge sequence, by number."""
    return list(read_sequence(folder).images.values())


def read_sequence(folder: Path) -> ImageSequence:
    """Reads `seqinfo.ini` (`imDir`, `imExt`, `frameRate`) and lists the images.

    Raises:
        InputError: The folder is not a sequence, has no images or two of one number, or an invalid frame rate.
    """
    if not is_image_sequence(folder):
        raise InputError(f"{folder} is not a MOTChallenge sequence: it has no seqinfo.ini")
    facts = _facts(folder / "seqinfo.ini")
    name, ending = facts.get("imdir") or "img1", facts.get("imext", "").lower()
    endings = (f".{ending.lstrip('.')}",) if ending else _ENDINGS
    images: dict[int, Path] = {}
    unnumbered = []
    try:
        there = sorted(path for path in inside(folder, name).iterdir() if path.suffix.lower() in endings)
    except OSError as error:
        raise InputError(f"{folder} has no images in {name}/: {error.strerror}") from error
    for path in there:
        digits = re.findall("[0-9]+", path.stem)
        if path.name.startswith("."):
            continue
        if not digits or len(digits[-1]) > 15:
            unnumbered.append(path.name)
        elif (other := images.setdefault(int(digits[-1]), path)) is not path:
            raise InputError(f"{path.parent} has two images of number {int(digits[-1])}: {other.name} and {path.name}")
    if not images:
        raise InputError(f"{folder} has no images in {name}/: no numbered file that ends in {' '.join(endings)}")
    return ImageSequence(dict(sorted(images.items())), tuple(unnumbered), _rate(folder / "seqinfo.ini", facts))


def _facts(path: Path) -> dict[str, str]:
    """The lines of `[Sequence]`, names in lower case."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path, max_bytes=1 << 20))
        return dict(parser["Sequence"])
    except (configparser.Error, KeyError) as error:
        raise InputError(f"{path} is not a MOTChallenge sequence file: no [Sequence] part") from error


def _rate(path: Path, facts: dict[str, str]) -> float:
    text = facts.get("framerate") or "0"
    try:
        rate = float(text)
    except ValueError as error:
        raise InputError(f"{path}: frameRate must be a number, got {text!r}") from error
    if not math.isfinite(rate) or not 0 <= rate <= MAX_RATE:
        raise InputError(f"{path}: frameRate must be from 0 (unknown) to {MAX_RATE:g} frames a second, got {text}")
    return rate
