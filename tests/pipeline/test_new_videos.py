"""Videos added, removed, renamed and broken between runs: the new ones alone are processed, numbers stay."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations

import numpy as np
import pytest

from reappear.cli.doctor import check_workspace
from reappear.core import InputError, WorkspaceError
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.correlate.numbers import keep_numbers
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.ingest import IngestSettings, ingest, videos
from reappear.pipeline.record import read_record
from reappear.pipeline.report import ReportSettings
from reappear.pipeline.review import ReviewTarget, review
from reappear.pipeline.run import RunSettings, run
from reappear.pipeline.verify import finished_folders, verify_folder
from reappear.pipeline.workspace import Workspace
from reappear.store import CropStore, read_embeddings, read_identities, read_table, write_table, write_text
from reappear.video import MotSettings
from tests.pipeline.ingest.test_videos import Listener, digests
from tests.pipeline.test_run import TRAINING
from tests.video.films import Walker, write_films

FRAMES = 16
RED, BLUE, GREEN, PINK = (
    Walker(number, 6 + 30 * number, 60 + 25 * number, 2.0, color)
    for number, color in enumerate([(220, 40, 40), (40, 60, 220), (40, 200, 60), (230, 120, 200)])
)
CAST = {
    "a": (RED, BLUE),
    "b": (RED, GREEN),
    "c": (BLUE, GREEN),
    "d": (RED, BLUE, GREEN),
    "e": (PINK, RED),
    "f": (BLUE, PINK),
    "g": (RED, GREEN, PINK),
    "h": (BLUE, PINK),
}
INGEST = IngestSettings(workers=1, detector=MotSettings(ids="global"))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Eight films of four people."""
    return write_films(tmp_path_factory.mktemp("shelf"), CAST, FRAMES)


def put(shelf, folder, names):
    folder.mkdir(exist_ok=True)
    for name in names:
        for path in shelf.glob(f"{name}.*"):
            shutil.copy(path, folder)


def remove(folder, name):
    for path in folder.glob(f"{name}.*"):
        path.unlink()


def go(folder, work, progress=None, **given):
    settings = RunSettings(
        **{
            "rounds": 1,
            "ingest": INGEST,
            "correlate": CorrelateSettings(linking="closure", thresholds="0.5,0.35"),
            "pretrain": TRAINING,
            "report": ReportSettings(identities=1, tracklets=1, projected=0),
            **given,
        }
    )
    page = run([folder], work, settings, progress=progress or Listener())
    return json.loads(page.with_name("report.json").read_text())


@pytest.fixture
def decoded(monkeypatch):
    """Names of the videos that people are looked for in."""
    seen = []
    follow = videos.follow
    monkeypatch.setattr(videos, "follow", lambda film, *a, **k: seen.append(film.path.stem) or follow(film, *a, **k))
    return seen


def who(work, name="round0"):
    """Video and place in it of each tracklet → its identity."""
    store, found = CropStore(work.crops), read_identities(work.identities(name)).assignment.identity
    video = store.tracklets["video"]
    first = np.searchsorted(video, np.arange(len(store.parts)))
    return {
        (store.video_names[v], int(t - first[v])): int(found[t])
        for t, v in enumerate(video.tolist())
    }  # fmt: skip


def same_partition(one, other):
    assert one.keys() == other.keys()
    for a, b in combinations(one, 2):
        assert (one[a] == one[b]) == (other[a] == other[b])


def sound(work):
    folders = finished_folders(work.root)
    assert [folder for folder in folders if verify_folder(folder).damaged or verify_folder(folder).extra] == []
    assert not list(work.root.rglob("*.partial"))


