import json
from xml.etree import ElementTree

import numpy as np
import pytest

from reappear.core import SILENT, InputError, SettingsError, WorkspaceError, generator
from reappear.denoise import noise_score
from reappear.pipeline.correlate import BASELINE, SO_FAR, CorrelateSettings, correlate, identify
from reappear.pipeline.record import Outcome, run_step
from reappear.pipeline.workspace import Workspace
from reappear.store import read_embeddings, read_identities, write_embeddings, write_table

PEOPLE, VIDEOS, CROPS, WIDTH = 60, 4, 6, 12


def pretend(root, *, truth=True, empty=(), rows=None, people=PEOPLE, videos=VIDEOS):
    """A workspace as ingest and embed leave it: people pass through each video, and some crops show another."""
    work = Workspace(root)
    draw = generator(0, "people")
    center = draw.normal(size=(people, WIDTH))
    shown, video, start = [], [], []
    for v in range(videos):
        for order, who in enumerate(draw.permutation(np.append(np.arange(people - 10), np.arange(10)))):
            others = draw.integers(0, people, CROPS)
            shown.append(np.where(draw.random(CROPS) < 0.08, others, who))
            video.append(v)
            start.append(order * 1.0)
    shown, video, start = np.array(shown), np.array(video), np.array(start)
    crops = shown.size
    vectors = center[shown.ravel()] + 0.35 * draw.normal(size=(crops, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[list(empty)] = 0

    def fill_crops(staging):
        write_table(staging / "crops.parquet", {"video": np.repeat(video, CROPS), "truth": shown.ravel()})
        write_table(
            staging / "tracklets.parquet",
            {"video": video, "start": start, "end": start + 4, "crops": np.full(len(video), CROPS)},
        )
        columns = {"path": [f"{v}.mp4" for v in range(videos)], "camera": [f"c{v}" for v in range(videos)]}
        numbers = dict.fromkeys(("width", "height", "frames"), np.full(videos, 9)) | {"rate": np.full(videos, 8.0)}
        write_table(staging / "videos.parquet", columns | numbers | {"truth": np.full(videos, truth)})
        return Outcome()

    def fill_embeddings(staging):
        write_embeddings(staging, vectors[:rows], {"extractor": "pretended"})
        return Outcome()

    run_step(work.crops, step="ingest", settings={}, inputs={}, work=fill_crops)
    run_step(work.embeddings("e"), step="embed", settings={}, inputs={}, work=fill_embeddings)
    return work


def report_of(work, name="i"):
    return json.loads((work.identities(name) / "report.json").read_text())


def test_correlate_improves_on_tracklets_and_reports_scores(tmp_path):
    work = pretend(tmp_path)
    record = correlate(work, "i", CorrelateSettings(), embeddings="e")
    report = report_of(work)
    stages = report["stages"]
    assert [stage["name"] for stage in stages] == [BASELINE, "single-tracklet", "reallocation", "average-link"]
    first, last = stages[0]["scores"], stages[-1]["scores"]
    assert last["pairwise_f1"] > first["pairwise_f1"] + 0.3
    assert last["bcubed_f1"] > first["bcubed_f1"] + 0.3
    noise = [stage["noise"] for stage in stages]
    assert noise == sorted(noise, reverse=True)
    assert noise[-1] < noise[0]
    assert report["thresholds"]["rules"] == ["calibrated", "calibrated"]
    assert report["thresholds"]["evidence"]["simultaneous"] > 50
    assert report["embeddings"] == {"name": "e", "extractor": "pretended", "rows": 1440, "width": WIDTH}

    found = read_identities(work.identities("i"))
    assert found.assignment.identities == stages[-1]["identities"] == record.counts["identities"]
    assert len(found.links["first"]) == sum(stage["tracklets_merged"] for stage in stages)
    assert len(found.links["first"]) == stages[0]["identities"] - stages[-1]["identities"]
    gone = int((found.assignment.tracklet < 0).sum())
    assert record.dropped["outliers without a matching tracklet in their video"] == gone
    assert stages[1]["crops_discarded"] - stages[2]["crops_moved"] == gone

    vectors, _ = read_embeddings(work.embeddings("e"))
    tracklets = work.open_crops().tracklet_set(vectors)
    sigmas = {key: report["thresholds"][key] for key in ("sigma_cst", "sigma_drm")}
    assert noise[-1] == pytest.approx(noise_score(tracklets, found.assignment, **sigmas))


def test_ground_truth_does_not_change_identities(tmp_path):
    work = pretend(tmp_path)
    crops = work.open_crops()
    vectors, _ = read_embeddings(work.embeddings("e"))
    tracklets, truth = crops.tracklet_set(vectors), crops.crops["truth"]
    one, _ = identify(tracklets, CorrelateSettings(), truth=truth)
    other, _ = identify(tracklets, CorrelateSettings(), truth=None)
    assert one.assignment.identity.tolist() == other.assignment.identity.tolist()
    assert one.assignment.tracklet.tolist() == other.assignment.tracklet.tolist()
    assert "scores" not in other.report["stages"][-1]


def test_without_truth_there_are_no_scores(tmp_path):
    work = pretend(tmp_path, truth=False)
    correlate(work, "i", CorrelateSettings(), embeddings="e")
    assert all("scores" not in stage for stage in report_of(work)["stages"])


def test_crops_without_embeddings_are_discarded_first(tmp_path):
    work = pretend(tmp_path, empty=[*range(CROPS), 100])
    record = correlate(work, "i", CorrelateSettings(), embeddings="e")
    assert record.dropped["no embedding"] == CROPS + 1
    found = read_identities(work.identities("i")).assignment
    assert found.identity[0] == -1
    assert found.tracklet[100] == -1
    assert report_of(work)["stages"][0]["identities"] == PEOPLE * VIDEOS - 1


def test_thresholds_of_the_paper_and_by_hand(tmp_path):
    work = pretend(tmp_path)
    correlate(work, "paper", CorrelateSettings(thresholds="paper", constraints=False), embeddings="e")
    message = report_of(work, "paper")["thresholds"]
    assert message == {"rules": ["paper", "paper"], "sigma_cst": 0.2, "sigma_drm": 0.18}
    assert not (work.identities("paper") / "thresholds.svg").exists()
    correlate(work, "half", CorrelateSettings(thresholds="calibrated, 0.05"), embeddings="e")
    message = report_of(work, "half")["thresholds"]
    assert message["rules"] == ["calibrated", "by hand"]
    assert message["sigma_drm"] == 0.05
    assert message["sigma_cst"] not in (0.2, 0.05)
    correlate(work, "hand", CorrelateSettings(thresholds=0.3), embeddings="e")
    message = report_of(work, "hand")["thresholds"]
    assert message == {"rules": ["by hand", "by hand"], "sigma_cst": 0.3, "sigma_drm": 0.3}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("auto", "must be calibrated, paper, or cosine distances as in 0.2,0.18, got 'auto'"),
        ("0.2,", "must be calibrated, paper, or cosine distances as in 0.2,0.18, got ''"),
        ("0.2,0.1,0.1", "must be one value or two as in 0.2,0.18, got '0.2,0.1,0.1'"),
        ("0.2,3", "must be cosine distances in 0..2, got 3"),
        (-0.1, "must be cosine distances in 0..2, got -0.1"),
        ("nan", "must be cosine distances in 0..2, got nan"),
    ],
)
def test_invalid_thresholds_are_refused(value, message):
    with pytest.raises(SettingsError, match=f"thresholds: {message}"):
        CorrelateSettings(thresholds=value)


