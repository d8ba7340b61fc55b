"""What is handed on names no folder of this machine: reports, evaluations, lists, exports and model cards."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from reappear.methods.cion.settings import CionSettings
from reappear.pipeline.correlate import CorrelateSettings
from reappear.pipeline.evaluate import EvaluateSettings, evaluate
from reappear.pipeline.export_data import ExportDataSettings, export_data
from reappear.pipeline.ingest import IngestSettings
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.report import ReportSettings, report
from reappear.pipeline.run import RunSettings, run
from reappear.pipeline.workspace import Workspace
from reappear.store import read_table
from reappear.train.views import ViewSettings

MARKER = "anna-lovelace"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tiny_world, tmp_path_factory):
    """A run on two videos of one name, and evaluations, in a folder with a user name."""
    home = tmp_path_factory.mktemp("home") / MARKER
    for number, film in enumerate(sorted((tiny_world / "films").glob("*.mp4"))[:2]):
        (home / "films" / f"c{number}").mkdir(parents=True)
        shutil.copy(film, home / "films" / f"c{number}" / "film.mp4")
    shutil.copytree(tiny_world / "test", home / "test")
    work = Workspace(home / "w" / "work")
    training = PretrainSettings(
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
        validation=home / "test",
        device="cpu",
    )
    settings = RunSettings(
        rounds=1,
        ingest=IngestSettings(workers=1),
        correlate=CorrelateSettings(thresholds="paper"),
        pretrain=training,
        report=ReportSettings(identities=1, tracklets=1, projected=3, projection="pca"),
    )
    run([home / "films"], work, settings)
    models = ["color", str(work.model("round0"))]
    evaluate(work, EvaluateSettings(bootstrap=10), data=[home / "test"], models=models)
    np.savez(home / "q.npz", features=np.eye(4), ids=np.arange(4), paths=[f"{home}/{i}.jpg" for i in range(4)])
    np.savez(home / "g.npz", features=np.eye(4) + 0.1, ids=np.arange(4))
    other = Workspace(home / "v" / "work")
    evaluate(other, EvaluateSettings(protocol="no-camera"), data=[home / "q.npz", home / "g.npz"])
    shutil.copytree(work.crops, other.crops)
    shutil.copytree(work.parts, other.parts)
    report([work, other], home / "both", replace(settings.report, projected=0))
    vectors = Workspace(home / "vectors")
    np.save(home / "v.npy", np.repeat(np.eye(2, dtype=np.float32), 4, axis=0))
    rows = [f"p0,{home}/images/{i}.jpg" for i in range(8)]
    (home / "v.csv").write_text("\n".join(["label,path", *rows]) + "\n")
    run([home / "v.npy", home / "v.csv"], vectors, settings)
    export_data(vectors, home / "out" / "vectors", ExportDataSettings(to="label-issues"))
    (home / "v.csv").unlink()
    issues = read_table(home / "out" / "vectors" / "label_issues.parquet")
    assert issues["path"].tolist() == [f"{i}.jpg" for i in range(4)]
    for kind in ("label-issues", "coco", "parquet", "webdataset", "market1501", "cion_al"):
        export_data(work, home / "out" / kind, ExportDataSettings(to=kind))
    return home


def handed_on(home):
    """What people send to others: all of an export, models but for their records, and pages, numbers and lists."""
    files = [path for path in home.rglob("*") if path.is_file() and not path.is_relative_to(home / "test")]
    found = [path for path in files if path.suffix in (".html", ".csv", ".json") or path.parent.parent.name == "models"]
    found = [path for path in found if path.name != "record.json"]
    return [*found, *(path for path in files if path.is_relative_to(home / "out"))]


def test_shared_outputs_contain_no_local_folders(home):
    paths = handed_on(home)
    names = {path.name for path in paths}
    assert names >= {
        "report.html",
        "report.json",
        "evaluation.html",
        "evaluation.json",
        "label_issues.csv",
        "config.json",
        "README.md",
    }
    assert [str(path.relative_to(home)) for path in paths if MARKER.encode() in path.read_bytes()] == []


def test_equal_video_and_workspace_names_get_parent_folders(home):
    assert Workspace(home / "w" / "work").open_crops().video_names == ["c0/film", "c1/film"]
    assert json.loads((home / "both" / "report.json").read_text())["runs"] == ["w/work", "v/work"]