@pytest.mark.slow
def test_only_new_videos_are_processed_and_people_keep_their_numbers(shelf, tmp_path, decoded):
    folder, work, listener = tmp_path / "films", Workspace(tmp_path / "w"), Listener()
    put(shelf, folder, "abcdef")
    go(folder, work)
    before, model = who(work), digests(work.model("round0"))
    assert sorted(decoded) == [*"abcdef"]
    decoded.clear()

    put(shelf, folder, "gh")
    remove(folder, "b")
    (folder / "e.mp4").write_bytes(b"broken")
    report = go(folder, work, listener)
    assert sorted(decoded) == ["g", "h"]
    assert report["dropped"]["ingest"]["videos that cannot be read"]["mean"] == 1
    assert sum("stay in parts/" in note for note in listener.notes) == 2
    assert digests(work.model("round0")) == model
    assert report["changes"]["round0"]["w"]["summary"].startswith(f"identities kept: {len(set(before.values()))} ")
    assert "Since the last run" in (work.root / "report.html").read_text()
    after = who(work)
    assert {film for film, _ in after} == {*"acdfgh"}
    assert all(after[key] == before[key] for key in after.keys() & before.keys())
    sound(work)

    fresh = Workspace(tmp_path / "fresh")
    go(folder, fresh)
    same_partition(after, who(fresh))
    tables = digests(work.crops)
    assert tables.pop("earlier.parquet")
    assert tables == digests(fresh.crops)
    assert np.array_equal(*(read_embeddings(one.embeddings("round0"))[0] for one in (work, fresh)))

    decoded.clear()
    put(shelf, folder, "be")  # both are back: their parts and the numbers of their people are still there
    go(folder, work)
    again = who(work)
    assert decoded == []
    assert all(again[key] == before[key] for key in before)
    state = digests(work.root / "identities")
    go(folder, work)
    assert digests(work.root / "identities") == state


