"""Whether what was found in videos are people, in report.json and on the page."""

import json

import numpy as np
import pytest

from reappear.pipeline.doubts import examine_detection, unclear_identities
from reappear.pipeline.record import read_record
from reappear.pipeline.report import ReportSettings, report
from reappear.store import CropStore, read_table, write_table

from .report_fixture import build

SMALL = ReportSettings(projected=0, discarded=0, tracklets=0)


def detected(tmp_path, kind, *, truth=False, **changes):
    """A workspace whose record says that a detector of this kind made its crops."""
    work = build(tmp_path / "w", parts=("crops", "embeddings", "identities"), truth=truth)
    path = work.crops / "record.json"
    record = json.loads(path.read_text())
    record["settings"] = {"detector": {"kind": kind}}
    record["counts"] |= {"frames": 100, "detections": 1000, "videos without people": 0} | changes.pop("counts", {})
    path.write_text(json.dumps(record | changes))
    return work


def reshape(work, width):
    """Gives all boxes another width."""
    table = dict(read_table(work.crops / "crops.parquet"))
    table["right"] = (table["left"] + np.resize(width, len(table["left"]))).astype(np.float32)
    write_table(work.crops / "crops.parquet", table)


def found(work):
    return examine_detection(CropStore(work.crops), read_record(work.crops))


def written(work):
    page = report([work], work.root, SMALL)
    return json.loads(page.with_suffix(".json").read_text()), page.read_text()


def test_motion_without_truth_is_told_in_report_and_headline(tmp_path):
    plain, page = written(detected(tmp_path, "motion"))
    (one,) = plain["detection"].values()
    assert one["moving_regions"]
    assert "reappear weights download" in one["warning"]
    headline = page[page.index("<h1>") : page.index("</h1>")]
    assert "up to" in headline
    assert "moving regions" in headline
    assert "reappear weights download" in page


@pytest.mark.parametrize(("kind", "truth"), [("yolox", False), ("motion", True)])
def test_people_are_identities_where_nothing_speaks_against_them(tmp_path, kind, truth):
    plain, page = written(detected(tmp_path, kind, truth=truth))
    (one,) = plain["detection"].values()
    assert not one["moving_regions"]
    assert one["warning"] == ""
    assert "up to" not in page[page.index("<h1>") : page.index("</h1>")]


def test_empty_videos_are_told(tmp_path):
    _, page = written(detected(tmp_path, "yolox", counts={"videos without people": 2}))
    assert "Nobody was found in 2 videos." in page


def test_signs_against_people(tmp_path):
    work = detected(tmp_path, "yolox", dropped={"boxes cut by the edge of the frame": 370})
    assert found(work).signs == ("37% of the boxes are cut by the edge of the frame",)
    reshape(work, [10, 40, 90])
    assert len(found(work).signs) == 2
    _, page = written(work)
    assert "all shapes" in page
    assert "up to" in page[page.index("<h1>") : page.index("</h1>")]


def test_unclear_identities_have_few_crops_or_another_shape(tmp_path):
    work = detected(tmp_path, "motion")
    reshape(work, 20)
    crops = CropStore(work.crops)
    height = np.asarray(crops.crops["bottom"] - crops.crops["top"])
    identity = np.zeros(len(crops), np.int64)
    identity[:2], identity[2:6], identity[6] = 1, 2, -1
    unclear = unclear_identities(crops, identity)
    usual = height / 20
    assert unclear.tolist() == [
        not 1.2 <= np.median(usual[7:]) <= 4.5,
        True,
        not 1.2 <= np.median(usual[2:6]) <= 4.5,
    ]


def test_other_input_has_no_detection(tmp_path):
    work = build(tmp_path / "w", parts=("crops",))
    assert found(work) is None
