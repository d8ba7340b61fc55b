"""Decisions on their way: written, replayed by correlate, explained."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest

from reappear.cli.reasons import format_explanation
from reappear.core import InputError, SettingsError, WorkspaceError
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.explain import explain
from reappear.pipeline.record import Outcome, run_step
from reappear.pipeline.report import ReportSettings, report
from reappear.pipeline.review import ReviewTarget, review
from reappear.pipeline.sheet import draw_sheet
from reappear.pipeline.workspace import Workspace
from reappear.store import read_decisions, read_identities, write_embeddings, write_table
from tests.denoise.worlds import check_links

from . import report_fixture


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Eighteen people in six films, correlated as `before`."""
    made = report_fixture.build(tmp_path_factory.mktemp("made"), parts=("crops", "embeddings"))
    correlate(made, "before", CorrelateSettings(thresholds="0.3,0.25"), embeddings="round1")
    return made


@pytest.fixture
def work(made, tmp_path):
    """The same to write into."""
    shutil.copytree(made.root, tmp_path / "work")
    return Workspace(tmp_path / "work")


def decided(work, name="after", *, start=None, **settings):
    """Identities found once more, with the log."""
    made = CorrelateSettings(**{"thresholds": "0.3,0.25", **settings})
    record = correlate(work, name, made, embeddings="round1", start=start)
    return read_identities(work.identities(name)), record


def test_reviewed_identities_keep_numbers(work):
    before = identity_of(work)
    one, other = np.unique(before[before >= 0])[[1, 3]].tolist()
    review(work, "merge", ReviewTarget([one, other], identities="before"))
    settings = CorrelateSettings(thresholds="0.3,0.25")
    correlate(work, "kept", settings, embeddings="round1", numbers="before")
    after = identity_of(work, "kept")
    merged = np.isin(before, [one, other])
    assert set(after[merged].tolist()) <= {one, other}
    assert len(set(after[merged].tolist())) == 1
    assert np.array_equal(after[~merged], before[~merged])
    with pytest.raises(InputError, match="no identities 'lost'"):
        correlate(work, "new", settings, embeddings="round1", numbers="lost")


def identity_of(work, name="before"):
    return read_identities(work.identities(name)).assignment.identity


def largest(identity):
    return int(np.argmax(np.bincount(identity[identity >= 0])))


def test_every_decision_is_applied(work):
    before = identity_of(work)
    big = largest(before)
    inside = np.flatnonzero(before == big).tolist()
    others = np.flatnonzero((before != big) & (before >= 0))
    a, b = int(others[0]), int(others[before[others] != before[others[0]]][0])
    c, d = np.flatnonzero(before == before[others[-1]])[:2].tolist()
    review(work, "split", ReviewTarget(inside[:1], identities="before"), who="anna", note="another coat")
    review(work, "same", ReviewTarget([a, b]))
    review(work, "different", ReviewTarget([c, d]))
    free = [t for t in range(len(before)) if t not in {a, b, c, d, *inside}]
    review(work, "reject", ReviewTarget(free[:1]))
    review(work, "reject", ReviewTarget([5], crops=True))
    found, record = decided(work)
    after = found.assignment.identity
    assert all(after[inside[0]] != after[t] for t in inside[1:])
    assert after[a] == after[b]
    assert after[c] != after[d]
    offsets = work.open_crops().offsets
    gone = [*range(offsets[free[0]], offsets[free[0] + 1]), 5]
    assert (found.assignment.tracklet[gone] == -1).all()
    assert record.dropped["rejected in review"] == len(gone)
    assert found.report["review"] == {
        "decisions": {"split": 1, "same": 1, "different": 1, "reject": 2},
        "overruled": [],
    }
    assert [stage["name"] for stage in found.report["stages"]][-2:] == ["average-link", "review"]
    assert set(record.inputs) == {"crops", "embeddings", "review"}


def test_identity_decisions_are_stored_as_tracklets(work):
    before = identity_of(work)
    made = review(work, "merge", ReviewTarget([0, 1], identities="before"))
    assert made.tracklets == tuple(np.flatnonzero((before == 0) | (before == 1)).tolist())
    assert review(work, "reject", ReviewTarget([2], identities="before")).tracklets == tuple(
        np.flatnonzero(before == 2)
    )
    after = decided(work)[0].assignment
    assert len(np.unique(after.identity[list(made.tracklets)])) == 1


def test_log_is_an_input_and_replay_is_deterministic(work):
    review(work, "same", ReviewTarget([0, 1]))
    first, _ = decided(work, "one")
    again, _ = decided(work, "two")
    assert again.assignment.identity.tolist() == first.assignment.identity.tolist()
    assert decided(work, "one")[1].already_done
    review(work, "same", ReviewTarget([0, 2]))
    with pytest.raises(WorkspaceError, match="was made with another input: review"):
        decided(work, "one")
    without, record = decided(work, "none", review="none")
    assert without.assignment.identity.tolist() == identity_of(work).tolist()
    assert "review" not in record.inputs


