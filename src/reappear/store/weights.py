"""Weights of public networks: what is known of them, and the cache on this machine. Downloads nothing.

The cache is `REAPPEAR_HOME/weights`, by default `~/.cache/reappear/weights`. Each network has a folder there with its
files and `weights.json`, which is written last: a folder without it is an unfinished download.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from reappear.core import InputError, check_name, onnx_files, read_json_object, require_regular_file

from .atomic import atomic_write, disk_errors, write_text

_MANIFEST = "weights.json"
_ENDINGS = (".onnx", ".xml", ".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class WeightsFile:
    """One file of a network.

    Attributes:
        name: Its name in the cache.
        size: In bytes.
        sha256: In hexadecimal.
        urls: Where it can be downloaded; none = it can only be added.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """A public network.

    Attributes:
        name: What stands for it wherever a path of weights may.
        purpose: What it is for.
        title: What it is.
        code_licence: Licence of its code.
        weights_licence: Licence of its weights.
        training_data: What it was trained on, and the terms of that.
        files: The first is the one to load.
        variants: Other packagings of the same network, which `reappear weights add` recognises: the SHA-256 of the file
            to load.
    """

    name: str
    purpose: Literal["detector", "extractor"]
    title: str
    code_licence: str
    weights_licence: str
    training_data: str
    files: tuple[WeightsFile, ...]
    variants: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def can_be_downloaded(self) -> bool:
        """Whether all files have an address."""
        return all(file.urls for file in self.files)


def _yolox(name: str, title: str, size: int, sha256: str, variants: tuple[str, ...] = ()) -> Weights:
    release = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
    return Weights(
        name,
        "detector",
        title,
        code_licence="Apache-2.0",
        weights_licence="that of the code; no other is stated",
        training_data="COCO 2017: annotations CC BY 4.0, images under the terms of Flickr",
        files=(WeightsFile(f"{name}.onnx", size, sha256, (f"{release}/{name}.onnx",)),),
        variants=variants,
    )


def _retail(number: str, title: str, *files: tuple[str, int, str], urls: bool, variant: str = "") -> Weights:
    name = f"person-reidentification-retail-{number}"
    zoo = f"https://storage.openvinotoolkit.org/repositories/open_model_zoo/2021.4/models_bin/3/{name}/FP16"
    return Weights(
        name,
        "extractor",
        title,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        training_data="not published",
        files=tuple(
            WeightsFile(f"{name}{suffix}", size, sha256, (f"{zoo}/{name}{suffix}",) if urls else ())
            for suffix, size, sha256 in files
        ),
        variants=(variant,) if variant else (),
    )


# The hashes of files with an address are those that their publisher or several users of them state (docs/decisions).
# fmt: off
_ENTRIES = (
    _yolox("yolox_s", "YOLOX-s, 640 x 640", 35_858_002,
           "c5c2d13e59ae883e6af3b45daea64af4833a4951c92d116ec270d9ddbe998063"),
    _yolox("yolox_tiny", "YOLOX-tiny, 416 x 416", 20_219_662,
           "427cc366d34e27ff7a03e2899b5e3671425c262ea2291f88bb942bc1cc70b0f7"),
    _yolox("yolox_nano", "YOLOX-nano, 416 x 416", 3_659_407,
           "c789161ed43c8269fcd4e67c67eeeb4e80c622da2eb296a20bc6007bd18a0b7d",
           ("e8af074932d4ed7e232278e3055cefcdea3edf178874a3694ae292649fb464dd",)),
    Weights("osnet_x0_25", "extractor", "OSNet x0.25, 256 x 128, 512 numbers", code_licence="MIT",
            weights_licence="that of the code; no other is stated",
            training_data="MSMT17: academic research only",
            files=(WeightsFile("osnet_x0_25_msmt17.onnx", 921_616,
                               "61b2604171ef9d58d21758626f83b35a253c3d7123976523a6e03068c3c95d7b"),)),
    _retail("0277", "the most accurate of the Open Model Zoo, 256 numbers",
            (".xml", 572_915, "6663176b9e908c52e3392b881651fff6ccfea8c7ba2558135134b90c975e92c3"),
            (".bin", 4_178_812, "f809b4a16f6105d69eaa8c709894d0103064fe5322c333cde763fcab09d1647e"),
            urls=True, variant="82039b1bb986231c50345550e59def94e63579998e9cddbd1a312f293eb87729"),
    _retail("0286", "the middle one of the Open Model Zoo, 256 numbers",
            (".xml", 611_793, "cc547e622d8aeabf97938213f68171bf59ac7d01c910ceadfea984aa96e5d1b5"),
            (".bin", 2_453_724, "d06beb9e2b2661d42b233f64ef623f3518fc46dc11f6b7dd53cda8962d9d1bd9"), urls=False),
    _retail("0288", "the fastest of the Open Model Zoo, 256 numbers",
            (".xml", 614_533, "0d5021c772e603dce69d9ef2e326ecf0a43234cc8b4c5bb5e8aa566f090bdb51"),
            (".bin", 364_098, "08e24c2f1dd976ff8e1f667b93db2950ac8db8da09e163e1ca6463b82d1dbc42"), urls=False),
)
# fmt: on

WEIGHTS = {entry.name: entry for entry in _ENTRIES}


@dataclass(frozen=True)
class CachedWeights:
    """Weights in the cache.

    Attributes:
        name: Their name.
        folder: Where they are.
        problems: What `verify` found, one line each.
    """

    name: str
    folder: Path
    problems: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """`weights.json`: files by name with size and sha256, which to load, and where they are from."""
        return read_json_object(self.folder / _MANIFEST, "files", "load", "source")

    @property
    def path(self) -> Path:
        """The file to load."""
        return self.folder / str(self.manifest["load"])

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(int(file["size"]) for file in self.manifest["files"].values())


