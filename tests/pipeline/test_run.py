"""Rounds after rounds, and decisions between them: the same command goes on, and nothing done before is lost."""

import hashlib
import json

import pytest

from reappear.methods.cion.settings import CionSettings
from reappear.pipeline.ingest import IngestSettings
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.report import ReportSettings
from reappear.pipeline.review import ReviewTarget, review
from reappear.pipeline.run import RunSettings, run
from reappear.pipeline.workspace import Workspace
from reappear.train.views import ViewSettings
from tests.pipeline.pretrain_fixture import jpeg, paint

TRAINING = PretrainSettings(
    backbone="cnn6",
    arguments={"width": 4},
    height=32,
    width=16,
    local_height=16,
    local_width=8,
    views=ViewSettings(local_views=1),
    steps=2,
    images_per_step=8,
    method=CionSettings(curriculum=((0.0, 2),), head_hidden=16, head_bottleneck=8, prototypes=16),
    device="cpu",
)


@pytest.fixture
def films(tmp_path):
    """Crops of six people in two cameras."""
    for person in range(6):
        for camera in (0, 1):
            for shot in range(2):
                path = tmp_path / "set" / "bounding_box_train" / f"{person + 1:04d}_c{camera + 1}s1_{shot:06d}_00.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(paint(person, camera=camera, shot=shot)))
    return tmp_path / "set"


def again(films, work, rounds):
    settings = RunSettings(
        rounds=rounds,
        ingest=IngestSettings(workers=1),
        pretrain=TRAINING,
        report=ReportSettings(identities=1, tracklets=1, projected=0),
    )
    page = run([films], work, settings)
    return json.loads(page.with_name("report.json").read_text())


def finished(work):
    """Every file of every finished step, but for the report."""
    return {
        path.relative_to(work.root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in work.root.rglob("*")
        if path.is_file() and path.parent != work.root and ".partial" not in str(path)
    }


def test_changed_number_of_rounds_reuses_finished_rounds(films, tmp_path):
    work = Workspace(tmp_path / "w")
    first = again(films, work, 1)
    after_one = finished(work)
    assert list(first["identities"]) == ["round0"]
    second = again(films, work, 2)
    after_two = finished(work)
    assert list(second["identities"]) == ["round0", "round1"]
    assert after_one.items() <= after_two.items()
    assert {path.name for path in (work.root / "embeddings").iterdir()} == {"round0", "round1", "round2"}
    assert again(films, work, 1) == second
    assert finished(work) == after_two


def test_decisions_create_new_rounds(films, tmp_path):
    work = Workspace(tmp_path / "w")
    again(films, work, 1)
    before = finished(work)
    review(work, "different", ReviewTarget([0, 6]), who="anna")
    decided = again(films, work, 1)
    assert list(decided["identities"]) == ["round0", "round0-review1"]
    assert decided["review"] == {"round0-review1": {"w": {"decisions": {"different": 1}, "overruled": []}}}
    assert before.items() <= finished(work).items()
    after = finished(work)
    assert again(films, work, 1) == decided
    assert finished(work) == after
    assert work.newest_identities() == "round0-review1"
    review(work, "same", ReviewTarget([0, 6]), who="ben")
    assert list(again(films, work, 2)["identities"]) == ["round0", "round0-review1", "round0-review2", "round1-review2"]
    assert after.items() <= finished(work).items()


def test_one_identity_trains_no_model_and_is_reported(films, tmp_path):
    for path in (films / "bounding_box_train").iterdir():
        if not path.name.startswith("0001_c1"):
            path.unlink()
    work = Workspace(tmp_path / "w")
    page = again(films, work, 2)
    assert list(page["identities"]) == ["round0"]
    assert not (work.root / "models").exists()
    assert again(films, work, 2) == page