def test_threshold_evidence_is_plotted(tmp_path):
    work = pretend(tmp_path)
    correlate(work, "i", CorrelateSettings(resamples=20), embeddings="e")
    message = report_of(work)["thresholds"]
    assert sum(message["evidence"]["curves"]["own"]) == pytest.approx(1, abs=0.03)
    low, high = message["evidence"]["sigma_drm_interval"]
    assert low <= message["sigma_drm"] <= high
    plot = ElementTree.parse(work.identities("i") / "thresholds.svg")
    text = " ".join(element.text or "" for element in plot.iter())
    assert f"{message['sigma_cst']:.3f}" in text
    assert f"{message['sigma_drm']:.3f}" in text
    assert "simultaneous tracklets" in text
    assert "var(" not in (work.identities("i") / "thresholds.svg").read_text()


@pytest.mark.parametrize(
    ("off", "left"),
    [
        ("single_tracklet", {"closure": ["single-video", "cross-video"], "average": ["reallocation", "average-link"]}),
        (
            "single_video",
            {"closure": ["single-tracklet", "cross-video"], "average": ["single-tracklet", "average-link"]},
        ),
        (
            "cross_video",
            {"closure": ["single-tracklet", "single-video"], "average": ["single-tracklet", "reallocation"]},
        ),
    ],
)
def test_stages_can_be_disabled(tmp_path, off, left):
    work = pretend(tmp_path)
    for linking, stages in left.items():
        correlate(work, linking, CorrelateSettings(linking=linking, **{off: False}), embeddings="e")
        assert [stage["name"] for stage in report_of(work, linking)["stages"]] == [BASELINE, *stages]