class WeightsCache:
    """The weights on this machine.

    Args:
        folder: `REAPPEAR_HOME/weights` if not given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home() / "weights"

    def get(self, name: str) -> CachedWeights | None:
        """The weights of this name; None where they are not here."""
        if not name or "/" in name or name.startswith(".") or not name.isprintable():
            return None
        folder = self.folder / name
        return CachedWeights(name, folder) if (folder / _MANIFEST).is_file() else None

    def names(self) -> list[str]:
        """Names of all weights in the cache."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{_MANIFEST}"))

    def unfinished(self) -> list[str]:
        """Names of weights whose download is not finished."""
        return sorted({path.parent.name for path in self.folder.glob("*/*.part")})

    def finish(self, name: str, files: dict[str, tuple[int, str]], *, load: str, source: str) -> CachedWeights:
        """Writes the manifest of weights whose files are in their folder.

        Args:
            name: Of the weights.
            files: Name → size and SHA-256.
            load: The file to load.
            source: Where they are from.
        """
        plain = {file: {"size": size, "sha256": sha256} for file, (size, sha256) in files.items()}
        text = json.dumps({"load": load, "source": source, "files": plain}, indent=2)
        write_text(self.folder / name / _MANIFEST, text + "\n")
        return CachedWeights(name, self.folder / name)

    def add(self, file: Path, name: str | None = None) -> CachedWeights:
        """Copies weights into the cache, with the files that they refer to.

        Args:
            file: A .onnx, .xml (with its .bin), .safetensors, .pth or .pt file.
            name: If not given, that of the registered weights with this content, else the file's without its ending.

        Raises:
            InputError: The file or one it refers to is missing, or other weights have the name.
            SettingsError: The name cannot be one.
        """
        parts = _parts(file)
        found = {part: (path.stat().st_size, hash_file(path)) for part, path in parts.items()}
        sha256 = found[file.name][1]
        known = next(
            (entry.name for entry in _ENTRIES if sha256 in (entry.files[0].sha256, *entry.variants)), file.stem
        )
        name = check_name(name or known, "name")
        there = self.get(name)
        if there is not None:
            if {part["sha256"] for part in there.manifest["files"].values()} == {sha for _, sha in found.values()}:
                return there
            raise InputError(
                f"{there.folder} holds other weights of the name {name}; remove it, or give another --name"
            )
        for part, path in parts.items():
            with atomic_write(self.folder / name / part) as staging:
                shutil.copyfile(path, staging)
                if hash_file(staging) != found[part][1]:
                    raise InputError(f"{path} changed while it was copied; run the same command again")
        return self.finish(name, found, load=file.name, source="added")

    def verify(self, name: str) -> CachedWeights:
        """Reads all files of weights again; `problems` of the result lists what is missing or other."""
        there = CachedWeights(name, self.folder / name)
        problems = []
        for part, expected in there.manifest["files"].items():
            try:
                status = require_regular_file(there.folder / part)
            except InputError as error:
                problems.append(str(error))
                continue
            if status.st_size != expected["size"] or hash_file(there.folder / part) != expected["sha256"]:
                problems.append(f"{there.folder / part} is damaged; remove {there.folder} and get the weights again")
        return CachedWeights(name, there.folder, tuple(problems))


def home() -> Path:
    """The folder of what reappear keeps between workspaces: `REAPPEAR_HOME`, else `~/.cache/reappear`."""
    given = os.environ.get("REAPPEAR_HOME")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reappear"


def find_weights(path: Path) -> Path:
    """The file that a setting means: a path, or the name of weights in the cache.

    Raises:
        InputError: It is the name of known weights that are not in the cache.
    """
    if len(path.parts) != 1 or path.exists():
        return path
    there = WeightsCache().get(str(path))
    if there is not None:
        return there.path
    if str(path) in WEIGHTS:
        raise InputError(f"the weights {path} are not on this machine; {how_to_get(str(path))}")
    return path


def how_to_get(name: str) -> str:
    """The command that puts weights into the cache."""
    if WEIGHTS[name].can_be_downloaded:
        return f"get them: reappear weights download {name}"
    return f"they have no public address: reappear weights add FILE --name {name}"


def known_weights(text: str) -> Path | None:
    """The path to load of weights that are called `text`, where their name is registered or in the cache.

    Raises:
        InputError: They are not in the cache.
    """
    if text not in WEIGHTS and WeightsCache().get(text) is None:
        return None
    return find_weights(Path(text))


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with disk_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parts(file: Path) -> dict[str, Path]:
    """Path below the folder of weights → file: the file itself, and those that it refers to."""
    require_regular_file(file)
    if file.suffix not in _ENDINGS:
        raise InputError(f"{file} does not look like weights: its name must end in one of {' '.join(_ENDINGS)}")
    parts = {file.name: file}
    if file.suffix == ".xml":
        beside = file.with_suffix(".bin")
        require_regular_file(beside)
        parts[beside.name] = beside
    elif file.suffix == ".onnx":
        # The key "weights/FILE" is external data, beside the model or below.
        parts |= {key.removeprefix("weights/"): path for key, path in onnx_files(file).items() if key != "weights"}
    if _MANIFEST in parts:
        raise InputError(f"{file} refers to a file {_MANIFEST}, which is the name of the list of files; rename it")
    return parts
