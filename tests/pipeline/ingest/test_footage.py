"""The same footage in another form gives the same crops and tracklets; a bad video ends that video alone."""

import os
import random
import shutil
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from reappear.core import InputError, StorageError
from reappear.denoise.constraints import overlapping_pairs
from reappear.pipeline.ingest import IngestSettings, ingest, videos
from reappear.pipeline.workspace import Workspace
from reappear.store import members, read_table
from reappear.video import ByteTrackSettings, CropSettings, MotSettings, YoloxSettings
from tests.video.films import WALKERS, Walker, pictures, write_film, write_truth

FRAMES = 24
SETTINGS = IngestSettings(workers=1, detector=MotSettings(boxes=""), crop=CropSettings(max_crops=5))


class Notes:
    def __init__(self):
        self.notes = []

    @contextmanager
    def task(self, title, total, unit):
        yield lambda units: None

    def note(self, text):
        assert "\n" not in text
        text.encode()
        self.notes.append(text)

    def having(self, *words):
        return [note for note in self.notes if all(word in note for word in words)]


def take(sources, folder, settings=SETTINGS):
    """What ingest made: columns of crops without their place, their images, and its notes."""
    work, listener = Workspace(folder), Notes()
    record = ingest(sources, work, settings, progress=listener)
    crops = work.open_crops()
    columns = {name: np.asarray(crops.crops[name]) for name in ("frame", "time", "left", "top", "tracklet", "truth")}
    return columns, [crops.image(i) for i in range(len(crops))], listener, record, work


def write_sequence(
    folder: Path, *, name="{:06d}.jpg", first=1, counted_from=1, info="imExt=.jpg", shuffled=False, mark="", seed=0
) -> Path:
    """A MOTChallenge sequence of the walkers; `first` numbers the images, `counted_from` the boxes."""
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    order = list(enumerate(pictures(FRAMES, seed=seed)))
    lines = [line.split(",", 1) for line in write_truth(folder / "gt" / "gt.txt", FRAMES).read_text().splitlines()]
    if shuffled:
        random.Random(3).shuffle(order)
        random.Random(4).shuffle(lines)
    for i, image in order:
        data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
        (folder / "img1" / name.format(i + first)).write_bytes(data)
    text = "".join(f"{int(frame) - 1 + counted_from},{rest}\n" for frame, rest in lines)
    (folder / "gt" / "gt.txt").write_text(mark + text)
    (folder / "seqinfo.ini").write_text(f"{mark}[Sequence]\nframeRate=10\n{info}\n")
    return folder


