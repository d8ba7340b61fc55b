"""Who was where and when: as tables, as boxes that ingest reads again, and drawn into videos."""

import shutil

import av
import numpy as np
import pyarrow.csv as csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reappear.core import InputError, SettingsError
from reappear.data import read, read_crops, read_image
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.export_data import ExportDataSettings, export_data
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.render import RenderSettings, colour_of, draw, fill_gaps, render
from reappear.pipeline.sightings import tracklet_identities, video_boxes, write_sightings
from reappear.pipeline.workspace import Workspace
from reappear.store import read_identities, read_table, write_table
from reappear.video import MotSettings, open_footage
from tests.pipeline.test_new_videos import BLUE, FRAMES, GREEN, PINK, RED
from tests.video.films import write_films

CAST = {"in_1": (RED, BLUE), "in_2": (GREEN, RED), "out_1": (BLUE, PINK, RED)}
SIDES = ("left", "top", "right", "bottom")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("films"), CAST, FRAMES)


@pytest.fixture(scope="module")
def work(folder, tmp_path_factory):
    """Identities `found`, with some tracklets discarded by a decision."""
    work = Workspace(tmp_path_factory.mktemp("w"))
    ingest([folder], work, IngestSettings(workers=1, camera="prefix", detector=MotSettings(ids="global")))
    embed(work, "colour", EmbedSettings())
    (work.root / "review.jsonl").write_text('{"decision": "reject", "tracklets": [1]}\n')
    correlate(work, "found", CorrelateSettings(linking="closure", thresholds="0.5,0.35"), embeddings="colour")
    return work


def test_sightings_are_the_tracklets_of_each_identity(work, tmp_path):
    record = export_data(work, tmp_path / "out", ExportDataSettings(to="sightings"), identities="found")
    rows = read_table(tmp_path / "out" / "sightings.parquet")
    crops, store = read_crops(work.root, "found"), work.open_crops()
    expected = []
    for identity in sorted(set(crops.identity.tolist()) - {-1}):
        for tracklet in sorted(set(crops.sequence[crops.identity == identity].tolist())):
            mine = [i for i in range(len(crops)) if (crops.identity[i], crops.sequence[i]) == (identity, tracklet)]
            video = int(store.tracklets["video"][tracklet])
            times = [float(crops.time[i]) for i in mine]
            place = (store.videos[video].camera, store.video_names[video])
            expected.append((identity, *place, min(times), max(times), tracklet, len(mine)))
    assert list(zip(*(rows[name].tolist() for name in rows), strict=True)) == expected
    assert list(rows) == ["identity", "camera", "video", "from", "to", "tracklet", "crops"]
    assert set(rows["camera"].tolist()) == {"in", "out"}
    text = csv.read_csv(tmp_path / "out" / "sightings.csv")
    assert {name: text.column(name).to_pylist() for name in text.column_names} == {
        name: column.tolist() for name, column in rows.items()
    }
    assert record.counts == {"identities": len(set(rows["identity"].tolist())), "sightings": len(expected)}
    assert record.dropped == {"crops without an identity": int((crops.identity < 0).sum())}


def test_sightings_have_the_probability_of_the_weakest_link_where_links_have_one(work, tmp_path):
    shutil.copytree(work.root, tmp_path / "w")
    copy = Workspace(tmp_path / "w")
    found = read_identities(copy.identities("found"))
    links = {**found.links, "probability": np.linspace(0.25, 0.75, len(found.links["first"])).astype(np.float32)}
    write_table(copy.identities("found") / "links.parquet", links)
    write_sightings(copy, "found", tmp_path)
    rows = read_table(tmp_path / "sightings.parquet")
    known = 0
    for identity, probability in zip(rows["identity"], rows["probability"], strict=True):
        mine = found.assignment.identity[links["first"]] == identity
        known += mine.any()
        assert probability == links["probability"][mine].min() if mine.any() else np.isnan(probability)
    assert 0 < known < len(rows["identity"])


