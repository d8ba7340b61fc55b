import json

import cv2
import numpy as np
import pytest

from reappear.core import InputError, SettingsError
from reappear.pipeline.evaluate import EvaluateSettings, evaluate
from reappear.pipeline.workspace import Workspace

COLORS = {1: (200, 30, 30), 2: (30, 200, 30), 3: (30, 30, 200)}


def picture(path, color, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.clip(np.full((32, 16, 3), color) + shade, 0, 255).astype(np.uint8)
    image[16:] //= 2
    cv2.imwrite(str(path), image)


def market(root, cameras=(1, 2)):
    for person, color in COLORS.items():
        picture(root / "query" / f"{person:04d}_c{cameras[0]}s1_000000_00.jpg", color)
        picture(root / "bounding_box_test" / f"{person:04d}_c{cameras[-1]}s1_000001_00.jpg", color, shade=10)
    picture(root / "bounding_box_test" / "0000_c2s1_000002_00.jpg", (120, 120, 120))
    return root


def test_scores_and_lists(tmp_path):
    data = market(tmp_path / "set")
    work = Workspace(tmp_path / "work")
    record = evaluate(work, "color", EvaluateSettings(top=3), data=data)
    scores = json.loads((work.evaluation("color") / "scores.json").read_text())
    assert scores["mean_ap"] == record.counts["mean_ap"] == 1.0
    assert scores["cmc"] == [1.0] * 50
    assert (scores["queries"], scores["valid_queries"], scores["gallery"]) == (3, 3, 4)
    assert (scores["name"], scores["protocol"], scores["extractor"]) == ("color", "market", "color")
    with np.load(work.evaluation("color") / "ranking.npz", allow_pickle=False) as lists:
        assert lists["top"].shape == lists["hit"].shape == lists["distance"].shape == (3, 3)
        first = lists["gallery_path"][lists["top"][:, 0]]
        assert [path.rsplit("/", 1)[1][:4] for path in first] == ["0001", "0002", "0003"]
        assert lists["hit"].tolist() == [[True, False, False]] * 3
        assert lists["ap"].tolist() == [1, 1, 1]
    assert evaluate(work, "color", EvaluateSettings(top=3), data=data).already_done


def test_what_cannot_be_read_is_counted(tmp_path):
    data = market(tmp_path / "set")
    (data / "bounding_box_test" / "0004_c2s1_000009_00.jpg").write_bytes(b"no image")
    (data / "bounding_box_test" / "0005_c2s1_000009_00.jpg").write_bytes(b"")
    (data / "bounding_box_test" / "Thumbs.db").write_bytes(b"x")
    picture(data / "query" / "0009_c1s1_000000_00.jpg", (9, 9, 9))
    work = Workspace(tmp_path / "work")
    evaluate(work, "color", EvaluateSettings(), data=data)
    scores = json.loads((work.evaluation("color") / "scores.json").read_text())
    assert scores["skipped"] == {"not an image file": 1, "images that cannot be decoded": 2}
    assert scores["reasons"] == {"its person is not in the gallery": 1}
    assert (scores["queries"], scores["valid_queries"]) == (4, 3)


def one_camera(data):
    market(data, cameras=(2, 2))


def no_camera(data):
    market(data)
    picture(data / "query" / "0001_0.jpg", COLORS[1])


def no_gallery(data):
    picture(data / "query" / "0001_c1s1_000000_00.jpg", COLORS[1])


def no_readable_query(data):
    market(data)
    for path in (data / "query").iterdir():
        path.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (one_camera, "all images are of camera 2, and the protocol market looks for people in other cameras; choose"),
        (no_camera, "the name says no camera .* or choose the protocol no-camera"),
        (no_gallery, "bounding_box_test is missing or holds no images"),
        (no_readable_query, "no image of the query can be read, first .*0001_c1s1_000000_00.jpg"),
    ],
)
def test_mistakes_are_named(tmp_path, build, said):
    build(tmp_path / "set")
    with pytest.raises(InputError, match=said) as caught:
        evaluate(Workspace(tmp_path / "work"), "color", EvaluateSettings(), data=tmp_path / "set")
    assert "\n" not in str(caught.value)


def test_one_camera_is_fine_where_cameras_do_not_count(tmp_path):
    one_camera(tmp_path / "set")
    work = Workspace(tmp_path / "work")
    evaluate(work, "color", EvaluateSettings(protocol="no-camera"), data=tmp_path / "set")
    assert json.loads((work.evaluation("color") / "scores.json").read_text())["mean_ap"] == 1.0


def test_settings_out_of_range(tmp_path):
    market(tmp_path / "set")
    with pytest.raises(SettingsError, match="top: must be 1 or more, got 0"):
        evaluate(Workspace(tmp_path / "work"), "color", EvaluateSettings(top=0), data=tmp_path / "set")