def test_other_log_file_can_be_used(work, tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"decision": "same", "tracklets": [0, 1]}\n')
    found, _ = decided(work, review=str(tmp_path / "mine.jsonl"))
    assert found.assignment.identity[0] == found.assignment.identity[1]
    with pytest.raises(InputError, match=r"not\.jsonl does not exist"):
        decided(work, "other", review=str(tmp_path / "not.jsonl"))


def test_later_round_splits_earlier_identities(work, tmp_path):
    before = identity_of(work)
    inside = np.flatnonzero(before == largest(before)).tolist()
    links = read_identities(work.identities("before")).links
    ends = np.bincount(np.concatenate([links["first"], links["second"]]), minlength=len(before))
    hub = max(inside, key=lambda t: ends[t])
    others = [t for t in inside if t != hub]
    assert ends[hub] > 1  # it links the others
    review(work, "split", ReviewTarget([hub], identities="before"))
    found, _ = decided(work, "later", start="before")
    after = found.assignment.identity
    assert len(set(after[others])) == 1
    assert after[hub] != after[others[0]]
    assert [stage["name"] for stage in found.report["stages"]] == [
        "identities so far",
        "parting",
        "cross-video",
        "review",
    ]
    check_links(found.assignment, found.links)
    text = format_explanation(explain(work, identities="later", tracklet=others[0]))
    assert text.count("  carried-over") == (found.links["stage"] == "carried-over").sum() > 0
    page = report([work], tmp_path / "page", ReportSettings(identities=60, projected=0))
    assert '<div class="link">linked through a tracklet that left <span>to tracklet' in page.read_text()


def test_contradictions_are_reported(work, capsys):
    from reappear.cli.progress import listener

    review(work, "same", ReviewTarget([0, 1]))
    review(work, "different", ReviewTarget([0, 1]))
    correlate(work, "after", CorrelateSettings(), embeddings="round1", progress=listener(quiet=True))
    message = capsys.readouterr().err
    assert "line 1 (same): tracklets 0 and 1 are not one person by line 2; decision ignored" in message
    report = read_identities(work.identities("after")).report
    assert report["review"]["overruled"] == ["line 1 (same): tracklets 0 and 1 are not one person by line 2"]


def test_decision_overrides_simultaneity_with_a_note(work, capsys):
    from reappear.cli.progress import listener

    rows = work.open_crops().tracklets
    pairs = [
        (a, b)
        for a in range(len(rows["video"]))
        for b in range(a)
        if rows["video"][a] == rows["video"][b]
        and min(rows["end"][a], rows["end"][b]) - max(rows["start"][a], rows["start"][b]) >= 1
    ]
    review(work, "same", ReviewTarget(list(pairs[0])))
    correlate(work, "after", CorrelateSettings(), embeddings="round1", progress=listener(quiet=True))
    assert "one person by decision: 1 pair of tracklets" in capsys.readouterr().err
    identity = identity_of(work, "after")
    assert identity[pairs[0][0]] == identity[pairs[0][1]]


def test_report_shows_decisions(work, tmp_path):
    before = identity_of(work)
    a = np.flatnonzero(before == largest(before))
    b = int(np.flatnonzero(before != largest(before))[0])
    review(work, "same", ReviewTarget([int(a[0]), b]))
    review(work, "reject", ReviewTarget([5], crops=True))
    shutil.rmtree(work.identities("before"))
    decided(work)
    page = report([work], tmp_path, ReportSettings(identities=60, projected=0))
    text = page.read_text()
    assert "Review decisions" in text
    assert '<th scope="row">review decisions' in text
    assert '<div class="link">by review' in text
    assert ">nan" not in text
    assert json.loads((tmp_path / "report.json").read_text())["review"]["after"]["work"] == {
        "decisions": {"same": 1, "reject": 1},
        "overruled": [],
    }


def test_invalid_log_line_fails_correlate(work):
    review(work, "same", ReviewTarget([0, 1]))
    with work.review.open("a") as log:
        log.write("same 0 1\n")
    with pytest.raises(InputError, match=r"review\.jsonl line 2 is not JSON"):
        decided(work)
    work.review.write_text('{"decision": "same", "tracklets": [0, 4000]}\n')
    with pytest.raises(InputError, match="line 1 of the review: there is no tracklet 4000"):
        decided(work)


