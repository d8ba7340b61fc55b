import json

import numpy as np
import pytest

from reappear.cli.app import main
from reappear.core import InputError, SettingsError
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.ingest import IngestSettings, ingest
from reappear.pipeline.workspace import Workspace
from reappear.store import read_embeddings, read_identities, read_table

from .test_videos import Listener


def write(folder, vectors, text):
    np.save(folder / "v.npy", vectors)
    (folder / "v.csv").write_text(text)
    return [folder / "v.npy"]


def lines(header, *columns):
    return header + "\n" + "\n".join(",".join(map(str, row)) for row in zip(*columns, strict=True)) + "\n"


def test_rows_become_tracklets_of_video_and_label(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    text = lines("label,camera", ["bob", "ann", "bob", "ann", "", "bob"], ["b", "a", "a", "a", "a", "b"])
    listener, work = Listener(), Workspace(tmp_path / "w")
    record = ingest(write(tmp_path, vectors, text), work, IngestSettings(), progress=listener)
    crops = work.open_crops()
    order = [1, 3, 2, 0, 5]  # camera a: ann, bob; camera b: bob; the row without a label is left out
    assert read_table(work.crops / "sources.parquet")["row"].tolist() == order
    assert crops.crops["tracklet"].tolist() == [0, 0, 1, 2, 2]
    assert crops.tracklets["video"].tolist() == [0, 0, 1]
    assert [video.camera for video in crops.videos] == ["a", "b"]
    assert read_table(work.crops / "labels.parquet")["name"].tolist() == ["ann", "bob"]
    assert crops.crops["label"].tolist() == [0, 0, 1, 1, 1]
    assert not crops.has_truth
    assert not crops.has_images
    assert record.counts == {"videos": 2, "labels": 2, "tracklets": 3, "crops": 5}
    assert record.dropped == {"unlabelled": 1}
    stored, meta = read_embeddings(work.embeddings("round0"))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.allclose(stored, unit[order], atol=1e-3)
    assert meta["extractor"] == "given (v.npy)"
    assert any("no times are given" in note for note in listener.notes)
    assert any("read as vectors" in note for note in listener.notes)


def test_optional_columns_are_used(tmp_path):
    text = lines(
        "tracklet,video,camera,time,truth",
        [5, 5, 5, 2],
        [1, 1, 0, 0],
        ["y", "y", "x", "x"],
        [3, 1, 0, 9],
        [8, 8, 8, -1],
    )
    work = Workspace(tmp_path / "w")
    ingest(write(tmp_path, np.eye(4), text), work, IngestSettings())
    crops = work.open_crops()
    assert read_table(work.crops / "sources.parquet")["row"].tolist() == [3, 2, 1, 0]
    assert crops.tracklets["start"].tolist() == [9, 0, 1]
    assert crops.tracklets["end"].tolist() == [9, 0, 3]
    assert crops.crops["truth"].tolist() == [-1, 8, 8, 8]
    assert crops.crops["label"].tolist() == [-1] * 4
    assert [(video.camera, video.path) for video in crops.videos] == [("x", tmp_path), ("y", tmp_path)]


def test_vectors_are_correlated_and_scored(tmp_path, capsys):
    random = np.random.default_rng(1)
    people = random.normal(size=(8, 32))
    person = np.repeat(np.arange(8), 20)
    vectors = people[person] + 0.3 * random.normal(size=(160, 32))
    write(tmp_path, vectors.astype(np.float16), lines("label,camera", person, np.tile([0, 1], 80)))
    work, settings = Workspace(tmp_path / "w"), IngestSettings(layout="vectors", labels_are_truth=True)
    ingest([tmp_path / "v.npy", tmp_path / "v.csv"], work, settings)
    correlate(work, "round0", CorrelateSettings(thresholds="paper"), embeddings="round0")
    found = read_identities(work.identities("round0"))
    assert found.report["stages"][-1]["scores"]["pairwise_f1"] == 1
    assert found.assignment.identities == 8
    assert main_exit(["run", str(tmp_path / "v.npy"), "--out", str(tmp_path / "w2"), "--quiet"]) == 0
    assert (tmp_path / "w2" / "report.html").exists()
    assert "no model is trained" in capsys.readouterr().err
    for command in ("embed", "pretrain"):
        assert main_exit([command, str(tmp_path / "w"), "--name", "x"]) == 1
        assert "embeddings but no images" in capsys.readouterr().err


def main_exit(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return stopped.value.code or 0


def test_zero_and_nonfinite_vectors_are_counted_and_ignored(tmp_path):
    vectors = np.array([[1, 0], [np.nan, 1], [0, 0], [np.inf, 1], [1e30, 1e30]], np.float32)
    work = Workspace(tmp_path / "w")
    record = ingest(write(tmp_path, vectors, lines("label", [1, 1, 1, 2, 2])), work, IngestSettings())
    assert record.dropped == {"vectors that are zero or not finite": 3}
    stored, _ = read_embeddings(work.embeddings("round0"))
    assert np.allclose(stored, [[1, 0], [0, 0], [0, 0], [0, 0], [0.5**0.5, 0.5**0.5]], atol=1e-3)


def test_again_is_already_done_and_other_labels_are_refused(tmp_path):
    work = Workspace(tmp_path / "w")
    sources = write(tmp_path, np.eye(3), lines("label", [1, 1, 2]))
    ingest(sources, work, IngestSettings())
    assert ingest(sources, work, IngestSettings()).already_done
    (tmp_path / "v.csv").write_text(lines("label", [1, 2, 2]))
    with pytest.raises(Exception, match="another input: labels"):
        ingest(sources, work, IngestSettings())
    assert json.loads((work.embeddings("round0") / "record.json").read_text())["step"] == "embed"


@pytest.mark.parametrize(
    ("vectors", "text", "message"),
    [
        (np.eye(3), "label\n1\n2\n", "v.csv has 2 lines for 3 vectors in .*v.npy"),
        (np.eye(2), "name,kind\n1,2\n1,2\n", "neither a column identity nor a column tracklet; it has name, kind"),
        (np.eye(2), "label\n-1\n-1\n", "no usable label"),
        (np.eye(2), "tracklet,video,camera\n1,1,1\n1,1,2\n", "video 1 has more than one camera"),
        (np.zeros((2, 3)), "label\n1\n2\n", "all vectors are zero or not finite; embed again"),
        (np.zeros(3), "label\n1\n", r"one vector a row; got float64 \(3,\)"),
        (np.zeros((0, 3)), "label\n", r"no vectors; its shape is \(0, 3\)"),
        (np.array([["a"]]), "label\n1\n", "one vector a row; got <U1"),
        (np.array([[object()]]), "label\n1\n", "cannot be read as a .npy"),
    ],
)
def test_mismatched_input_is_one_line(tmp_path, vectors, text, message):
    sources = write(tmp_path, vectors, text)
    with pytest.raises(InputError, match=message) as error:
        ingest(sources, Workspace(tmp_path / "w"), IngestSettings())
    assert "\n" not in str(error.value)


def test_missing_parts_are_named(tmp_path):
    work = Workspace(tmp_path / "w")
    with pytest.raises(InputError, match=r"v\.npy does not exist"):
        ingest([tmp_path / "v.npy", tmp_path / "v.csv"], work, IngestSettings())
    np.save(tmp_path / "v.npy", np.eye(2))
    with pytest.raises(InputError, match=r"needs a table of labels: v\.csv beside it"):
        ingest([tmp_path / "v.npy"], work, IngestSettings())
    (tmp_path / "t.npy").write_text("no array")
    (tmp_path / "t.csv").write_text("label\n1\n")
    with pytest.raises(InputError, match=r"t\.npy"):
        ingest([tmp_path / "t.npy"], work, IngestSettings())
    with pytest.raises(InputError, match=r"one \.npy and one \.csv or \.parquet with its labels, got v\.npy, t\.npy"):
        ingest([tmp_path / "v.npy", tmp_path / "t.npy"], work, IngestSettings())
    with pytest.raises(SettingsError, match=r"layout: unknown kind 'vector'"):
        ingest([tmp_path / "v.npy"], work, IngestSettings(layout="vector"))