@pytest.fixture(scope="module")
def plain_sequence(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return take([write_sequence(folder / "seq")], folder / "w")


@pytest.mark.parametrize(
    "form",
    [
        {"name": "{}.jpg", "shuffled": True},
        {"name": "{}.JPG"},
        {"name": "frame{}_.jpeg", "info": ""},
        {"mark": "\ufeff"},
        {"first": 0, "counted_from": 0},
        {"first": 0, "counted_from": 1},
        {"counted_from": 0},
        {"name": "{}.jpg", "first": 0, "counted_from": 0, "shuffled": True, "mark": "\ufeff"},
    ],
    ids=lambda form: ",".join(map(str, form)),
)
def test_sequence_images_are_sorted_by_number(tmp_path, plain_sequence, form):
    columns, images, *_ = plain_sequence
    again, pictures_, *_ = take([write_sequence(tmp_path / "seq", **form)], tmp_path / "w")
    assert len(columns["frame"]) == 10
    assert all(np.array_equal(columns[name], again[name]) for name in columns)
    assert images == pictures_


@pytest.fixture(scope="module")
def plain_film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    film = write_film(folder / "a.ts", pictures(FRAMES))
    write_truth(folder / "a.gt.txt", FRAMES)
    return film, take([film], folder / "w")


@pytest.mark.parametrize("cut", [6, 12, 20])
def test_concatenated_video_is_one_video(tmp_path, plain_film, cut):
    _, (columns, _, _, _, work) = plain_film
    parts = [
        write_film(tmp_path / f"{i}.ts", pictures(FRAMES)[part])
        for i, part in enumerate((slice(cut), slice(cut, None)))
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    write_truth(tmp_path / "joined.gt.txt", FRAMES)
    again, _, listener, _, other = take([tmp_path / "joined.ts"], tmp_path / "w")
    assert all(np.allclose(columns[name], again[name]) for name in columns)
    assert len(listener.having("joined.ts", "time stamps")) == 1
    assert np.array_equal(*(together(each) for each in (work, other)))


def together(work):
    crops = work.open_crops()
    tracklets = crops.tracklet_set(np.zeros((len(crops), 1), np.float32))
    return overlapping_pairs(tracklets, np.ones(len(tracklets), bool), 0.0)


def test_people_of_the_second_part_are_later(tmp_path):
    """All people of a part are simultaneous; no person of one part is seen with one of the other."""
    halves = [(WALKERS[0], Walker(8, 150, 130, -2.5, (40, 200, 60))), (Walker(3, 60, 70, 2.5, (9, 9, 9)), WALKERS[1])]
    lines = []
    for i, people in enumerate(halves):
        write_film(tmp_path / f"{i}.ts", pictures(FRAMES, people))
        rows = write_truth(tmp_path / "x", FRAMES, people).read_text().splitlines()
        lines += [f"{int(row.split(',')[0]) + FRAMES * i},{row.split(',', 1)[1]}" for row in rows]
    (tmp_path / "j.ts").write_bytes(b"".join((tmp_path / f"{i}.ts").read_bytes() for i in (0, 1)))
    (tmp_path / "j.gt.txt").write_text("\n".join(lines))
    settings = IngestSettings(workers=1, detector=MotSettings(ids="video"))
    *_, work = take([tmp_path / "j.ts"], tmp_path / "w", settings)
    crops = work.open_crops()
    assert len(crops.tracklets["start"]) == 4
    assert len(together(work)) == 2
    assert max(crops.tracklets["end"][:2]) < min(crops.tracklets["start"][2:])


def test_quality_rules_use_the_size_of_each_frame(tmp_path):
    images = pictures(FRAMES)
    half = FRAMES // 2
    large = [np.kron(image, np.ones((2, 2, 1), np.uint8)) for image in images[half:]]
    for i, part in enumerate((images[:half], large)):
        write_film(tmp_path / f"{i}.ts", part)
    (tmp_path / "j.ts").write_bytes(b"".join((tmp_path / f"{i}.ts").read_bytes() for i in (0, 1)))
    lines = [
        ",".join(map(str, (frame + 1, walker.identity, *(scale * np.array([box[0], box[1], 16, 44])), 1, 1, 1)))
        for frame in range(FRAMES)
        for scale in [1 + (frame >= half)]
        for walker in WALKERS
        for box in [walker.box(frame)]
    ]
    (tmp_path / "j.gt.txt").write_text("\n".join(lines))
    settings = IngestSettings(workers=1, detector=MotSettings(ids="video"), crop=CropSettings(max_crops=100))
    columns, files, listener, record, _ = take([tmp_path / "j.ts"], tmp_path / "w", settings)
    assert listener.having("2 sizes")
    assert record.counts["crops"] == 2 * FRAMES
    for i, data in enumerate(files):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        color = next(walker.color for walker in WALKERS if walker.identity == columns["truth"][i])
        assert np.abs(image[len(image) // 3, image.shape[1] // 2].astype(int) - color).max() < 40


@pytest.mark.parametrize("ids", ["video", "global"])
@pytest.mark.parametrize("by", ["truth_ids", "detector"])
def test_equal_ids_are_one_person_only_if_global(tmp_path, ids, by):
    for name, seed in (("a", 0), ("b", 1)):
        write_film(tmp_path / f"{name}.mp4", pictures(FRAMES, seed=seed))
        write_truth(tmp_path / f"{name}.gt.txt", FRAMES)
    detector = MotSettings(ids=ids if by == "detector" else "none")
    settings = IngestSettings(workers=1, detector=detector, truth_ids=ids if by == "truth_ids" else "video")
    columns, _, listener, record, work = take([tmp_path], tmp_path / "w", settings)
    assert set(columns["truth"].tolist()) == ({7, 9} if ids == "global" else {7, 9, 17, 19})
    assert bool(listener.having("--truth-ids global")) == (ids == "video")
    assert record.counts["tracklets"] == 4
    assert work.open_crops().has_truth


def test_equal_content_is_one_video(tmp_path):
    film = write_film(tmp_path / "a.mp4", pictures(FRAMES))
    for name in "ab":
        write_truth(tmp_path / f"{name}.gt.txt", FRAMES)
    shutil.copy(film, tmp_path / "b.mp4")
    first, second = write_sequence(tmp_path / "s"), write_sequence(tmp_path / "t", info="name=other")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "c.mp4").symlink_to(film)
    (tmp_path / "links" / "up").symlink_to(tmp_path)
    _, _, listener, record, work = take([tmp_path], tmp_path / "w")
    assert [video.path for video in work.open_crops().videos] == [film, first]
    assert record.dropped["videos of the same content as another"] == 2
    assert listener.having("b.mp4", "same content", "a.mp4")
    assert listener.having(str(second), "same content", str(first))
    assert listener.having("c.mp4", "same file", "a.mp4")


def bad_footage(folder: Path) -> dict[str, str]:
    """One bad video of each kind, by name, and the expected message."""
    write_sequence(folder / "rate").joinpath("seqinfo.ini").write_text("[Sequence]\nframeRate=nan")
    (write_sequence(folder / "boxes", seed=1) / "gt" / "gt.txt").write_text("1,1,0,0,nan,9\n")
    (write_sequence(folder / "negative", seed=2) / "gt" / "gt.txt").write_text("1,1,0,0,-5,9\n")
    (write_sequence(folder / "twins") / "img1" / "1.jpg").write_bytes(b"x")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "gone.mp4").symlink_to(folder / "nothing.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "text.mp4").write_text("hello")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.mp4")).write_bytes(b"x")
    (folder / "two\nlines.mp4").write_bytes(b"x")
    return {
        "rate": "frameRate",
        "boxes": "not finite",
        "negative": "-5",
        "twins": "two images of number 1",
        "loop.mp4": "",
        "gone.mp4": "does not exist",
        "pipe.mp4": "not a regular file",
        "text.mp4": "not a video",
        "\\udcff\\udcfe.mp4": "rename",
        "two\\nlines.mp4": "rename",
    }


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_videos_are_skipped_with_one_line_each(tmp_path, workers):
    folder = tmp_path / "in"
    folder.mkdir()
    kinds = bad_footage(folder)
    write_sequence(folder / "good", name="{}.jpg", seed=3)
    settings = IngestSettings(workers=workers, detector=MotSettings())
    _, _, listener, record, work = take([folder], tmp_path / "w", settings)
    assert [video.path.name for video in work.open_crops().videos] == ["good"]
    assert record.counts["videos"] == 1
    assert record.dropped["videos that cannot be read"] == len(kinds)
    for name, reason in kinds.items():
        assert len(listener.having("left out", name, reason)) == 1, name


class _Broken(Exception):
    pass


def test_video_that_fails_midway_is_removed_and_numbers_are_consecutive(tmp_path, monkeypatch):
    for i, name in enumerate("abc"):
        write_film(tmp_path / f"{name}.mp4", pictures(FRAMES, seed=i))
        write_truth(tmp_path / f"{name}.gt.txt", FRAMES)
    follow = videos.follow

    def fails(footage, *args, **named):
        if footage.path.name == "b.mp4":
            raise _Broken("two\nlines")
        return follow(footage, *args, **named)

    monkeypatch.setattr(videos, "follow", fails)
    _, _, listener, record, work = take([tmp_path], tmp_path / "w")
    crops = work.open_crops()
    assert [video.path.name for video in crops.videos] == ["a.mp4", "c.mp4"]
    assert sorted(set(crops.crops["video"].tolist())) == [0, 1]
    assert listener.having("left out", "b.mp4", "_Broken")
    assert record.dropped["videos that cannot be read"] == 1
    assert sorted(path.name for path in (work.crops / "posters").iterdir()) == ["00000.jpg", "00001.jpg"]
    whole = [read_table(work.crops / "videos.parquet")["name"][i] for i in (0, 1)]
    assert whole == ["a", "c"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StorageError("full"), StorageError),
        (MemoryError(), MemoryError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), StorageError),
    ],
)
def test_global_errors_end_the_call(tmp_path, monkeypatch, error, kind):
    write_film(tmp_path / "a.mp4", pictures(3))
    write_truth(tmp_path / "a.gt.txt", 3)

    def fails(*args, **named):
        raise error

    monkeypatch.setattr(videos, "follow", fails)
    with pytest.raises(kind):
        take([tmp_path], tmp_path / "w")