@pytest.mark.parametrize(
    ("kind", "target", "error", "message"),
    [
        (
            "twin",
            ReviewTarget([0, 1]),
            SettingsError,
            "unknown decision 'twin'; known: same, different, merge, split, reject",
        ),
        ("same", ReviewTarget([0]), SettingsError, "same needs 2 numbers or more, got 1"),
        ("same", ReviewTarget([3, 3]), SettingsError, "same: a number is given twice"),
        ("same", ReviewTarget([0, 1], crops=True), SettingsError, "same takes tracklets; only reject takes --crops"),
        ("same", ReviewTarget([0, 1], identities="before"), SettingsError, "omit --identities"),
        ("merge", ReviewTarget([0, 1]), SettingsError, "merge needs --identities NAME"),
        ("split", ReviewTarget([0]), SettingsError, "split needs --identities NAME"),
        ("reject", ReviewTarget([0], crops=True, identities="before"), SettingsError, "exclude each other"),
        ("same", ReviewTarget([0, 999]), InputError, "there is no tracklet 999; they are numbered 0 to "),
        ("reject", ReviewTarget([-1], crops=True), InputError, "there is no crop -1; they are numbered 0 to "),
        ("merge", ReviewTarget([0, 999], identities="before"), InputError, "has no identity 999"),
        (
            "merge",
            ReviewTarget([0, 1], identities="befor"),
            InputError,
            r"has no identities 'befor' \(available: before\)",
        ),
    ],
)
def test_invalid_decisions_are_refused(work, kind, target, error, message):
    with pytest.raises(error, match=message):
        review(work, kind, target)
    assert not work.review.exists()


def test_split_separates_tracklets_of_an_identity(work):
    before = identity_of(work)
    big = np.flatnonzero(before == largest(before)).tolist()
    with pytest.raises(InputError, match=r"these are all tracklets of identity \d+"):
        review(work, "split", ReviewTarget(big, identities="before"))
    other = int(np.flatnonzero(before != before[big[0]])[0])
    with pytest.raises(InputError, match="belong to several identities of before"):
        review(work, "split", ReviewTarget([big[0], other], identities="before"))
    made = review(work, "split", ReviewTarget(big[:2], identities="before"))
    assert made.others == tuple(big[2:])
    assert read_decisions(work.review, footage=json.loads((work.crops / "record.json").read_text())["fingerprint"])


