import io
import json
import tarfile
from dataclasses import fields

import numpy as np
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from reappear.cli.app import main
from reappear.core import InputError, WorkspaceError, escape_formula, restore_formula
from reappear.data import WRITERS, read, read_image, read_labels, recognise
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.export_data import ExportDataSettings, export_data
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.record import fingerprint
from reappear.pipeline.workspace import Workspace
from reappear.store import read_table, write_csv, write_table
from tests.data.trees import draw

from .ingest.test_videos import Listener, digests


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Four people in two cameras, one image in PNG and one in grey; one discarded crop."""
    root = tmp_path_factory.mktemp("set")
    for i in range(24):
        ending = "png" if i == 5 else "jpg"
        draw(root / "bounding_box_train" / f"{1 + i // 6:04d}_c{1 + i % 2}s1_{i:06d}_00.{ending}", i, size=(16, 32))
    Image.new("L", (16, 32), 77).save(root / "bounding_box_train" / "0004_c1s1_000022_00.jpg")
    work = Workspace(tmp_path_factory.mktemp("w"))
    ingest([root], work, IngestSettings(workers=1))
    videos = read_table(work.crops / "videos.parquet")
    write_table(work.crops / "videos.parquet", {**videos, "name": ["b/film", "a/film"], "camera": ["door", "hall"]})
    give(work, work.open_crops().crops["tracklet"] // 4, discarded=[3])
    return work


LOST = {
    "market1501": {"cameras", "time"},
    "cion_al": {"camera", "sequence", "cameras", "frame", "time"},
    "coco": {"time"},
    "parquet": {"cameras"},
    "webdataset": {"cameras"},
}
"""What of an `ImageTable` does not come back from an export, as docs/how-to-datasets.md says."""


@pytest.mark.parametrize("kind", WRITERS)
def test_documented_columns_round_trip(work, tmp_path, kind):
    """Each field of the table, whichever there are, by image."""
    export_data(work, tmp_path / "out", ExportDataSettings(to=kind), identities="round0")
    back, own = read(kind, tmp_path / "out"), read("workspace", work.root, identities="round0")
    shift = 1 if kind in ("market1501", "cion_al") else 0  # there people, cameras and sequences count from 1
    columns = {field.name for field in fields(own)} - {"path", "skipped", "names"} - LOST[kind]
    rows = {}
    for table, plus in ((own, shift), (back, 0)):
        images = [pixels(read_image(path)) for path in table.path.tolist()]
        for name in columns - {"cameras"}:
            column = getattr(table, name)
            column = column + plus if name in ("identity", "camera", "sequence") else column
            column = np.nan_to_num(column, nan=-1) if column.dtype.kind == "f" else column
            rows.setdefault(name, []).append(dict(zip(images, column.tolist(), strict=True)))
    for name, (wanted, got) in rows.items():
        assert len(got) == 23
        assert got == {image: wanted[image] for image in got}, name
    if "cameras" in columns:
        assert back.cameras == own.cameras == ("door", "hall")
    assert own.names == back.names == ()  # identities have numbers


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).tobytes()


def test_coco_keeps_video_and_camera_names(work, tmp_path):
    export_data(work, tmp_path / "out", ExportDataSettings(to="coco"), identities="round0")
    found = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert found["videos"] == [
        {"id": 0, "name": "b/film", "camera_id": 0, "camera": "door"},
        {"id": 1, "name": "a/film", "camera_id": 1, "camera": "hall"},
    ]
    again = Workspace(tmp_path / "again")
    ingest([tmp_path / "out"], again, IngestSettings(workers=1))
    assert again.open_crops().video_names == ["door", "hall"]
    assert [video.camera for video in again.open_crops().videos] == ["door", "hall"]


def give(work, identity, discarded=()):
    """Identities as `correlate` would leave them, for the parts of it that an export reads."""
    from reappear.store import write_table, write_text

    identity = np.array(identity)
    identity[list(discarded)] = -1
    folder = work.identities("round0")
    write_table(folder / "identities.parquet", {"identity": identity})
    record = json.loads((work.crops / "record.json").read_text())
    write_text(folder / "record.json", json.dumps({**record, "step": "correlate", "fingerprint": "f"}))


@pytest.mark.parametrize("kind", WRITERS)
def test_export_round_trip(work, tmp_path, kind):
    record = export_data(work, tmp_path / "out", ExportDataSettings(to=kind), identities="round0")
    assert recognise(tmp_path / "out") == [kind]
    back, own = read(kind, tmp_path / "out"), read("workspace", work.root, identities="round0")
    kept = own.identity >= 0
    assert record.counts == {"crops": int(kept.sum()), "identities": len(set(own.identity[kept].tolist()))}
    assert record.dropped == {"without an identity": 1}
    assert not back.skipped
    shift = {"market1501": 1, "cion_al": 1}.get(kind, 0)  # there people, cameras and sequences count from 1
    lost = kind == "cion_al"  # which holds no cameras and no tracklets
    got = [
        (read_image(path), person - shift, None if lost else camera - shift, None if lost else sequence - shift)
        for path, person, camera, sequence in zip(
            back.path.tolist(), back.identity.tolist(), back.camera.tolist(), back.sequence.tolist(), strict=True
        )
    ]
    wanted = [
        (read_image(path), person, None if lost else camera, None if lost else sequence)
        for path, person, camera, sequence in zip(
            own.path[kept].tolist(), own.identity[kept].tolist(), own.camera[kept].tolist(),
            own.sequence[kept].tolist(), strict=True,
        )
    ]  # fmt: skip
    if lost:
        assert len(got) == len(wanted)
        wanted = [row for row in wanted if row in got]
        assert len(wanted) == len(got) - 1  # all but the grey one, whose bytes are new
        got = [row for row in got if row in wanted]
    assert sorted(got, key=repr) == sorted(wanted, key=repr)


def test_cion_al_meets_its_loader(work, tmp_path):
    export_data(work, tmp_path / "out", ExportDataSettings(to="cion_al"), identities="round0")
    entries = json.loads((tmp_path / "out" / "cional_annos.json").read_text())
    ids = [entry["id"] for entry in entries]
    assert ids == sorted(ids)
    assert sorted(set(ids)) == list(range(1, entries[-1]["id"] + 1))
    assert {key for entry in entries for key in entry} == {"file_path", "id"}
    for entry in entries:
        with Image.open(tmp_path / "out" / entry["file_path"]) as image:
            assert image.mode == "RGB"


def test_market1501_names_are_parsable(work, tmp_path):
    export_data(work, tmp_path / "out", ExportDataSettings(to="market1501"), identities="round0")
    names = sorted(path.name for path in (tmp_path / "out" / "bounding_box_train").iterdir())
    assert names[0] == "0001_c1s1_000000_00.jpg"
    assert sum(name.endswith(".png") for name in names) == 1
    assert not any(name.startswith("0000") for name in names)


def test_coco_has_tracks_and_videos(work, tmp_path):
    export_data(work, tmp_path / "out", ExportDataSettings(to="coco"), identities="round0")
    result = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [video["id"] for video in result["videos"]] == [0, 1]
    assert {image["video_id"] for image in result["images"]} == {0, 1}
    assert result["annotations"][0].keys() >= {"track_id", "identity_id", "bbox", "category_id", "image_id"}
    assert result["annotations"][0]["bbox"] == [0, 0, 16, 32]
    assert len({image["id"] for image in result["images"]}) == len(result["annotations"]) == 23


def test_parquet_has_image_features_of_datasets(work, tmp_path):
    export_data(work, tmp_path / "out", ExportDataSettings(to="parquet"), identities="given")
    schema = pq.read_schema(tmp_path / "out" / "images-00000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features.keys() == set(schema.names)


def test_webdataset_has_labels_beside_images(work, tmp_path):
    export_data(work, tmp_path / "out", ExportDataSettings(to="webdataset"), identities="tracklet")
    with tarfile.open(tmp_path / "out" / "images-00000.tar") as tar:
        names = tar.getnames()
    assert names[:2] == ["00000000.jpg", "00000000.json"]
    assert len(names) == 48


@pytest.mark.parametrize("kind", WRITERS)
def test_interrupted_export_is_resumed(work, tmp_path, kind, monkeypatch):
    monkeypatch.setattr("reappear.pipeline.export_data._BLOCK", 5)
    export_data(work, tmp_path / "whole", ExportDataSettings(to=kind), identities="round0")

    class Stops(Listener):
        def task(self, title, total, unit):
            return stopping(8)

    with pytest.raises(KeyboardInterrupt):
        export_data(work, tmp_path / "out", ExportDataSettings(to=kind), identities="round0", progress=Stops())
    assert not (tmp_path / "out").exists()
    export_data(work, tmp_path / "out", ExportDataSettings(to=kind), identities="round0")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def stopping(most):
    from contextlib import contextmanager

    @contextmanager
    def task():
        left = [most]

        def tick(units):
            left[0] -= units
            if left[0] < 0:
                raise KeyboardInterrupt

        yield tick

    return task()


def test_existing_target_is_refused(work, tmp_path):
    settings = ExportDataSettings(to="coco")
    export_data(work, tmp_path / "out", settings, identities="round0")
    assert export_data(work, tmp_path / "out", settings, identities="round0").already_done
    with pytest.raises(WorkspaceError, match=r"another to .*coco.*parquet"):
        export_data(work, tmp_path / "out", ExportDataSettings(to="parquet"), identities="round0")
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="mine exists and was not written by export-data"):
        export_data(work, tmp_path / "mine", settings, identities="round0")


def test_invalid_exports_are_refused(work, tmp_path):
    with pytest.raises(InputError, match=r"has no identities 'x'; labels are instance, tracklet, given, true, round0"):
        export_data(work, tmp_path / "a", ExportDataSettings(), identities="x")
    with pytest.raises(InputError, match="no crop has an identity"):
        export_data(work, tmp_path / "b", ExportDataSettings(), identities="true")
    with pytest.raises(InputError, match="label-issues needs identities that `correlate` wrote, not 'given'"):
        export_data(work, tmp_path / "c", ExportDataSettings(to="label-issues"), identities="given")
    np.save(tmp_path / "v.npy", np.eye(4))
    (tmp_path / "v.csv").write_text("label\n1\n1\n2\n2\n")
    vectors = Workspace(tmp_path / "w")
    ingest([tmp_path / "v.npy"], vectors, IngestSettings())
    with pytest.raises(InputError, match="embeddings but no images"):
        export_data(vectors, tmp_path / "d", ExportDataSettings(), identities="given")


@pytest.fixture
def noisy(tmp_path):
    """Labels p0..p5 of 12 rows in two cameras; row 3 of p0 shows p1, p4 is really p5, and p2 is two people."""
    random = np.random.default_rng(0)
    people = np.linalg.qr(random.normal(size=(16, 16)))[0]
    label = np.repeat(np.arange(6), 12)
    person = label.copy()
    person[3] = 1
    person[label == 4] = 5
    camera = np.tile([0] * 6 + [1] * 6, 6)
    person[(label == 2) & (camera == 1)] = 9
    vectors = people[person] + 0.02 * random.normal(size=(72, 16))
    np.save(tmp_path / "v.npy", vectors.astype(np.float32))
    rows = "\n".join(f"p{p},{c},im/{i}.jpg" for i, (p, c) in enumerate(zip(label, camera, strict=True)))
    (tmp_path / "v.csv").write_text("label,camera,path\n" + rows + "\n")
    work = Workspace(tmp_path / "w")
    ingest([tmp_path / "v.npy"], work, IngestSettings())
    correlate(work, "round0", CorrelateSettings(thresholds="paper"), embeddings="round0")
    return work


def test_label_issues_are_wrong_labels(noisy, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["export-data", str(noisy.root), "--to", "label-issues", "--out", str(tmp_path / "s"), "--quiet"])
    assert not stopped.value.code
    result = csv.read_csv(tmp_path / "s" / "label_issues.csv").to_pydict()
    by_reason = {
        reason: {
            (given, suggested)
            for given, suggested, why in zip(result["given"], result["suggested"], result["reason"], strict=True)
            if why == reason
        }
        for reason in result["reason"]
    }
    assert by_reason == {
        "moved to another": {("p0", "p1")},
        "identity merged": {("p5", "p4")},
        "identity split": {("p2", "p2 (2)")},
    }
    moved = result["reason"].index("moved to another")
    assert result["path"][moved] == "im/3.jpg"
    assert result["distance_given"][moved] == pytest.approx(1, abs=0.1)
    assert result["distance_suggested"][moved] == pytest.approx(0, abs=0.1)
    for reason in by_reason:
        scores = [score for score, why in zip(result["score"], result["reason"], strict=True) if why == reason]
        assert scores == sorted(scores, reverse=True)
    assert result["reason"][0] == "moved to another"  # though others have higher scores
    assert result["reason"].count("identity merged") == 12
    assert result["reason"].count("identity split") == 6
    assert "label issues: " in capsys.readouterr().err
    parquet = read_table(tmp_path / "s" / "label_issues.parquet")
    assert parquet["crop"].tolist() == result["crop"]


def test_label_issues_interleave_kinds_by_precision():
    """Of four kinds with a hundred label issues each, the scores of the imprecise ones the highest."""
    from reappear.pipeline.label_issues import PRECISION, _turn

    kinds = sorted(PRECISION, key=lambda kind: PRECISION[kind])
    reason = np.repeat(kinds, 100)
    score = np.repeat([0.9, 0.7, 0.4, 0.2], 100) + np.tile(np.arange(100) / 1000, 4)
    right = np.random.default_rng(0).random(400) < np.array([PRECISION[kind] for kind in reason])
    order = np.argsort(_turn(reason, score, np.arange(400)), kind="stable")
    assert right[order][:100].mean() > right[np.argsort(-score)][:100].mean() + 0.3
    for most in (60, 100, 200):
        first = reason[order][:most]
        shares = [np.count_nonzero(first == kind) for kind in kinds]
        assert shares == sorted(shares)
        assert shares[0] >= 1
        for kind in kinds:  # each with its best first
            mine = score[order][:most][first == kind]
            assert mine.tolist() == sorted(score[reason == kind], reverse=True)[: len(mine)]


def test_newest_identities_are_the_default(noisy, tmp_path):
    correlate(noisy, "again", CorrelateSettings(thresholds="0.2,0.1"), embeddings="round0")
    export_data(noisy, tmp_path / "s", ExportDataSettings(to="label-issues"))
    record = json.loads((tmp_path / "s" / "record.json").read_text())
    assert record["inputs"]["identities"] == fingerprint(noisy.identities("again"))


FORMULAS = ["=1+1", "'=1", "+a", "-b", "@c", "anna", "'anna", "''-d", "-5x", '=HYPERLINK("http://a","b")']


def test_csv_formulas_are_escaped_and_restored(tmp_path):
    """Two people under each label, so that all labels are doubtful."""
    vectors = np.repeat(np.eye(2 * len(FORMULAS), dtype=np.float32), 6, axis=0)
    np.save(tmp_path / "v.npy", vectors)
    label = np.repeat(FORMULAS, 12)
    path = np.array([f"{name}/{i}.jpg" for i, name in enumerate(label)])
    camera = np.tile(np.repeat(["-1st", "2nd"], 6), len(FORMULAS))
    write_csv(tmp_path / "v.csv", {"identity": label, "camera": camera, "path": path})
    work = Workspace(tmp_path / "w")
    ingest([tmp_path / "v.npy"], work, IngestSettings())
    names = read_table(work.crops / "labels.parquet", "name")["name"]
    assert sorted(names) == sorted(FORMULAS)
    correlate(work, "round0", CorrelateSettings(thresholds="paper"), embeddings="round0")
    export_data(work, tmp_path / "s", ExportDataSettings(to="label-issues"))
    exact = read_table(tmp_path / "s" / "label_issues.parquet")
    assert len(exact["crop"]) == 6 * len(FORMULAS)
    for column in csv.read_csv(tmp_path / "s" / "label_issues.csv").to_pydict().values():
        assert not any(isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r")) for cell in column)
    back = read_labels(tmp_path / "s" / "label_issues.csv", labels=("given", "suggested", "reason"))
    for name in ("given", "suggested", "reason"):
        assert [back[name].name(i) if i >= 0 else "" for i in back[name].number.tolist()] == exact[name].tolist()
    assert back["path"].tolist() == exact["path"].tolist()
    scores = csv.read_csv(tmp_path / "s" / "label_issues.csv")["score"].to_numpy()
    assert np.allclose(scores, exact["score"])


@given(st.lists(st.text(st.sampled_from("'=+-@\t\rab \",;1"), max_size=6), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_round_trips_through_csv(tmp_path, texts):
    assert [restore_formula(escape_formula(text)) for text in texts] == texts
    assert not any(escape_formula(text)[:1] in tuple("=+-@\t\r") for text in texts)
    plain = [text.replace("\r", "") for text in texts]
    write_csv(tmp_path / "t.csv", {"path": np.array(plain), "time": np.full(len(plain), -1.5)})
    back = read_labels(tmp_path / "t.csv", labels=(), times=("time",))
    assert back["path"].tolist() == plain
    assert back["time"].tolist() == [-1.5] * len(plain)


def test_videos_only_have_tracklet_issues(tmp_path):
    people = np.eye(4, dtype=np.float32)
    vectors = np.stack([people[0]] * 4 + [people[3]] + [people[1]] * 4 + [people[0]] + [people[0]] * 4)
    np.save(tmp_path / "v.npy", vectors)
    tracklet = [0] * 5 + [1] * 5 + [2] * 4
    (tmp_path / "v.csv").write_text("tracklet,video\n" + "".join(f"{t},{t // 2}\n" for t in tracklet))
    work = Workspace(tmp_path / "w")
    ingest([tmp_path / "v.npy"], work, IngestSettings())
    correlate(work, "round0", CorrelateSettings(thresholds="paper"), embeddings="round0")
    export_data(work, tmp_path / "s", ExportDataSettings(to="label-issues"), identities="round0")
    table = read_table(tmp_path / "s" / "label_issues.parquet")
    rows = dict(zip(table["path"], zip(table["given"], table["suggested"], table["reason"], strict=True), strict=True))
    assert rows == {
        "row 4": ("tracklet 0", "", "left its tracklet"),
        "row 9": ("tracklet 1", "tracklet 0", "moved to another"),
    }
    assert table["distance_given"].tolist() == pytest.approx([1, 1], abs=1e-3)