def test_crops_of_parts_are_read_as_a_set(work):
    table, store = read("workspace", work.root, identities="found"), work.open_crops()
    assert [read_image(path) for path in table.path.tolist()] == list(store.images())


def test_boxes_of_frames_come_back_with_the_same_identities(work, folder, tmp_path):
    record = export_data(work, tmp_path / "out", ExportDataSettings(to="mot"), identities="found")
    found = tracklet_identities(work, "found")
    assert found[1] == -1
    again, films = Workspace(tmp_path / "again"), tmp_path / "films"
    films.mkdir()
    for name in CAST:
        shutil.copy(folder / f"{name}.mp4", films)
        shutil.copy(tmp_path / "out" / f"{name}.det.txt", films)
    ingest([films], again, IngestSettings(workers=1, detector=MotSettings(ids="global")))
    ids = [int(name) for name in read_table(again.crops / "labels.parquet")["name"]]
    labels, store, boxes = read_crops(again.root, "given"), again.open_crops(), 0
    for video, name in enumerate(CAST):
        old, new = video_boxes(work, video), video_boxes(again, video)
        one = old["tracklet"] >= 0
        one[one] = found[old["tracklet"][one]] >= 0
        known = {
            (int(frame), int(found[tracklet])): box
            for frame, tracklet, *box in zip(*(old[key][one] for key in ("frame", "tracklet", *SIDES)), strict=True)
        }
        owner = np.array([ids[i] for i in labels.identity[store.offsets[:-1]]])[new["tracklet"]]
        for frame, person, *box in zip(new["frame"], owner, *(new[key] for key in SIDES), strict=True):
            assert np.allclose(box, known.pop((int(frame), int(person))), atol=2e-3), name
            boxes += 1
        assert not known
    assert record.counts == {"videos": 3, "identities": len(set(found.tolist()) - {-1}), "boxes": boxes}
    assert record.dropped["boxes of no identity"] > 0


def test_one_box_of_an_identity_in_a_frame(work, tmp_path):
    """All tracklets as one person: the box of the highest score stays."""
    other = Workspace(tmp_path / "w")
    shutil.copytree(work.root, other.root)
    tracklets = len(other.open_crops().offsets) - 1
    log = '{"decision": "same", "tracklets": ' + str([*range(tracklets)]) + "}\n"
    other.review.write_text(log)
    correlate(other, "one", CorrelateSettings(linking="closure", thresholds="0.5,0.35"), embeddings="colour")
    record = export_data(other, tmp_path / "out", ExportDataSettings(to="mot"), identities="one")
    assert set(read_identities(other.identities("one")).assignment.identity.tolist()) == {0}
    assert record.dropped["boxes of an identity that has a better one in the frame"] > 0
    for path in (tmp_path / "out").glob("*.det.txt"):
        frames = [line.split(",")[0] for line in path.read_text().splitlines()]
        assert len(set(frames)) == len(frames)


def test_images_have_no_boxes_of_frames(tmp_path):
    from tests.pipeline.pretrain_fixture import make_workspace

    work = make_workspace(tmp_path / "w")
    with pytest.raises(InputError, match="no boxes of frames"):
        export_data(work, tmp_path / "out", ExportDataSettings(to="mot"), identities="tracklet")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=0, max_size=4), st.integers(0, 9))
