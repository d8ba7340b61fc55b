"""Measures what the crops of the motion detector show: whole people, parts of them, groups, or none.

python benchmarks/motion.py VIDEOS... [--reference yolox.onnx] [--name NAME] [--sheet FOLDER]

A video with ground truth beside it (.gt.txt, as `reappear synthesize` writes) is compared with that; another one with
the boxes of YOLOX, which misses small people, so that its numbers compare detectors and are no truth.
A crop is whole if its IoU with a person is at least 0.6; a part if at least 70 % of it lies on a person who is larger;
a group if it covers at least 60 % of two or more people; nothing if it overlaps nobody by a tenth; else other.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import measure
import numpy as np

from reappear.video import (
    ByteTrackSettings,
    CropSettings,
    DetectorSettings,
    MotionSettings,
    YoloxSettings,
    choose_crops,
    cut,
    find_videos,
    follow,
    open_footage,
    read_truth,
)
from reappear.video.overlap import area, intersection, iou

KINDS = ("whole", "part", "group", "nothing", "other")
_SCORE = 0.25  # of YOLOX as a stand-in for the truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--reference", type=Path, help="YOLOX weights, for videos without ground truth")
    parser.add_argument("--detector", type=Path, help="YOLOX weights to measure instead of motion")
    parser.add_argument("--name", default="motion", help="of the result file")
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "reappear-motion")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/NAME.json")
    given = parser.parse_args()
    started_on = measure.machine()
    chosen: DetectorSettings = YoloxSettings(weights=given.detector) if given.detector else MotionSettings()
    rows, total = {}, Counter[str]()
    for video in find_videos(given.videos):
        found = examine(video, chosen, given.reference, given.cache, given.sheet)
        rows[video.name] = dict(found)
        total.update(found)
        print(f"{video.name:<40} {text(found)}", flush=True)
    print(f"{'all':<40} {text(total)}")
    if given.save:
        measure.keep(given.name, {"videos": rows, "all": dict(total)}, started_on)


def text(found: Counter[str]) -> str:
    crops = max(found["crops"], 1)
    shares = "  ".join(f"{kind} {100 * found[kind] / crops:5.1f}" for kind in KINDS)
    return (
        f"crops {found['crops']:>5}  tracklets {found['tracklets']:>4}  {shares}  "
        f"recall {100 * found['people found'] / max(found['people'], 1):5.1f}"
    )


def examine(
    video: Path, chosen: DetectorSettings, weights: Path | None, cache: Path, sheet: Path | None
) -> Counter[str]:
    """Counts of crops by what they show, and of people that a crop's tracklet has a box on."""
    footage = open_footage(video)
    detector = chosen.build(footage)
    tracks = (seen := follow(footage, detector, ByteTrackSettings().build(rate=footage.clock))).tracks
    kept, _ = choose_crops(tracks, seen.size, CropSettings())
    rows = np.concatenate([*kept, np.zeros(0, np.int64)])
    frames, boxes = people(video, weights, cache)
    found = Counter({"crops": len(rows), "tracklets": len(kept), **dict.fromkeys(KINDS, 0)})
    kinds = [kind_of(tracks.box[row], boxes[frames == tracks.frame[row]]) for row in rows]
    found.update(kinds)
    found["people"] = len(frames)
    for frame in np.unique(frames):
        mine, theirs = boxes[frames == frame], tracks.box[tracks.frame == frame]
        found["people found"] += int((iou(mine, theirs).max(axis=1, initial=0) >= 0.5).sum())
    if sheet is not None:
        draw(video, tracks.frame[rows], tracks.box[rows], kinds, sheet)
    return found


def kind_of(box: np.ndarray, people: np.ndarray) -> str:
    """What a crop shows, see the top of this file."""
    if not len(people):
        return "nothing"
    shared = intersection(box[None], people)[0]
    on_person, of_person = shared / max(area(box[None])[0], 1e-6), shared / np.maximum(area(people), 1e-6)
    if iou(box[None], people)[0].max() >= 0.6:
        return "whole"
    if (of_person >= 0.6).sum() >= 2:
        return "group"
    if ((on_person >= 0.7) & (area(people) > area(box[None])[0])).any():
        return "part"
    return "nothing" if on_person.max() < 0.1 else "other"


def people(video: Path, weights: Path | None, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frame and box of each person: the ground truth, or what YOLOX finds."""
    truth = read_truth(video)
    if truth is not None:
        return truth.frame, truth.box
    if weights is None:
        raise SystemExit(f"{video} has no ground truth; give --reference")
    path = cache / f"{video.name}.{weights.stem}.npz"
    if not path.exists():
        footage = open_footage(video)
        detector = YoloxSettings(weights=weights, score=_SCORE, threads=2).build(footage)
        frames, boxes = [], [np.zeros((0, 4), np.float32)]
        for frame in footage.frames():
            found = detector.detect(frame.image, frame.number)
            frames += [frame.number] * len(found.box)
            boxes.append(found.box)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, frame=np.array(frames, np.int64), box=np.concatenate(boxes))
    stored = np.load(path)
    return stored["frame"], stored["box"]


def draw(video: Path, frames: np.ndarray, boxes: np.ndarray, kinds: Sequence[str], folder: Path) -> None:
    """A contact sheet of the first 160 crops, framed by what they show."""
    colours = {"whole": (0, 160, 0), "part": (220, 120, 0), "group": (0, 90, 220), "nothing": (220, 0, 0)}
    cells = []
    wanted = {int(frame) for frame in frames[:160]}
    images = {frame.number: frame.image for frame in open_footage(video).frames(only=frozenset(wanted))}
    for frame, box, kind in zip(frames[:160], boxes[:160], kinds[:160], strict=True):
        crop = cut(images[int(frame)], box, padding=0.05, max_height=384)
        scale = min(92 / crop.shape[1], 124 / crop.shape[0])
        crop = cv2.resize(crop, (max(1, int(crop.shape[1] * scale)), max(1, int(crop.shape[0] * scale))))
        cell = np.full((128, 96, 3), colours.get(kind, (150, 150, 150)), np.uint8)
        cell[2 : 2 + crop.shape[0], 2 : 2 + crop.shape[1]] = crop
        cells.append(cell)
    cells += [np.full((128, 96, 3), 255, np.uint8)] * (-len(cells) % 20)
    if cells:
        folder.mkdir(parents=True, exist_ok=True)
        sheet = np.concatenate([np.concatenate(cells[i : i + 20], axis=1) for i in range(0, len(cells), 20)])
        cv2.imwrite(str(folder / f"{video.stem}.jpg"), sheet[..., ::-1])


if __name__ == "__main__":
    main()