class TestExplain:
    def test_identity_tracklet_and_crop_give_the_same_explanation(self, work):
        found = read_identities(work.identities("before"))
        big = largest(found.assignment.identity)
        why = explain(work, identity=big)
        inside = [row["tracklet"] for row in why.tracklets]
        assert inside == np.flatnonzero(found.assignment.identity == big).tolist()
        assert len(why.links) == len(inside) - 1
        assert sum(row["crops"] for row in why.tracklets) == (found.assignment.crop_identity == big).sum()
        crop = int(np.flatnonzero(found.assignment.crop_identity == big)[-1])
        assert explain(work, tracklet=inside[0]) == explain(work, crop=crop) == why
        assert json.loads(json.dumps(why.plain()))["identity"] == big

    def test_explanation_contains_all_records(self, work):
        before = identity_of(work)
        inside = np.flatnonzero(before == largest(before)).tolist()
        review(work, "split", ReviewTarget(inside[:1], identities="before"), who="anna", note="another coat")
        stranger = int(np.flatnonzero(before != before[inside[0]])[0])
        review(work, "same", ReviewTarget([inside[1], stranger]))
        found, _ = decided(work)
        why = explain(work, tracklet=inside[1])
        assert any(row["reason"] == "review" and inside[0] in row["cannot_link"] for row in why.refused)
        assert {row["distance"] for row in why.links if row["stage"] == "review"} == {None}
        assert [row["line"] for row in why.decisions] == [1, 2]
        text = format_explanation(why)
        assert text.startswith(f"identity {why.identity} of after: {len(why.tracklets)} tracklets, ")
        assert re.search("different people by review", text)
        assert "decided  review" in text
        merged = [row for row in why.links if row["stage"] == "average-link"]
        assert merged
        assert all(row["similarity"] >= 4 for row in merged)
        assert all(0 <= row["probability"] <= 1 for row in merged)
        assert f"z {merged[0]['similarity']:.1f}  {merged[0]['probability']:.0%} sure  average-link" in text
        assert "(anna, " in text
        assert "another coat" in text
        for row in why.tracklets:
            assert re.search(rf"^ +(│? *[├└]─ )?{row['tracklet']}\b", text, re.M)
        assert found.refused["stage"].tolist()

    def test_links_of_an_identity_form_a_tree(self, work):
        identity = identity_of(work)
        for number in range(identity.max() + 1):
            why = explain(work, identity=number)
            tree = format_explanation(why).split("\nlinks")[1].split("\n\n")[0] if why.links else ""
            assert len(re.findall("[├└]─", tree)) == len(why.tracklets) - 1

    def test_discarded_crop_is_explained(self, work):
        found = read_identities(work.identities("before"))
        lost = np.flatnonzero(found.assignment.tracklet == -1)
        assert len(lost)
        why = explain(work, crop=int(lost[0]))
        assert why.identity is None
        assert [row["crop"] for row in why.left] == [lost[0]]
        text = format_explanation(why)
        assert text.startswith("in no identity of before: 1 tracklet")
        assert re.search(
            rf"crop {lost[0]} left tracklet \d+ at 0\.\d+ from the rest \(single-tracklet\), discarded", text
        )

    def test_moved_crops_are_explained(self, work):
        found = read_identities(work.identities("before"))
        origin = np.asarray(work.open_crops().crops["tracklet"])
        moved = np.flatnonzero((found.assignment.tracklet >= 0) & (found.assignment.tracklet != origin))
        identity = found.assignment.identity
        moved = moved[identity[found.assignment.tracklet[moved]] != identity[origin[moved]]]
        assert len(moved)
        crop = int(moved[0])
        why = explain(work, tracklet=int(found.assignment.tracklet[crop]))
        assert crop in [row["crop"] for row in why.came]
        assert (
            f"crop {crop} came from tracklet {origin[crop]} to {found.assignment.tracklet[crop]}"
            in format_explanation(why)
        )
        assert crop in [row["crop"] for row in explain(work, tracklet=int(origin[crop])).left]

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"identity": 999}, "has no identity 999; they are numbered from 0"),
            ({"identity": -1}, "has no identity -1"),
            ({"tracklet": 999}, "there is no tracklet 999; they are numbered 0 to "),
            ({"crop": 99999}, "there is no crop 99999; they are numbered 0 to "),
            ({}, "exactly one of"),
            ({"identity": 0, "crop": 0}, "exactly one of"),
            ({"identity": 0, "identities": "nobody"}, r"has no identities 'nobody' \(available: before\)"),
        ],
    )
    def test_missing_items_are_refused(self, work, asked, message):
        with pytest.raises(InputError, match=message):
            explain(work, **asked)

    def test_newest_identities_are_explained_by_default(self, work):
        decided(work, "after")
        assert explain(work, identity=0).identities == "after"

    def test_explain_without_identities_is_refused(self, tmp_path):
        made = report_fixture.build(tmp_path, parts=("crops",))
        with pytest.raises(InputError, match="has no identities yet; run `reappear correlate"):
            explain(made, identity=0)

    def test_contact_sheet_has_a_row_per_tracklet(self, work, tmp_path):
        why = explain(work, identity=largest(identity_of(work)))
        picture = cv2.imread(str(draw_sheet(work, why, tmp_path / "sheet.png")))
        assert picture.shape[0] == 136 * len(why.tracklets)
        rows = picture.reshape(len(why.tracklets), 136, -1, 3)
        assert (rows[:, 40:90, 90:140] < 250).any(axis=(1, 2, 3)).all()
        with pytest.raises(InputError, match=r"sheet\.gif: must be a \.jpg or \.png file"):
            draw_sheet(work, why, tmp_path / "sheet.gif")

    def test_workspace_without_images_has_no_contact_sheet(self, tmp_path):
        work = Workspace(tmp_path)

        def crops(staging):
            table = {"video": [0] * 4, "tracklet": [0, 0, 1, 1], "shard": [-1] * 4, "truth": [-1] * 4}
            write_table(staging / "crops.parquet", {name: np.array(column) for name, column in table.items()})
            times = {"start": np.full(2, np.nan), "end": np.full(2, np.nan)}
            write_table(staging / "tracklets.parquet", {"video": np.zeros(2, int), "crops": np.full(2, 2), **times})
            numbers = {key: np.zeros(1, int) for key in ("width", "height", "frames")} | {"rate": np.zeros(1)}
            words = {"name": ["v"], "path": ["v"], "camera": ["c"]}
            write_table(staging / "videos.parquet", words | numbers | {"truth": np.array([False])})
            return Outcome()

        def vectors(staging):
            write_embeddings(staging, np.eye(4, 3) + 0.1, {"extractor": "given"})
            return Outcome()

        run_step(work.crops, step="ingest", settings={}, inputs={}, work=crops)
        run_step(work.embeddings("e"), step="embed", settings={}, inputs={}, work=vectors)
        correlate(work, "i", CorrelateSettings(thresholds="paper"), embeddings="e")
        why = explain(work, tracklet=0)
        assert why.tracklets[0]["start"] is None
        assert "?" in format_explanation(why)
        with pytest.raises(InputError, match="embeddings but no images"):
            draw_sheet(work, why, tmp_path / "sheet.jpg")