@pytest.mark.slow
def test_ten_kills_give_the_same_bytes(shelf, tmp_path):
    folder, work, other = tmp_path / "films", Workspace(tmp_path / "w"), Workspace(tmp_path / "whole")
    put(shelf, folder, "abcd")
    go(folder, work)
    shutil.copytree(work.root, other.root)
    put(shelf, folder, "efg")
    remove(folder, "b")
    go(folder, other)
    program = (
        "from pathlib import Path\n"
        "from reappear.pipeline.workspace import Workspace\n"
        "from tests.pipeline.test_new_videos import go\n"
        f"go(Path({str(folder)!r}), Workspace(Path({str(work.root)!r})))\n"
    )
    command = [sys.executable, "-c", program]
    random = np.random.default_rng(3)
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", program.rpartition("go(")[0]], check=True)
    imports = time.monotonic() - begun
    for _ in range(10):
        process = subprocess.Popen(command)
        time.sleep(imports + random.uniform(0.0, 3.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert (work.crops / "record.json").exists() or (work.root / "crops.partial" / "record.json").exists()
    subprocess.run(command, check=True)
    sound(work)
    assert results(work) == results(other)
    assert who(work) == who(other)


def results(work):
    """Files of all steps, but for the times that are in reports."""
    return {name: one for name, one in digests(work.root).items() if "/" in name and not name.endswith("report.json")}


@pytest.mark.slow
def test_decisions_hold_after_videos_were_added(shelf, tmp_path):
    folder, work = tmp_path / "films", Workspace(tmp_path / "w")
    put(shelf, folder, "cdf")
    go(folder, work)
    first = who(work)
    people = sorted(set(first.values()))
    review(work, "merge", ReviewTarget(people[:2], identities="round0"), who="anna")
    text = work.review.read_text()
    work.review.write_text(text + '{"decision": "reject", "tracklets": [0]}\n')  # by hand, without the crops it is of
    go(folder, work)
    merged = who(work, "round0-review2")
    assert len(set(merged.values()) - {-1}) == len(people) - 1
    report = json.loads((work.identities("round0-review2") / "report.json").read_text())
    assert report["numbers"]["merged"] == [people[:2]]
    rejected = [key for key, number in merged.items() if number < 0]
    assert len(rejected) == 1

    put(shelf, folder, "ab")  # in front of the others: all tracklets get new numbers
    report = go(folder, work)
    assert list(report["identities"]) == ["round0-review2"]  # round0 is of the earlier crops
    now = who(work, "round0-review2")
    assert all(now[key] == merged[key] for key in merged)
    assert work.review.read_text().startswith(text)
    assert len(work.decisions(work.review)) == 2
    assert work.newest_identities() == "round0-review2"
    remove(folder, "c")
    go(folder, work)
    left = who(work, "round0-review2")
    assert all(left[key] == now[key] for key in left)
    assert len(work.decisions(work.review)) == 1 + (rejected[0][0] != "c")
    sound(work)


@pytest.mark.slow
def test_model_is_kept_or_trained_anew(shelf, tmp_path):
    folder, work = tmp_path / "films", Workspace(tmp_path / "w")
    put(shelf, folder, "abc")
    go(folder, work, rounds=2)
    first = digests(work.model("round0"))
    put(shelf, folder, "d")
    go(folder, work, rounds=2)
    assert digests(work.model("round0")) == first
    kept, _ = read_embeddings(work.embeddings("round1"))
    rows = CropStore(work.crops).part_sizes()["crops"][:3].sum()
    put(shelf, folder, "e")
    go(folder, work, rounds=2)
    now, _ = read_embeddings(work.embeddings("round1"))
    assert np.array_equal(now[:rows], kept[:rows])
    listener = Listener()
    go(folder, work, listener, rounds=2, retrain=True)
    assert digests(work.model("round0-earlier1")) == first
    assert digests(work.model("round0")) != first
    assert read_record(work.embeddings("round1")).inputs["crops"] == read_record(work.model("round0")).inputs["crops"]
    retrained = digests(work.root / "models")
    go(folder, work, rounds=2, retrain=True)
    assert digests(work.root / "models") == retrained
    put(shelf, folder, "fgh")
    go(folder, work, rounds=2, retrain_share=0.1)
    assert (
        digests(work.model("round0-earlier2")).items()
        <= {name.removeprefix("round0/"): digest for name, digest in retrained.items()}.items()
    )
    sound(work)
    shutil.rmtree(work.identities("round0"))
    other = CorrelateSettings(linking="closure", thresholds="0.4,0.2")
    with pytest.raises(WorkspaceError, match="another input: identities"):
        go(folder, work, correlate=other)


def test_other_videos_alone_are_refused(shelf, tmp_path):
    put(shelf, tmp_path / "one", "ab")
    put(shelf, tmp_path / "other", "cd")
    work = Workspace(tmp_path / "w")
    ingest([tmp_path / "one"], work, INGEST)
    state = digests(work.crops)
    with pytest.raises(WorkspaceError, match="none of which is given now"):
        ingest([tmp_path / "other"], work, INGEST)
    with pytest.raises(WorkspaceError, match="another stride"):
        ingest([tmp_path / "one"], work, IngestSettings(workers=1, detector=MotSettings(ids="global"), stride=2))
    assert digests(work.crops) == state
    shutil.move(tmp_path / "one", tmp_path / "moved")  # renamed and in another folder: nothing is decoded
    (tmp_path / "moved" / "a.mp4").rename(tmp_path / "moved" / "z.mp4")
    (tmp_path / "moved" / "a.gt.txt").rename(tmp_path / "moved" / "z.gt.txt")
    parts = digests(work.parts)
    ingest([tmp_path / "moved"], work, INGEST)
    assert work.open_crops().video_names == ["b", "z"]
    assert digests(work.parts) == parts


def test_workspace_whose_parts_are_gone_names_them(shelf, tmp_path):
    put(shelf, tmp_path / "films", "ab")
    work = Workspace(tmp_path / "w")
    ingest([tmp_path / "films"], work, INGEST)
    store = work.open_crops()
    shutil.rmtree(work.parts / store.parts[1])
    with pytest.raises(InputError, match=f"parts/{store.parts[1]}/crops.tar is missing"):
        store.image(len(store) - 1)
    assert verify_folder(work.crops).damaged == {f"../parts/{store.parts[1]}": "missing"}
    write_text(work.parts / store.parts[0] / "record.json", (work.crops / "record.json").read_text())
    assert verify_folder(work.crops).damaged[f"../parts/{store.parts[0]}"] == "other content than recorded"
    assert [one.what for one in check_workspace(work.root) if one.ok] == []


def test_steps_by_hand_are_brought_up_to_date(shelf, tmp_path, decoded):
    folder, work = tmp_path / "films", Workspace(tmp_path / "w")
    correlation = CorrelateSettings(linking="closure", thresholds="0.5,0.35")

    def steps(place):
        ingest([folder], place, INGEST)
        embed(place, "colours", EmbedSettings())
        correlate(place, "found", correlation, embeddings="colours")

    put(shelf, folder, "bcd")
    steps(work)
    before, vectors = who(work, "found"), embedded(work)
    decoded.clear()
    put(shelf, folder, "ae")
    remove(folder, "c")
    steps(work)
    assert sorted(decoded) == ["a", "e"]
    after = who(work, "found")
    assert all(after[key] == before[key] for key in after.keys() & before.keys())
    assert all(np.array_equal(embedded(work)[name], vectors[name]) for name in "bd")
    fresh = Workspace(tmp_path / "fresh")
    steps(fresh)
    same_partition(after, who(fresh, "found"))
    assert digests(work.embeddings("colours")) == digests(fresh.embeddings("colours"))
    with pytest.raises(WorkspaceError, match="another flip"):
        embed(work, "colours", EmbedSettings(flip=True))
    parts = [one for one in check_workspace(work.root) if one.what == "parts"]
    assert [one.detail.split(":")[0] for one in parts] == ["5 videos"]
    sound(work)


def embedded(work):
    """Video → its vectors."""
    store, vectors = work.open_crops(), read_embeddings(work.embeddings("colours"))[0]
    names = np.array(store.video_names)[store.crops["video"]]
    return {name: np.array(vectors[names == name]) for name in store.video_names}


def test_numbers_by_hand(tmp_path):
    """A split, a merge, new and lost people, against numbers written out."""
    store = parts(tmp_path / "one", {"x": 4, "y": 3})
    identity = np.array([0, 1, 2, 3, 0, -1, 2])
    number, changes, columns = keep_numbers(identity, store, None)
    assert np.array_equal(number, identity)
    assert changes == {"next": 4}
    earlier = tmp_path / "earlier"
    write_table(earlier / "numbers.parquet", columns)
    write_text(earlier / "report.json", json.dumps({"numbers": changes}))

    now = parts(tmp_path / "two", {"w": 2, "y": 3})  # x is gone, w is new and in front
    #                   w0 w1 y0 y1 y2; before: y0 = 0, y1 discarded, y2 = 2
    number, changes, columns = keep_numbers(np.array([0, 1, 1, 2, 2]), now, earlier)
    assert number.tolist() == [4, 0, 0, 2, 2]
    lists = {"new": [4], "grown": [0, 2], "merged": [], "split": [], "gone": [1, 3]}
    assert changes == {"next": 5, "kept": 2, **lists}
    later = tmp_path / "later"
    write_table(later / "numbers.parquet", columns)
    write_text(later / "report.json", json.dumps({"numbers": changes}))

    back = parts(tmp_path / "three", {"w": 2, "x": 4, "y": 3})
    #  before: w0 = 4, w1 = 0, x = 0 1 2 3, y = 0 2 2
    number, changes, _ = keep_numbers(np.array([0, 1, 1, 0, 2, 3, 4, 2, 5]), back, later)
    #  identity 0: {4, 1} -> 1 (lower number); 1: {0, 0} -> 0; 2: {2, 2} -> 2; 3: {3}; 4: {0} -> new; 5: {2} -> new
    assert number.tolist() == [1, 0, 0, 1, 2, 3, 5, 2, 6]
    assert changes == {
        "next": 7,
        "kept": 4,
        "new": [],
        "grown": [],
        "merged": [[1, 4]],
        "split": [[0, 5], [2, 6]],
        "gone": [],
    }


def parts(root, lengths):
    """Crops of parts with these numbers of tracklets."""
    folder = root / "crops"
    video = np.repeat(np.arange(len(lengths)), [*lengths.values()])
    write_table(folder / "tracklets.parquet", {"video": video, "crops": np.ones_like(video)})
    write_table(folder / "videos.parquet", {"name": [*lengths], "part": [*lengths], "content": [*lengths]})
    return CropStore(folder)


def test_table_of_earlier_states_renumbers(shelf, tmp_path):
    folder, work = tmp_path / "films", Workspace(tmp_path / "w")
    put(shelf, folder, "bdf")
    states = []
    for added, removed in (("", ""), ("a", ""), ("c", "b"), ("b", "d")):
        put(shelf, folder, added)
        for name in removed:
            remove(folder, name)
        ingest([folder], work, INGEST)
        store = work.open_crops()
        names = np.array(store.video_names)[store.tracklets["video"]]
        place = [f"{name}{store.crops['truth'][row]}" for name, row in zip(names, store.offsets[:-1], strict=True)]
        states.append((read_record(work.crops).fingerprint, place, [*store.images()]))
    store, (_, now, images) = work.open_crops(), states[-1]
    assert store.renumbering("unknown") is None
    for footage, place, old_images in states[:-1]:
        moved = store.renumbering(footage)
        assert [now[new] if new >= 0 else None for new in moved.tracklet] == [
            one if one in now else None for one in place
        ]
        assert len(moved.crop) == len(old_images)
        assert all(images[new] == old for new, old in zip(moved.crop, old_images, strict=True) if new >= 0)
    rows = read_table(work.crops / "earlier.parquet")
    assert len(set(rows["footage"].tolist())) == 3