@pytest.mark.parametrize(
    "changed",
    [
        {"minimum_crops": 6},
        {"targets": "updated", "thresholds": "0.6,calibrated"},
        {"merge": "repeat", "thresholds": "calibrated,0.5", "linking": "closure"},
        {"constraints": False, "thresholds": "calibrated,0.3", "linking": "closure"},
        {"overlap": 9.0, "thresholds": "calibrated,0.3", "linking": "closure"},
        {"guard": "none", "thresholds": "calibrated,0.3", "linking": "closure"},
        {"linking": "closure"},
        {"z": 6.0},
        {"constraints": False, "z": 0.5},
        {"overlap": 9.0, "z": 0.5},
        {"radius": 40},
        {"impostors": 0.2},
        {"false_links": 0.6},
        {"resamples": 5},
    ],
)
def test_every_setting_has_an_effect(tmp_path, changed):
    work = pretend(tmp_path)
    vectors, _ = read_embeddings(work.embeddings("e"))
    tracklets = work.open_crops().tracklet_set(vectors)
    shared = ("thresholds", "linking", "z") if len(changed) > 1 else ()
    base = {key: value for key, value in changed.items() if key in shared}
    plain, _ = identify(tracklets, CorrelateSettings(**base))
    other, _ = identify(tracklets, CorrelateSettings(**changed))
    same = np.array_equal(plain.assignment.crop_identity, other.assignment.crop_identity)
    assert not (same and plain.report["thresholds"] == other.report["thresholds"])


def test_invalid_input_is_named(tmp_path):
    work = pretend(tmp_path / "short", rows=100)
    with pytest.raises(InputError, match="holds 100 rows for 1,440 crops"):
        correlate(work, "i", CorrelateSettings(), embeddings="e")
    with pytest.raises(InputError, match=r"holds no embeddings 'absent' \(there: e\)"):
        correlate(work, "i", CorrelateSettings(), embeddings="absent")
    work = pretend(tmp_path / "zero", empty=range(1440))
    with pytest.raises(InputError, match="no crop has an embedding"):
        correlate(work, "i", CorrelateSettings(), embeddings="e")
    work = pretend(tmp_path / "whole")


def test_finished_step_is_reused_and_refused_with_other_settings(tmp_path):
    work = pretend(tmp_path)
    assert not correlate(work, "i", CorrelateSettings(), embeddings="e").already_done
    assert correlate(work, "i", CorrelateSettings(), embeddings="e").already_done
    with pytest.raises(WorkspaceError, match="radius"):
        correlate(work, "i", CorrelateSettings(radius=5), embeddings="e")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (
            "cross-video",
            {"linking": "closure", "thresholds": "calibrated,0.01"},
            {"linking": "closure", "thresholds": "calibrated,0.1"},
        ),
        ("average-link", {"z": 9.0}, {"z": 4.0}),
    ],
)
def test_later_round_starts_from_earlier_identities(tmp_path, name, before, after):
    work = pretend(tmp_path)
    correlate(work, "first", CorrelateSettings(**before), embeddings="e")
    correlate(work, "second", CorrelateSettings(**after), embeddings="e", start="first")
    stages = report_of(work, "second")["stages"]
    assert [stage["name"] for stage in stages] == [SO_FAR, name]
    before, after = (read_identities(work.identities(name)) for name in ("first", "second"))
    assert stages[0]["identities"] == before.assignment.identities > after.assignment.identities
    assert (after.assignment.tracklet == before.assignment.tracklet).all()
    joined = {(a, b) for a, b in zip(before.assignment.identity, after.assignment.identity, strict=True)}
    assert len({a for a, _ in joined}) == len(joined), "what was joined stays joined"
    assert len(after.links["first"]) == len(before.links["first"]) + stages[1]["tracklets_merged"]
    assert len(after.moves["crop"]) == len(before.moves["crop"])


