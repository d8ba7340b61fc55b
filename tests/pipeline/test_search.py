"""Searches for people, against a literal reference; queries of all kinds; what a query's vector is."""

import csv
import io
import json

import cv2
import numpy as np
import pytest

from reappear.cli.app import main
from reappear.core import Assignment, InputError, SettingsError, WorkspaceError
from reappear.denoise import Trace
from reappear.models.extractors import ColorSettings, OnnxSettings
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed, embed_like
from reappear.pipeline.ingest.external import ExternalCrops, ExternalVideos, write_external
from reappear.pipeline.record import Outcome, run_step
from reappear.pipeline.search import Query, SearchSettings, search
from reappear.pipeline.workspace import Workspace
from reappear.store import (
    Identities,
    ShardWriter,
    read_embeddings,
    shard_path,
    write_embeddings,
    write_identities,
    write_table,
)
from tests.models.extractors.test_extractors import onnx_file
from tests.pipeline.pretrain_fixture import jpeg, paint
from tests.video.films import write_film

LENGTHS = (3, 1, 4, 2, 5, 3, 2, 4)  # crops of each tracklet; two tracklets a video, two videos a camera
WIDTH = 6


@pytest.fixture
def work(tmp_path):
    """Eight tracklets of four people in four videos of two cameras, with images, and random vectors `random`."""
    work = Workspace(tmp_path / "w")
    count, lengths = sum(LENGTHS), np.array(LENGTHS)
    tracklet = np.repeat(np.arange(len(lengths)), lengths)
    start = np.array([0.0, 10, 0, 10, 0, 10, 0, np.nan])
    random = np.random.default_rng(0)

    def fill(staging):
        with ShardWriter(shard_path(staging, 0)) as shard:
            images = [jpeg(paint(t % 4, camera=t // 4, shot=i)) for i, t in enumerate(tracklet.tolist())]
            offset, size = np.array([shard.add(f"{i}.jpg", image) for i, image in enumerate(images)]).T
        crops = {"video": tracklet // 2, "tracklet": tracklet, "shard": 0 * tracklet, "offset": offset, "size": size}
        write_table(staging / "crops.parquet", crops)
        times = {"video": np.arange(8) // 2, "start": start, "end": start + 5, "crops": lengths}
        write_table(staging / "tracklets.parquet", times)
        names = [f"film{i}" for i in range(4)]
        sizes = {"width": np.full(4, 64), "height": np.full(4, 128), "rate": np.full(4, 8.0), "frames": np.full(4, 9)}
        videos = {"name": names, "path": names, "camera": ["in", "in", "out", "out"], **sizes}
        write_table(staging / "videos.parquet", videos)
        return Outcome(made=count)

    def fill_vectors(staging):
        vectors = random.standard_normal((count, WIDTH))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[5] = 0
        write_embeddings(staging, vectors, {"extractor": "random"})
        return Outcome(made=count)

    run_step(work.crops, step="ingest", settings={}, inputs={}, work=fill)
    run_step(
        work.embeddings("random"),
        step="embed",
        settings={"extractor": {"kind": "given"}},
        inputs={"crops": work.crops},
        work=fill_vectors,
    )
    return work


def identify(work):
    """Identities by the number of the tracklet; the last crop is discarded."""
    owner = np.repeat(np.arange(8), LENGTHS)
    identity = np.where(np.arange(len(owner)) == len(owner) - 1, -1, owner % 4)

    def fill(staging):
        assignment = Assignment(owner, np.arange(8) % 4)
        write_identities(staging, Identities(assignment, Trace().link_columns(), {}, {"stages": []}))
        write_table(staging / "identities.parquet", {"identity": identity})
        return Outcome(made=4)

    run_step(work.identities("found"), step="correlate", settings={}, inputs={"crops": work.crops}, work=fill)
    return identity


def by_hand(vectors, query, own, allowed=range(8)):
    """Distance of each tracklet, one crop at a time."""
    out, row = [], 0
    for tracklet, length in enumerate(LENGTHS):
        known = [i for i in range(row, row + length) if vectors[i].any()]
        row += length
        if known and tracklet not in own and tracklet in allowed:
            distances = {i: 1 - float(np.dot(vectors[i].astype(float), query)) for i in known}
            crop = min(distances, key=lambda i: distances[i])
            out.append((distances[crop], tracklet, crop))
    return sorted(out)


def listed(found):
    return [(one.distance, one.tracklet, one.crop) for one in found.sightings]


def test_ranks_as_the_reference_for_each_crop(work):
    vectors, _ = read_embeddings(work.embeddings("random"))
    owner = np.repeat(np.arange(8), LENGTHS)
    for crop in range(len(owner)):
        if crop == 5:
            with pytest.raises(InputError, match="no embedding"):
                search(work, Query(f"crop:{crop}"), SearchSettings())
            continue
        unit = vectors[crop].astype(float) / np.linalg.norm(vectors[crop].astype(float))
        expected = by_hand(vectors, unit, own={owner[crop]})
        found = listed(search(work, Query(f"crop:{crop}"), SearchSettings()))
        assert [one[1:] for one in found] == [one[1:] for one in expected]
        assert np.allclose([one[0] for one in found], [one[0] for one in expected], atol=1e-5)
        assert listed(search(work, Query(f"crop:{crop}"), SearchSettings(top=3))) == found[:3]


def test_result_is_the_same_with_any_memory(work, monkeypatch):
    expected = search(work, Query("crop:0"), SearchSettings())
    monkeypatch.setattr("reappear.pipeline.search._NEEDED", 0)
    with pytest.raises(SettingsError, match="memory"):
        search(work, Query("crop:0"), SearchSettings(memory="1KB"))
    for memory in ("3KB", "4KB", "10KB"):
        assert listed(search(work, Query("crop:0"), SearchSettings(memory=memory))) == listed(expected)


def test_filters_list_a_subset_in_the_same_order(work):
    everything = listed(search(work, Query("crop:0"), SearchSettings()))
    for settings, allowed in (
        (SearchSettings(camera="out"), {4, 5, 6, 7}),
        (SearchSettings(after=6), {1, 3, 5}),
        (SearchSettings(before=9), {0, 2, 4, 6}),
        (SearchSettings(after=5, before=10), {0, 1, 2, 3, 4, 5, 6}),
        (SearchSettings(camera="in", before=0), {0, 2}),
    ):
        found = listed(search(work, Query("crop:0"), settings))
        assert found == [one for one in everything if one[1] in allowed]
    with pytest.raises(SettingsError, match="unknown camera 'hall'"):
        search(work, Query("crop:0"), SearchSettings(camera="hall"))


def test_identity_is_searched_for_by_the_mean_of_its_crops(work):
    identity = identify(work)
    vectors, _ = read_embeddings(work.embeddings("random"))
    mean = vectors[identity == 1].astype(float).sum(axis=0)
    found = search(work, Query("identity:1"), SearchSettings())
    expected = by_hand(vectors, mean / np.linalg.norm(mean), own={1, 5})
    assert [one[1:] for one in listed(found)] == [one[1:] for one in expected]
    assert found.identities == "found"
    for one in found.sightings:
        assert one.identity == (None if identity[one.crop] < 0 else identity[one.crop])
    with pytest.raises(InputError, match="no identity 9"):
        search(work, Query("identity:9"), SearchSettings())
    with pytest.raises(SettingsError, match="--time"):
        search(work, Query("identity:1", time=2.0), SearchSettings())


def test_image_is_embedded_as_the_crops_were(work, tmp_path):
    """The vectors of the crops' own images are those stored, by one extractor and by two side by side."""
    model = onnx_file(tmp_path / "mean.onnx")
    embed(work, "colour", EmbedSettings(extractor=ColorSettings(), flip=True))
    embed(work, "both", EmbedSettings(extractor=OnnxSettings(weights=model), beside="colour"))
    store = work.open_crops()
    images = list(store.images())
    for name in ("colour", "both"):
        stored, _ = read_embeddings(work.embeddings(name))
        assert np.allclose(embed_like(work, name, images), stored, atol=2e-3)
        photo = tmp_path / f"{name}.jpg"
        photo.write_bytes(images[7])
        first = search(work, Query(str(photo)), SearchSettings(), embeddings=name).sightings[0]
        assert first.tracklet == store.origin[7]
        assert first.distance < 1e-3
    assert search(work, Query("crop:0"), SearchSettings()).embeddings == "both"
    with pytest.raises(InputError, match="search by crop:N"):
        search(work, Query(str(photo)), SearchSettings(), embeddings="random")
    onnx_file(model, batch="other")
    with pytest.raises(InputError, match=r"mean.onnx has another content"):
        search(work, Query(str(photo)), SearchSettings(), embeddings="both")


def test_box_in_a_video_and_in_an_image(work, tmp_path):
    embed(work, "colour", EmbedSettings())
    person = cv2.resize(paint(2, camera=0, shot=0), (24, 60))
    frames = []
    for i in range(16):
        frame = np.full((96, 128, 3), 90, np.uint8)
        if i >= 8:
            frame[20:80, 40:64] = person
        frames.append(frame)
    film = write_film(tmp_path / "new.mp4", frames, rate=8)
    found = search(work, Query(str(film), time=1.5, box=(40.0, 20.0, 64.0, 80.0)), SearchSettings(top=2))
    assert {one.tracklet % 4 for one in found.sightings} == {2}
    cv2.imwrite(str(tmp_path / "photo.png"), frames[12][..., ::-1])
    photo = search(work, Query(str(tmp_path / "photo.png"), box=(40.0, 20.0, 64.0, 80.0)), SearchSettings(top=2))
    assert [one.tracklet for one in photo.sightings] == [one.tracklet for one in found.sightings]
    before = search(work, Query(str(film), time=0.5, box=(40.0, 20.0, 64.0, 80.0)), SearchSettings())
    assert before.sightings[0].distance > found.sightings[0].distance
    for query, problem in (
        (Query(str(film)), "--time"),
        (Query(str(film), time=1.0), "--box"),
        (Query(str(film), time=-1.0, box=(40.0, 20.0, 64.0, 80.0)), "from 0"),
        (Query(str(film), time=float("nan"), box=(40.0, 20.0, 64.0, 80.0)), "from 0"),
        (Query(str(film), time=1.0, box=(140.0, 20.0, 164.0, 80.0)), "not inside"),
        (Query(str(film), time=1.0, box=(60.0, 20.0, 40.0, 80.0)), "no area"),
        (Query(str(tmp_path / "photo.png"), time=1.0), "not a video"),
    ):
        with pytest.raises(SettingsError, match=problem):
            search(work, query, SearchSettings())
    with pytest.raises(InputError, match=r"ends at 1.875 s"):
        search(work, Query(str(film), time=9.0, box=(40.0, 20.0, 64.0, 80.0)), SearchSettings())


def test_command_prints_json_and_csv_and_draws(work, tmp_path, capsys):
    identify(work)
    root = str(work.root)
    main_without_exit(["search", root, "crop:0", "--top", "3", "--json", "-q"])
    plain = json.loads(capsys.readouterr().out)
    assert plain["query"] == "crop:0"
    assert [one["rank"] for one in plain["sightings"]] == [1, 2, 3]
    main_without_exit(["search", root, "crop:0", "--top", "3", "--csv", "-q", "--picture", str(tmp_path / "s.png")])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0]) == list(plain["sightings"][0])
    for row, one in zip(rows, plain["sightings"], strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in one.items()}
    assert cv2.imread(str(tmp_path / "s.png")).shape[0] == 4 * 136
    main_without_exit(["search", root, "crop:0", "-q"])
    assert "identities found" in capsys.readouterr().out


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Eighty people, two to four tracklets each, in four videos, with vectors near those of their person."""
    random, root = np.random.default_rng(7), tmp_path_factory.mktemp("crowd")
    work = Workspace(root / "w")
    work.make()
    person = np.repeat(np.arange(80), random.integers(2, 5, 80))
    video = random.integers(0, 4, len(person))
    place = np.lexsort((person, video))
    truth = np.repeat(person[place], 3)
    tracklet = np.repeat(np.arange(len(place)), 3)
    rows = ExternalCrops(np.repeat(video[place], 3), tracklet, 0 * truth - 1, tracklet * 20.0, truth)
    none = 0 * truth - 1
    places = dict.fromkeys(("shard", "offset", "size"), none) | dict.fromkeys(("width", "height"), 0 * none)
    look = random.standard_normal((80, 24))
    vectors = look[truth] + 0.45 * random.standard_normal((len(place), 24))[tracklet]
    vectors += 0.2 * random.standard_normal(vectors.shape)

    def fill(staging):
        names = [f"film{i}" for i in range(4)]
        videos = ExternalVideos(names, names, root)
        write_external(staging, rows, videos, labels=[], places=places, source={"row": none}, has_truth=True)
        return Outcome(made=len(truth))

    def fill_vectors(staging):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        write_embeddings(staging, unit, {"extractor": "random"})
        return Outcome(made=len(truth))

    run_step(work.crops, step="ingest", settings={}, inputs={}, work=fill)
    given = {"extractor": {"kind": "given"}}
    inputs = {"crops": work.crops}
    run_step(work.embeddings("round0"), step="embed", settings=given, inputs=inputs, work=fill_vectors)
    run_step(work.embeddings("other"), step="embed", settings={}, inputs=inputs, work=fill_vectors)
    correlate(work, "round0", CorrelateSettings(), embeddings="round0")
    return work, truth[::3]


def test_sightings_are_as_often_right_as_they_say(crowd):
    work, truth = crowd
    for embeddings in ("round0", "other"):
        sure, right = [], []
        for tracklet in range(0, len(truth), 8):
            found = search(work, Query(f"tracklet:{tracklet}"), SearchSettings(top=12), embeddings=embeddings).sightings
            mine = [one.probability for one in found]
            assert mine == sorted(mine, reverse=True)
            sure += mine
            right += [truth[one.tracklet] == truth[tracklet] for one in found]
        assert min(sure) >= 0
        assert max(sure) <= 1
        assert abs(np.mean(sure) - np.mean(right)) < 0.08
        high = np.array(sure) >= np.quantile(sure, 0.9)
        assert abs(np.mean(np.array(sure)[high]) - np.mean(np.array(right)[high])) < 0.15


def test_probability_does_not_depend_on_filters_or_number(crowd):
    work, _ = crowd
    every = {one.tracklet: one.probability for one in search(work, Query("crop:0"), SearchSettings()).sightings}
    for settings in (SearchSettings(top=3), SearchSettings(camera="film2")):
        for one in search(work, Query("crop:0"), settings).sightings:
            assert one.probability == every.get(one.tracklet, one.probability)


def test_probability_is_empty_without_links_that_have_one(crowd, work, capsys):
    closed, _ = crowd
    if not closed.identities("closed").exists():
        correlate(closed, "closed", CorrelateSettings(linking="closure"), embeddings="round0")
    main_without_exit(["search", str(closed.root), "crop:0", "--identities", "closed", "--csv"])
    out, told = capsys.readouterr()
    assert {row["probability"] for row in csv.DictReader(io.StringIO(out))} == {""}
    assert len([line for line in told.splitlines() if "no probability" in line and "closed" in line]) == 1
    main_without_exit(["search", str(work.root), "crop:0", "--json"])
    out, told = capsys.readouterr()
    assert {one["probability"] for one in json.loads(out)["sightings"]} == {None}
    assert "reappear correlate" in told
    main_without_exit(["search", str(closed.root), "crop:0", "-q"])
    assert "probability" in capsys.readouterr().out


def test_embeddings_of_other_crops_are_refused(work):
    folder = work.crops
    (folder / "record.json").write_text((folder / "record.json").read_text().replace('"ingest"', '"other"'))
    record = json.loads((folder / "record.json").read_text())
    record["fingerprint"] = "0"
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(WorkspaceError, match="made of other crops"):
        search(work, Query("crop:0"), SearchSettings())


def main_without_exit(arguments):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert not done.value.code
