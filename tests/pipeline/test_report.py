import json
import math
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from reappear.core import InputError, SettingsError
from reappear.models import Embedder, Preprocessing, create_model
from reappear.pipeline.report import ReportSettings, report
from reappear.pipeline.report.gather import aggregate, majority, natural, read_runs
from reappear.pipeline.report.page import summarize
from reappear.pipeline.report.pictures import Thumbnails, data_uri
from reappear.pipeline.report.plots import lines, project
from reappear.pipeline.report.retrieval_examples import RetrievalExamples
from reappear.pipeline.workspace import Workspace
from reappear.store import read_table

from .report_fixture import ALL, DESCRIPTORS, STAGES, build

SMALL = ReportSettings(tracklets=2, identities=2, failures=1, queries=1, worst=1, discarded=3, projection="pca")
_VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Page(HTMLParser):
    """Refuses what is not closed, and keeps what was read."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes another tag"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def with_class(self, name: str) -> int:
        return sum(name in (attrs.get("class") or "").split() for _, attrs in self.tags)


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> list[Workspace]:
    base = tmp_path_factory.mktemp("works")
    return [build(base / f"seed{seed}", seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def made(works: list[Workspace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert report(works, out, ReportSettings()) == out / "report.html"
    return out


@pytest.fixture(scope="module")
def page(made: Path) -> Page:
    return Page((made / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(made: Path) -> dict:
    return json.loads((made / "report.json").read_text(encoding="utf-8"))


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("expected", "warned"), [(0.1, True), (0.49, True), (0.9, False)])
def test_summary_says_how_many_links_are_expected_right(made: Path, works: list[Workspace], expected, warned):
    found = json.loads((made / "report.json").read_text())
    assert "expected to be right" not in found["summary"]  # these identities have no such estimate
    run = read_runs(works)[0]
    last = [name for name in found["noise"] if name in run.reports][-1]
    found["identities"][last]["average-link"] = {"identities": {"mean": 9}, "precision": {"mean": expected}}
    text = summarize(run, found)
    assert f"{100 * expected:.1f}% of the linked pairs of tracklets are expected to be right" in text
    assert ("--extractor" in text) == warned


def test_page_loads_no_external_resources(made: Path, page: Page) -> None:
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        for key in ("src", "href", "xlink:href", "srcset", "poster", "data", "action"):
            assert (attrs.get(key) or "#").startswith(("#", "data:image/")), f"{tag} {key}={attrs[key]}"
    text = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", (made / "report.html").read_text(encoding="utf-8"))
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}


def test_ids_are_unique_and_every_reference_has_its_target(made: Path, page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    text = (made / "report.html").read_text(encoding="utf-8")
    wanted = {attrs["href"] for _, attrs in page.tags if (attrs.get("href") or "").startswith("#")}
    wanted |= set(re.findall(r"url\((#[^)]+)\)", text))
    assert {name[1:] for name in wanted} <= set(ids)


def test_images_have_alternative_text(page: Page) -> None:
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")


def test_page_stays_small(made: Path) -> None:
    assert (made / "report.html").stat().st_size < 6e6


def test_plots_use_css_variables(made: Path) -> None:
    text = (made / "report.html").read_text(encoding="utf-8")
    plots = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    # Before and after; loss and validation; entropies of three models; distances, people in the plane, all descriptors.
    assert len(plots) == 2 + 2 + 3 + 3
    for plot in plots:
        assert "var(--line)" in plot
        assert "#000000" not in plot
        assert "#ffffff" not in plot


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_retrieval_equals_evaluations(works: list[Workspace], found: dict, name: str) -> None:
    source = {work.root.name: read(work.evaluation(name) / "scores.json") for work in works}
    mine = found["retrieval"][name]
    assert (mine["protocol"], mine["extractor"]) == ("market", "cnn6")
    for key in ("mean_ap", "mean_inp", "queries", "valid_queries", "gallery", "cmc"):
        assert mine[key]["by_seed"] == {label: scores[key] for label, scores in source.items()}
    assert mine["reasons"]["its person is not in the gallery"]["mean"] == 1
    assert mine["skipped"]["images that cannot be decoded"]["by_seed"] == {"seed0": 2, "seed1": 3, "seed2": 4}
    values = [scores["mean_ap"] for scores in source.values()]
    assert mine["mean_ap"]["mean"] == pytest.approx(statistics.mean(values))
    assert mine["mean_ap"]["spread"] == pytest.approx(statistics.stdev(values))
    third = [scores["cmc"][2] for scores in source.values()]
    assert mine["cmc"]["mean"][2] == pytest.approx(statistics.mean(third))
    assert mine["cmc"]["spread"][2] == pytest.approx(statistics.stdev(third), abs=1e-12)
    assert list(found["retrieval"]) == list(DESCRIPTORS)


@pytest.mark.parametrize("name", ["round0", "round1"])
def test_noise_and_identities_equal_correlate_reports(works: list[Workspace], found: dict, name: str) -> None:
    source = {work.root.name: read(work.identities(name) / "report.json")["stages"] for work in works}
    assert list(found["noise"][name]) == list(STAGES)
    for number, stage in enumerate(STAGES):
        rows = {label: stages[number] for label, stages in source.items()}
        assert found["noise"][name][stage]["by_seed"] == {label: row["noise"] for label, row in rows.items()}
        mine = found["identities"][name][stage]
        for key in ("identities", "crops_discarded", "crops_moved", "tracklets_merged", "seconds"):
            assert mine[key]["by_seed"] == {label: row[key] for label, row in rows.items()}
        for measure in ("pairwise", "bcubed"):
            for score in ("precision", "recall", "f1"):
                wanted = {label: row["scores"][f"{measure}_{score}"] for label, row in rows.items()}
                assert mine[measure][score]["by_seed"] == wanted
        assert mine["purity"]["mean"] == pytest.approx(0.9)
    thresholds = {label: read(works[0].identities(name) / "report.json")["thresholds"] for label in source}
    assert found["thresholds"][name] == thresholds


def test_records_equal_those_of_the_steps(works: list[Workspace], found: dict) -> None:
    steps = {
        "ingest": works[0].crops,
        "embed round0": works[0].embeddings("round0"),
        "correlate round1": works[0].identities("round1"),
        "pretrain instance": works[0].model("instance"),
        "evaluate found": works[0].evaluation("found"),
    }
    for step, folder in steps.items():
        record = read(folder / "record.json")
        assert found["seconds"][step]["by_seed"]["seed0"] == record["seconds"]
        assert found["peak_memory_mb"][step]["by_seed"]["seed0"] == record["peak_memory_mb"]
        assert found["settings"]["seed0"][step] == record["settings"]
        assert {k: leaf["by_seed"]["seed0"] for k, leaf in found["counts"][step].items()} == record["counts"]
    assert found["dropped"]["ingest"]["too_small"] == {
        "by_seed": {"seed0": 12, "seed1": 13, "seed2": 14},
        "mean": 13.0,
        "spread": 1.0,
    }
    assert found["versions"] == {"reappear": ["0.1.0"], "numpy": ["2.0.0"]}
    assert list(found["seconds"])[:4] == ["ingest", "embed round0", "correlate round0", "pretrain round0"]
    assert list(found["seconds"])[-1] == "evaluate color"


def test_training_equals_metrics(works: list[Workspace], found: dict) -> None:
    rows = [json.loads(line) for line in (works[1].model("round0") / "metrics.jsonl").read_text().splitlines()]
    mine = found["training"]["round0"]
    assert mine["steps"]["by_seed"]["seed1"] == rows[-1]["step"]
    assert mine["first"]["loss"]["by_seed"]["seed1"] == rows[0]["loss"]
    assert mine["last"]["batch_entropy"]["by_seed"]["seed1"] == rows[-1]["batch_entropy"]
    assert mine["validation"]["seed1"] == [
        [row["step"], row["validation_map"]] for row in rows if "validation_map" in row
    ]


def test_footage_reach_and_discarded_are_counted(works: list[Workspace], found: dict) -> None:
    crops = read_table(works[0].crops / "crops.parquet")
    footage = {key: leaf["by_seed"]["seed0"] for key, leaf in found["footage"].items()}
    assert footage["crops"] == len(crops["video"])
    assert footage["people"] == len(set(crops["truth"].tolist()))
    assert (footage["videos"], footage["cameras"], footage["seconds"]) == (6, 3, 360.0)
    identity = read_table(works[0].identities("round1") / "identities.parquet")["identity"]
    films: dict[int, set[int]] = {}
    for person, video in zip(identity.tolist(), crops["video"].tolist(), strict=True):
        if person >= 0:
            films.setdefault(person, set()).add(video)
    for count, leaf in found["reach"]["round1"]["videos"].items():
        assert leaf["by_seed"].get("seed0", 0) == sum(len(of) == int(count) for of in films.values())
    gone = identity < 0
    assert found["discarded"]["round1"]["crops"]["by_seed"]["seed0"] == gone.sum()
    correctly = 0
    for tracklet in np.unique(crops["tracklet"]):
        mine = crops["tracklet"] == tracklet
        correctly += int((gone & mine & (crops["truth"] != majority(crops["truth"][mine]))).sum())
    assert found["discarded"]["round1"]["correctly"]["by_seed"]["seed0"] == correctly


def test_page_shows_the_numbers(page: Page, found: dict) -> None:
    text = " ".join(page.text.split())
    assert f"{100 * found['retrieval']['found']['mean_ap']['mean']:.1f}% mAP" in text
    ours = found["retrieval"]["found"]["mean_ap"]
    assert f"{100 * ours['mean']:.1f} ± {100 * ours['spread']:.1f}" in text
    noise = found["noise"]["round1"]["cross-video"]
    assert f"{noise['mean']:.3f} ± {noise['spread']:.3f}" in text
    assert "Numbers are means over 3 runs" in text


def test_one_run_has_no_spread(works: list[Workspace], tmp_path: Path) -> None:
    report(works[:1], tmp_path, SMALL)
    found = read(tmp_path / "report.json")
    assert found["retrieval"]["found"]["mean_ap"]["spread"] is None
    assert "±" not in Page((tmp_path / "report.html").read_text()).text


def test_same_input_gives_the_same_files(works: list[Workspace], made: Path, tmp_path: Path) -> None:
    report(works, tmp_path, ReportSettings())
    for name in ("report.html", "report.json"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


@pytest.mark.parametrize(
    ("parts", "absent"),
    [
        (("crops",), ("no identities", "no embeddings", "no trained model", "No model was evaluated")),
        (("crops", "embeddings"), ("no identities", "no trained model", "No model was evaluated")),
        (("crops", "identities"), ("no embeddings", "no trained model", "No model was evaluated")),
        (("crops", "models"), ("no identities", "no embeddings", "No model was evaluated")),
        (("crops", "evaluations"), ("no identities", "no embeddings", "no trained model")),
    ],
)
def test_missing_parts_are_omitted_with_a_reason(
    tmp_path: Path, parts: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    work = build(tmp_path / "work", parts=parts, people=4)
    text = Page(report([work], tmp_path, SMALL).read_text()).text
    assert all(line in text for line in absent)
    assert "6 videos of 3 cameras" in text


def test_no_scores_without_ground_truth(tmp_path: Path) -> None:
    work = build(tmp_path / "work", parts=ALL[:4], truth=False, people=5)
    page = Page(report([work], tmp_path, SMALL).read_text())
    found = read(tmp_path / "report.json")
    assert "pairwise" not in found["identities"]["round1"]["cross-video"]
    assert "people" not in found["footage"]
    assert "correctly" not in found["discarded"]["round1"]
    assert "no ground truth" in page.text
    assert "other true people" not in page.text
    assert page.with_class("wrong") == 0


def test_external_names_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("x")<\\script><img src=x onerror=alert(1)>'
    work = build(tmp_path / evil, film_suffix=evil, people=4, descriptors={"untrained": 0.1, evil: 0.2})
    work.model("instance").rename(work.model(evil))
    work.embeddings("round2").rename(work.embeddings(evil))
    record = read(work.crops / "record.json")
    record["dropped"] = {evil: 3}
    record["settings"] = {"name": evil}
    (work.crops / "record.json").write_text(json.dumps(record))
    page = Page(report([work], tmp_path / "out", SMALL).read_text())
    assert not any(tag == "script" or "onerror" in attrs for tag, attrs in page.tags)
    assert all((attrs["src"] or "").startswith("data:") for tag, attrs in page.tags if tag == "img")
    assert page.text.count("<script>") >= 6  # film, camera, model, evaluation, reason, run


def test_every_identity_is_in_the_overview_once(works: list[Workspace], made: Path) -> None:
    (run,) = read_runs(works[:1])
    thumbnails = Thumbnails(run, height=32, name="round1", stages={})
    cards = thumbnails.overview(999)
    identity = run.identities["round1"].assignment.crop_identity
    assert sorted(card.number for card in cards) == sorted(set(identity.tolist()) - {-1})
    assert len(cards) == thumbnails.identities
    videos = [int(card.facts[1].split()[0]) for card in cards]
    assert videos == sorted(videos, reverse=True)
    page = (made / "report.html").read_text(encoding="utf-8")
    assert page.count('alt="a crop of identity ') == len(cards)
    assert [card.number for card in thumbnails.overview(3)] == [card.number for card in cards[:3]]


def test_links_are_called_by_the_videos_they_join(works: list[Workspace]) -> None:
    (run,) = read_runs(works[:1])
    video = run.store.tracklets["video"]
    for person in Thumbnails(run, height=32, name="round1", stages={}).people(99, 99, 1):
        for strip in (strip for of in person.cameras.values() for strip in of):
            if strip.link:
                same = video[int(strip.title.split()[1])] == video[strip.link[1]]
                assert strip.link[2] == ("within one video" if same else "across videos")


def test_navigation_has_the_words_of_the_headings(made: Path) -> None:
    text = (made / "report.html").read_text(encoding="utf-8")
    names = re.findall(r'<a href="#[\w-]+">([^<]+)</a>', text)
    assert names == re.findall(r"<h2>([^<]+)</h2>", text)


def test_best_model_has_one_colour_in_all_plots(works: list[Workspace]) -> None:
    from reappear.pipeline.report.page import _colours

    (run,) = read_runs(works[:1])
    colours = _colours(run, "found", "round1")
    assert colours["found"] == colours["round1"]
    assert {*run.training, *run.scores} <= colours.keys()
    assert list(colours.values()).count(colours["found"]) == 2


def test_settings_limit_what_is_shown(works: list[Workspace], tmp_path: Path) -> None:
    page = Page(report(works[:1], tmp_path, SMALL).read_text())
    assert page.with_class("person") == 2 + 1 + 1
    assert page.with_class("query") == 3 + 1  # a list of each kind, and the worst query
    assert sum(attrs.get("class") == "crops wall" for _, attrs in page.tags) == 1
    none = ReportSettings(
        tracklets=0,
        identities=0,
        overview=0,
        failures=0,
        queries=0,
        worst=0,
        discarded=0,
        projected=0,
        strips=0,
        crops=0,
        height=32,
    )
    empty = Page(report(works[:1], tmp_path, none).read_text())
    assert empty.with_class("crop") == 0
    assert empty.with_class("person") == 0
    assert empty.with_class("absent") == 0  # what was not asked for is not missing


def test_images_are_reduced(works: list[Workspace]) -> None:
    image = works[0].open_crops().image(0)
    assert len(data_uri(image, 32)) < len(data_uri(image, 64))
    assert data_uri(b"no picture", 32) == ""


def test_correlation_maps_of_a_model_for_clips_are_drawn(tmp_path: Path) -> None:
    work = build(tmp_path / "work")
    report([work], tmp_path, SMALL)
    assert "have in common" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    folder = work.model(natural_last(work))
    arguments = {"network": "cnn6", "width": 4, "frames": 4}
    config = {"architecture": "grl", "arguments": arguments}
    torch.manual_seed(0)
    Embedder(create_model("grl", **arguments).eval(), Preprocessing(height=32, width=16), config=config).save(folder)
    report([work], tmp_path, SMALL)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert f"Correlation maps of {folder.name}" in page.text
    shaded = [attrs for tag, attrs in page.tags if tag == "img" and "shaded by correlation" in (attrs["alt"] or "")]
    assert len(shaded) == 2 * SMALL.crops  # frames of two tracklets
    assert all((attrs["src"] or "").startswith("data:image/jpeg") for attrs in shaded)


def natural_last(work: Workspace) -> str:
    """The newest model."""
    return list(read_runs([work])[0].training)[-1]


def test_missing_image_is_marked(tmp_path: Path) -> None:
    work = build(tmp_path / "work", people=4)
    for path in (tmp_path / "work" / "test").iterdir():
        path.unlink()
    assert Page(report([work], tmp_path, SMALL).read_text()).text.count("not readable") == 3 * 11 + 11 + 3


def test_identities_are_shown_with_links_and_moves(works: list[Workspace]) -> None:
    (run,) = read_runs(works[:1])
    thumbnails = Thumbnails(run, height=32, name="round1", stages={"single-tracklet": "within one tracklet"})
    people = thumbnails.people(5, 99, 6)
    films = [int(re.search(r"(\d+) videos?$", person.facts[2])[1]) for person in people]
    assert films == sorted(films, reverse=True)
    identity = read_table(works[0].identities("round1") / "tracklets.parquet")["identity"]
    links = read_table(works[0].identities("round1") / "links.parquet")
    known = {
        (a, b): d
        for a, b, d in zip(links["first"].tolist(), links["second"].tolist(), links["distance"].tolist(), strict=True)
    }
    for person in people:
        members = set(np.flatnonzero(identity == int(person.title.split()[1].rstrip(":"))).tolist())
        strips = [strip for of in person.cameras.values() for strip in of]
        assert {int(strip.title.split()[1]) for strip in strips} == members
        result = [(int(strip.title.split()[1]), strip.link) for strip in strips if strip.link]
        assert len(result) == len(members) - 1  # the links of a tree that holds all together
        for tracklet, (distance, other, _) in result:
            assert known[min(tracklet, other), max(tracklet, other)] == distance
            assert other in members


def read_identity_tracklets(work: Workspace, identity: int) -> list[int]:
    rows = read_table(work.identities("round1") / "tracklets.parquet")
    return [int(t) for t in rows["tracklet"][rows["identity"] == identity]]


def test_removed_and_moved_crops_have_their_distance(works: list[Workspace]) -> None:
    (run,) = read_runs(works[:1])
    thumbnails = Thumbnails(run, height=32, name="round1", stages={})
    moves = read_table(works[0].identities("round1") / "moves.parquet")
    final = read_table(works[0].identities("round1") / "identities.parquet")["tracklet"]
    thrown = {crop for crop in moves["crop"].tolist() if final[crop] < 0}
    wall = thumbnails.discarded(1000)
    assert len(wall) == len(thrown)
    distances = [float(picture.caption) for picture in wall]
    assert distances == sorted(distances, reverse=True)
    marks = [
        p.mark
        for who in thumbnails.people(999, 999, 999)
        for of in who.cameras.values()
        for s in of
        for p in s.pictures
    ]
    whose = read_table(works[0].identities("round1") / "identities.parquet")["identity"]
    everyone = set(whose.tolist()) - {-1}
    moved = {crop for crop in moves["crop"].tolist() if final[crop] >= 0 and whose[crop] in everyone}
    assert moved
    assert marks.count("moved") == len(moved)
    shown = {t for who in everyone for t in read_identity_tracklets(works[0], who)}
    assert marks.count("removed") == sum(run.store.crops["tracklet"][crop] in shown for crop in thrown)


def test_errors_are_the_largest_ones(works: list[Workspace]) -> None:
    (run,) = read_runs(works[:1])
    thumbnails = Thumbnails(run, height=32, name="round1", stages={})
    identity = thumbnails.found.assignment.crop_identity
    outside = {}
    for k in np.unique(identity[identity >= 0]):
        counts = np.bincount(thumbnails.truth[(identity == k) & (thumbnails.truth >= 0)])
        outside[int(k)] = int(counts.sum() - counts.max())
    merges = thumbnails.wrong_merges(2, 4)
    shown = [outside[int(person.title.split()[1].rstrip(":"))] for person in merges]
    assert shown == sorted(outside.values(), reverse=True)[:2]
    for split in thumbnails.wrong_splits(2, 4):
        true = int(split.title.split()[2].rstrip(":"))
        assert len(np.unique(identity[(thumbnails.truth == true) & (identity >= 0)])) == int(split.title.split()[3])


def test_queries_are_selected_by_rank(works: list[Workspace]) -> None:
    (run,) = read_runs(works[:1])
    ranked = dict(RetrievalExamples(run.work.evaluation("found"), run.scores["found"], height=32).ranked(2))
    with np.load(works[0].evaluation("found") / "ranking.npz") as stored:
        ap = np.sort(stored["ap"])[::-1]
    places = {kind: [one.place for one in of] for kind, of in ranked.items()}
    assert places == {"Good": [2, 3], "Typical": [8, 9], "Worst": [15, 16]}
    for one in (one for of in ranked.values() for one in of):
        assert one.average_precision == pytest.approx(ap[one.place - 1])
        assert len(one.gallery) == 10


def test_hits_and_misses_are_framed_as_ranked(works: list[Workspace]) -> None:
    (run,) = read_runs(works[:1])
    ranked = RetrievalExamples(run.work.evaluation("found"), run.scores["found"], height=32).ranked(1)
    with np.load(works[0].evaluation("found") / "ranking.npz") as stored:
        order = np.argsort(-stored["ap"], kind="stable")
        for _, (one,) in ranked:
            query = order[one.place - 1]
            assert [p.mark == "hit" for p in one.gallery] == stored["hit"][query].tolist()
            assert [p.caption for p in one.gallery] == [f"{d:.2f}" for d in stored["distance"][query]]


def test_rising_noise_is_reported(tmp_path: Path) -> None:
    work = build(tmp_path / "work", parts=("crops", "identities"), people=4)
    path = work.identities("round0") / "report.json"
    plain = read(path)
    plain["stages"][2]["noise"] = 9.0
    path.write_text(json.dumps(plain))
    text = Page(report([work], tmp_path, SMALL).read_text()).text
    assert re.search(r"in round0, within one video: from \d\.\d{3} to 9\.000", text)


def test_estimated_noise_is_marked(tmp_path: Path) -> None:
    work = build(tmp_path / "work", parts=("crops", "identities"), people=4)
    path = work.identities("round0") / "report.json"
    plain = read(path)
    assert "It is an estimate" not in Page(report([work], tmp_path / "exact", SMALL).read_text()).text
    plain["stages"][1] |= {"noise_error": 0.0421, "noise_sample": 4096}
    del plain["stages"][2]["noise"]
    path.write_text(json.dumps(plain))
    message = report([work], tmp_path / "sampled", SMALL)
    text = Page(message.read_text()).text
    assert "4,096 identities drawn at random, each compared with all others; standard error up to 0.042" in text
    assert plain["stages"][2]["name"] not in read(message.with_suffix(".json"))["noise"]["round0"]


def test_collapse_is_reported(page: Page) -> None:
    assert page.text.count("kinds of image in a batch") == 2
    assert page.text.count("Collapsed or close to it:") == 1  # the fixture's instance model


def test_invalid_workspaces_are_one_line(tmp_path: Path) -> None:
    work = build(tmp_path / "work", people=4)
    with pytest.raises(InputError, match="needs a workspace"):
        report([], tmp_path, SMALL)
    with pytest.raises(InputError, match="has no crops yet"):
        report([Workspace(tmp_path / "nothing")], tmp_path, SMALL)
    with pytest.raises(InputError, match="given twice"):
        report([work, work], tmp_path, SMALL)
    (work.evaluation("found") / "ranking.npz").write_bytes(b"PK no zip")
    with pytest.raises(InputError, match=r"ranking.npz"):
        report([work], tmp_path, SMALL)
    (work.evaluation("found") / "scores.json").write_text("{")
    with pytest.raises(InputError, match=r"scores\.json is not JSON"):
        report([work], tmp_path, SMALL)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("wrong", [{"identities": -1}, {"height": 4}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        ReportSettings(**wrong)


def test_unfinished_steps_are_not_reported(tmp_path: Path) -> None:
    work = build(tmp_path / "work", people=3, parts=("crops", "models"))
    work.model("round1").rename(work.root / "models" / "round1.partial")
    (work.model("round0") / "record.json").unlink()
    (run,) = read_runs([work])
    assert list(run.training) == ["instance"]


def test_nan_is_null_in_json() -> None:
    leaf = aggregate({"a": math.nan, "b": 0.5, "c": None})
    assert leaf == {"by_seed": {"a": None, "b": 0.5}, "mean": 0.5, "spread": None}
    assert aggregate({"a": {}, "b": {}}) == {}
    assert aggregate({"a": [1, 2, 3], "b": [3, 4]})["mean"] == [2.0, 3.0]


def test_names_are_in_natural_order() -> None:
    names = [
        "zoo",
        "color",
        "round10",
        "b2",
        "b10",
        "untrained",
        "round0-review3",
        "round2",
        "found",
        "round0-review12",
    ]
    rounds = ["round2", "round10", "round0-review3", "round0-review12"]
    assert sorted(names, key=natural) == [*rounds, "untrained", "found", "color", "b2", "b10", "zoo"]


@pytest.mark.parametrize("how", ["tsne", "pca"])
def test_projection_separates_groups(how: str) -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(np.eye(8, dtype=np.float32)[:2], 12, axis=0) + 0.01 * random.normal(size=(24, 8))
    plane = project(rows, how=how, seed=0)
    a, b = plane[:12], plane[12:]
    spread = max(np.linalg.norm(a - a.mean(0), axis=1).max(), np.linalg.norm(b - b.mean(0), axis=1).max())
    assert np.linalg.norm(a.mean(0) - b.mean(0)) > spread


@pytest.mark.parametrize("how", ["tsne", "pca"])
def test_projection_does_not_depend_on_threads(how: str) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 512))
    planes = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            planes.append(project(rows, how=how, seed=0))
    assert planes[0].tolist() == planes[1].tolist()


def test_projection_of_few_points() -> None:
    assert project(np.ones((2, 4), np.float32), how="tsne", seed=0).tolist() == [[0, 0], [0, 0]]
    assert not project(np.ones((20, 4), np.float32), how="pca", seed=0).any()


def test_text_in_plots_is_escaped() -> None:
    svg = lines({"a": ([1.0, 2.0], [1.0, 2.0])}, name="x", alt='a "<b>" & c', colours=["#123456"])
    assert 'aria-label="a &quot;&lt;b&gt;&quot; &amp; c"' in svg
    assert 'id="x-' in svg
    Page(svg)


def test_settings_in_reports_contain_no_local_folders(tmp_path: Path) -> None:
    from reappear.pipeline.report.gather import _short_paths

    root = tmp_path / "w"
    given = {
        "name": f"{root}/models/round0",
        "set": f"{tmp_path}/sets/test",
        "data": [f"market1501:{tmp_path}/sets/market", f"weights={tmp_path}/a.onnx", "https://a.b/c", "a/b", 3, None],
    }
    assert _short_paths(given, root) == {
        "name": "models/round0",
        "set": "test",
        "data": ["market1501:market", "weights=a.onnx", "https://a.b/c", "a/b", 3, None],
    }


def test_equal_workspace_names_get_parent_folders(tmp_path: Path) -> None:
    works = [build(tmp_path / place / "work", people=4, seed=seed) for seed, place in enumerate(("x", "y"))]
    page = report(works, tmp_path / "out", SMALL)
    text = page.read_text() + page.with_name("report.json").read_text()
    assert read(page.with_name("report.json"))["runs"] == ["x/work", "y/work"]
    assert str(tmp_path) not in text