def test_missing_start_identities_are_refused(tmp_path):
    work = pretend(tmp_path)
    with pytest.raises(InputError, match="no identities 'nowhere'"):
        correlate(work, "i", CorrelateSettings(), embeddings="e", start="nowhere")


def test_precision_is_of_average_linkage(tmp_path):
    with pytest.raises(SettingsError, match="precision"):
        CorrelateSettings(linking="closure", precision=0.9)
    work, asked = pretend(tmp_path), CorrelateSettings(precision=0.95)
    correlate(work, "plain", CorrelateSettings(), embeddings="e")
    correlate(work, "sure", asked, embeddings="e")
    plain, sure = (report_of(work, name)["stages"][-1] for name in ("plain", "sure"))
    assert sure["precision"] >= min(0.95, plain["precision"])
    assert sure["tracklets_merged"] <= plain["tracklets_merged"]


@pytest.mark.parametrize(
    ("linking", "names"),
    [("closure", ["cross-video", "global-link", "global-link"]), ("average", ["average-link"] * 3)],
)
def test_all_pairs_find_people_beyond_the_sliding_range(tmp_path, linking, names):
    """A sliding range of few identities finds few; an index finds as many as all pairs and reports its recall."""
    work = pretend(tmp_path)
    last = {}
    for pairs in ("sliding", "all", "approximate"):
        settings = CorrelateSettings(linking=linking, pairs=pairs, radius=1, recall=1.0)
        correlate(work, pairs, settings, embeddings="e")
        last[pairs] = report_of(work, pairs)["stages"][-1]
    assert [row["name"] for row in last.values()] == names
    assert last["all"]["scores"]["pairwise_f1"] > last["sliding"]["scores"]["pairwise_f1"] + 0.1
    whole = correlate(work, "wide", CorrelateSettings(linking=linking, radius=10**6), embeddings="e")
    assert last["all"]["identities"] == last["approximate"]["identities"] == whole.counts["identities"]
    assert last["approximate"]["recall"] > 0.999  # the index has float16
    assert "recall" not in last["all"]


@pytest.mark.parametrize(("linking", "what"), [("closure", "links"), ("average", "neighbors")])
def test_recall_of_the_index_is_reported(tmp_path, linking, what):
    notes = []

    class Heard(type(SILENT)):
        def note(self, text):
            notes.append(text)

    settings = CorrelateSettings(linking=linking, pairs="approximate", recall=1.0)
    correlate(pretend(tmp_path), "i", settings, embeddings="e", progress=Heard())
    assert f"the index found 100.0% of {what} (of a sample)" in notes[-1]


@pytest.mark.parametrize(("people", "videos", "why"), [(12, 2, "needs 35 tracklets, got 24"), (60, 1, "here is one")])
def test_too_little_for_average_linkage_is_linked_by_closure(tmp_path, people, videos, why):
    notes = []

    class Heard(type(SILENT)):
        def note(self, text):
            notes.append(text)

    work = pretend(tmp_path, people=people, videos=videos)
    correlate(work, "average", CorrelateSettings(), embeddings="e", progress=Heard())
    correlate(work, "closure", CorrelateSettings(linking="closure"), embeddings="e")
    report = report_of(work, "average")
    assert report["linking"]["method"] == "closure"
    assert why in report["linking"]["note"]
    assert any(why in note for note in notes)
    one, other = (read_identities(work.identities(name)).assignment for name in ("average", "closure"))
    assert (one.identity == other.identity).all()