def test_gaps_are_filled_by_straight_lines(tracks, seed):
    random = np.random.default_rng(seed)
    frame = np.array([f for track in tracks for f in sorted(track)], np.int64)
    tracklet = np.array([t - 1 for t, track in enumerate(tracks) for _ in track], np.int64)
    box = random.uniform(0, 100, (len(frame), 4))
    shuffled = random.permutation(len(frame))
    rows = {"frame": frame[shuffled], "tracklet": tracklet[shuffled]}
    filled = fill_gaps({**rows, **{name: box[shuffled, i] for i, name in enumerate(SIDES)}})
    expected = []
    for t, track in enumerate(tracks):
        mine = {f: box[(tracklet == t - 1) & (frame == f)][0] for f in track}
        for f in range(min(track), max(track) + 1) if t else sorted(track):
            before, after = max(k for k in mine if k <= f), min(k for k in mine if k >= f)
            share = (f - before) / max(1, after - before)
            expected.append((f, t - 1, *(mine[before] * (1 - share) + mine[after] * share)))
    found = list(zip(*(filled[name].tolist() for name in ("frame", "tracklet", *SIDES)), strict=True))
    assert np.allclose(sorted(found), sorted(expected)) if expected else not found
    assert np.all(np.diff(filled["frame"]) >= 0)


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(np.float64, 4, elements=st.floats(-60, 160, width=32)),
    st.sampled_from(["heads", "people"]),
    st.integers(0, 5),
)
def test_blur_hides_what_is_inside_and_nothing_else(corners, blur, seed):
    left, top = np.minimum(corners[:2], corners[2:])
    right, bottom = np.maximum(corners[:2], corners[2:]) + 1
    image = np.random.default_rng(seed).integers(0, 256, (96, 128, 3), np.uint8)
    given = RenderSettings(boxes=False, blur=blur, blur_margin=0.0)
    drawn = draw(image.copy(), np.array([[left, top, right, bottom]]), np.array([0]), given)
    foot = bottom if blur == "people" else top + 0.25 * (bottom - top)
    y, x = np.mgrid[:96, :128]
    outside = (x < np.floor(left)) | (x >= np.ceil(right)) | (y < np.floor(top)) | (y >= np.ceil(foot))
    assert np.array_equal(drawn[outside], image[outside])
    inside = drawn[~outside]
    if len(inside):
        wide = min(128, int(np.ceil(right))) - max(0, int(np.floor(left)))
        high = min(96, int(np.ceil(foot))) - max(0, int(np.floor(top)))
        assert len(np.unique(inside, axis=0)) <= 4 * max(1, round(4 * high / wide))


def test_video_is_rendered_with_its_frames_and_times(work, folder, tmp_path):
    for name, drawn in (("plain", RenderSettings()), ("blurred", RenderSettings(blur="people", boxes=False))):
        render(work, "in_1", tmp_path / f"{name}.mp4", drawn, identities="found")
    original, plain, blurred = (
        list(open_footage(path).frames())
        for path in (folder / "in_1.mp4", tmp_path / "plain.mp4", tmp_path / "blurred.mp4")
    )
    assert np.allclose([frame.time for frame in plain], [frame.time for frame in original], atol=1e-3)
    assert len(plain) == len(blurred) == FRAMES
    rows, identity = video_boxes(work, 0), tracklet_identities(work, "found")
    for row in np.flatnonzero((rows["tracklet"] >= 0) & (rows["frame"] == 8)):
        left, top, right, bottom = (int(rows[name][row]) for name in SIDES)
        edge = plain[8].image[(top + bottom) // 2, left].astype(int)
        assert np.abs(edge - colour_of(int(identity[rows["tracklet"][row]]))).max() < 70
        before, after = (frames[8].image[top + 2 : bottom - 2, left + 2 : right - 2] for frames in (original, blurred))
        assert np.abs(before.astype(int) - after.astype(int)).mean() > 3
    with av.open(str(tmp_path / "plain.mp4")) as container:
        assert not container.streams.audio
    with pytest.raises(InputError, match="exists"):
        render(work, "in_1", tmp_path / "plain.mp4", RenderSettings())
    with pytest.raises(InputError, match="did you mean in_1"):
        render(work, "in_11", tmp_path / "new.mp4", RenderSettings())
    with pytest.raises(SettingsError, match=r"\.mp4"):
        render(work, "in_1", tmp_path / "new.avi", RenderSettings())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blurred.mp4", "plain.mp4"]