def test_crop_that_cannot_be_written_fails_the_video(tmp_path, monkeypatch):
    for i, name in enumerate("ab"):
        write_sequence(tmp_path / name, first=1 - i, counted_from=1 - i)
    (tmp_path / "b" / "img1" / f"{FRAMES - 1:06d}.jpg").write_bytes(
        cv2.imencode(".jpg", np.zeros((144, 192, 3), np.uint8))[1].tobytes()
    )
    follow = videos.follow

    def then_removes(footage, *args, **named):
        seen = follow(footage, *args, **named)
        if footage.path.name == "a":
            (footage.path / "img1" / f"{FRAMES:06d}.jpg").unlink()
        return seen

    monkeypatch.setattr(videos, "follow", then_removes)
    _, files, listener, _, work = take([tmp_path], tmp_path / "w")
    assert listener.having("left out", str(tmp_path / "a"), "could not be read a second time")
    assert [video.path.name for video in work.open_crops().videos] == ["b"]
    assert all(files)
    (part,) = work.parts.glob("*/record.json")
    assert all(size for _, _, size in members(part.parent / "crops.tar"))
    assert [path for path in work.parts.iterdir() if path != part.parent] == []


def test_long_frame_interval_is_noted(tmp_path):
    write_film(tmp_path / "a.mkv", pictures(FRAMES), times=[20 * i for i in range(FRAMES)])
    write_truth(tmp_path / "a.gt.txt", FRAMES)
    _, _, listener, record, _ = take([tmp_path], tmp_path / "w")
    assert record.counts["tracklets"] == 2
    assert listener.having("a.mkv", "--tracker.lost-seconds", "2 s apart")


def test_tracker_without_tracklets_is_noted(tmp_path):
    for name, speed in (("fast", 60), ("slow", 2.5)):
        people = (Walker(7, 10, 130, speed, (220, 40, 40)),)
        write_film(tmp_path / f"{name}.mp4", pictures(FRAMES, people))
        write_truth(tmp_path / f"{name}.gt.txt", 3 if name == "fast" else FRAMES, people)
    settings = IngestSettings(workers=1, detector=MotSettings(), tracker=ByteTrackSettings(minimum_iou=0.3))
    _, _, listener, record, _ = take([tmp_path], tmp_path / "w", settings)
    assert record.counts["videos without people"] == 1
    assert len(listener.having("fast.mp4", "--tracker.minimum-iou")) == 1
    assert not listener.having("slow.mp4")


def test_invalid_network_is_named_for_each_video(tmp_path):
    write_film(tmp_path / "a.mp4", pictures(3))
    (tmp_path / "a.onnx").write_text("no network")
    settings = IngestSettings(detector=YoloxSettings(weights=tmp_path / "a.onnx"), workers=1)
    with pytest.raises(InputError, match="ONNX model"):
        take([tmp_path / "a.mp4"], tmp_path / "w", settings)
