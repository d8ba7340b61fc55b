"""Tracklets as the unit: GRL from the command line on a workspace and on a tree in the layout of MARS."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from reappear.cli.app import main
from reappear.data import Images, read
from reappear.metrics import rank
from reappear.models import Embedder, Preprocessing, create_model
from reappear.models.extractors import ModelSettings
from reappear.pipeline.evaluate import EvaluateSettings, evaluate_one
from reappear.pipeline.validation import Validation, hold_out_people
from reappear.pipeline.workspace import Workspace

from .pretrain_fixture import jpeg, make_workspace, paint

SMALL = ["--method", "grl", "--method.frames", "2", "--backbone", "cnn6", "--set", "arguments={width: 4}",
         "--height", "32", "--width", "16", "--images-per-step", "16", "--steps", "4", "--device", "cpu",
         "--validation-share", "0.3", "--validation-every", "2", "--log-every", "1"]  # fmt: skip


def mars(root: Path, *, people: int = 8, frames: int = 5) -> Path:
    """People 1 to 8 to train on, 11 to 18 to test on, two tracklets each in two cameras; junk and a distractor."""
    names: dict[str, list[str]] = {"train": [], "test": []}
    tracks: dict[str, list[list[int]]] = {"train": [], "test": []}

    def add(part: str, person: int, camera: int, tracklet: int) -> None:
        who = f"{person:04d}" if person >= 0 else "00-1"
        first = len(names[part]) + 1
        for shot in range(frames):
            name = f"{who}C{camera}T{tracklet:04d}F{shot + 1:03d}.jpg"
            path = root / f"bbox_{part}" / who / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(paint(person % 97, camera=camera, shot=10 * tracklet + shot)))
            names[part].append(name)
        tracks[part].append([first, len(names[part]), person, camera])

    for person in range(1, people + 1):
        for camera in (1, 2):
            for tracklet in (1, 2):
                add("train", person, camera, tracklet)
                add("test", person + 10, camera, tracklet)
    add("test", 0, 1, 1)
    add("test", -1, 2, 1)
    (root / "info").mkdir()
    for part in names:
        (root / "info" / f"{part}_name.txt").write_text("\n".join(names[part]) + "\n")
        savemat(root / "info" / f"tracks_{part}_info.mat", {f"track_{part}_info": np.array(tracks[part], float)})
    savemat(root / "info" / "query_IDX.mat", {"query_IDX": [[4 * i + 1 for i in range(people)]]})
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mars(tmp_path_factory.mktemp("sets") / "mars")


PEOPLE = 8


def ilids_vid(root: Path) -> str:
    """Eight people; ten splits in the file of the authors."""
    for person in range(1, PEOPLE + 1):
        for camera in (1, 2):
            for shot in range(3):
                name = f"person{person:03d}"
                path = root / f"i-LIDS-VID/sequences/cam{camera}/{name}/cam{camera}_{name}_{shot:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(paint(person, camera=camera, shot=shot)))
    folder = root / "train-test people splits"
    folder.mkdir()
    matrix = np.stack([np.random.default_rng(split).permutation(PEOPLE) + 1 for split in range(10)])
    savemat(folder / "train_test_splits_ilidsvid.mat", {"ls_set": matrix.astype(np.uint16)})
    return "ilids_vid,split={},test=last:" + str(root)


def prid2011(root: Path) -> str:
    """Ten people, of whom eight are in the ten splits."""
    for person in range(1, PEOPLE + 3):
        for camera in "ab":
            for shot in range(3):
                path = root / f"prid_2011/multi_shot/cam_{camera}/person_{person:04d}/{shot:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(paint(person, camera=" ab".index(camera), shot=shot)))
    splits = []
    for split in range(10):
        names = [f"person_{p + 1:04d}" for p in np.random.default_rng(split).permutation(PEOPLE)]
        splits.append({"train": names[: PEOPLE // 2], "test": names[PEOPLE // 2 :]})
    (root / "splits_prid2011.json").write_text(json.dumps(splits))
    return "prid2011,split={}:" + str(root)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = 0
    try:
        main([*map(str, arguments), "-q"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "a bug in reappear" not in err
    return code, out, err


def test_learns_from_the_tracklets_of_a_workspace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = make_workspace(tmp_path / "work")
    data = f"workspace,identities=found:{work.root}"
    code, printed, err = call(capsys, "finetune", "--data", data, "--name", "m", *SMALL, "--json")
    assert code == 0, err
    assert json.loads(printed)["counts"]["identities"] == 6
    folder = work.model("m")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"frame_loss", "clip_loss", "memory_loss", "pair_loss", "triplet_loss", "verified_pairs"} <= rows[0].keys()
    assert [row["step"] for row in rows if "validation_map" in row] == [2, 4]
    card = (folder / "README.md").read_text()
    assert "reciprocal learning of clips (GRL)" in card
    config = Embedder.load(folder).config
    assert (config["architecture"], config["method"], config["arguments"]["network"]) == ("grl", "grl", "cnn6")


@pytest.mark.parametrize("pooling", ["grl", "average"])
def test_validation_is_of_a_clip_of_each_tracklet(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pooling: str
) -> None:
    code, _, err = call(
        capsys, "finetune", "--data", tree, "--out", tmp_path, "--name", "m", *SMALL, "--method.pooling", pooling
    )
    assert code == 0, err
    folder = tmp_path / "models" / "m"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = {row["step"]: row["validation_map"] for row in rows if "validation_map" in row}
    table = read("mars", tree).where("train")
    held = table.select(hold_out_people(table.identity, table.camera, share=0.3, seed=0))
    embedder = Embedder.load(folder)
    validation = Validation.of_tracklets(Images(held), embedder.preprocessing, frames=2)
    assert (validation.table.split == "query").sum() == 2 * 2
    assert (validation.table.split == "gallery").sum() == 2 * 4
    assert validation.score(embedder) == pytest.approx(curve[embedder.config["steps"]], abs=1e-6)
    tracklets = [[Images(held)[row] for row in range(5 * i, 5 * i + 5)] for i in range(8)]
    np.testing.assert_allclose(
        embedder.tracklets(tracklets), embedder.tracklets(list(validation.pixels[-8:])), atol=1e-4
    )


@pytest.mark.parametrize(
    ("write", "splits"),
    [
        (ilids_vid, [9]),
        (prid2011, [4]),
        pytest.param(ilids_vid, range(10), marks=pytest.mark.slow),
        pytest.param(prid2011, range(10), marks=pytest.mark.slow),
    ],
)
def test_a_model_of_each_split_is_scored_on_the_other_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Path], str], splits: list[int]
) -> None:
    data, scores, halves = write(tmp_path / "set"), [], set()
    for split in splits:
        name, mine = f"split{split}", data.format(split)
        options = [*SMALL, "--validation-share", "0", "--validation-every", "0", "--out", tmp_path]
        code, printed, err = call(capsys, "finetune", "--data", mine, "--name", name, *options, "--json")
        assert code == 0, err
        counts = json.loads(printed)["counts"]
        assert (counts["identities"], counts["images"]) == (PEOPLE // 2, PEOPLE // 2 * 2 * 3)
        options = ["--protocol", "video", "--gallery-includes-query", "no", "--bootstrap", "5", "--out", tmp_path]
        model = tmp_path / "models" / name
        code, printed, err = call(capsys, "evaluate", mine, "--model", model, "--name", name, *options, "--json")
        assert code == 0, err
        (found,) = json.loads(printed)["evaluations"]
        assert (found["queries"], found["gallery"]) == (PEOPLE // 2, PEOPLE // 2)
        scores.append(found["cmc"][0])
        table = read(
            mine.partition(",")[0], tmp_path / "set", split=split, **({"test": "last"} if "last" in mine else {})
        )
        trained, tested = (set(table.where(part).identity.tolist()) for part in ("train", "query"))
        assert not trained & tested
        assert tested == set(table.where("gallery").identity.tolist())
        halves.add(frozenset(tested))
    assert len(halves) > len(splits) / 2  # splits differ
    assert 0 <= np.mean(scores) <= 1


@pytest.mark.parametrize("named", [[], ["--backbone", "cnn6"]])
def test_a_model_of_clips_begins_a_second_training(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], named: list[str]
) -> None:
    arguments = {"network": "cnn6", "width": 4, "frames": 3}
    torch.manual_seed(1)
    first = Embedder(
        create_model("grl", **arguments).eval(),
        Preprocessing(height=32, width=16),
        config={"architecture": "grl", "arguments": arguments},
    )
    first.save(tmp_path / "first")
    at = SMALL.index("--backbone")
    options = [*SMALL[:at], *SMALL[at + 4 :], "--out", tmp_path, "--init", tmp_path / "first", "--steps", "0"]
    more = [*named, "--set", "arguments={width: 4}"] if named else []
    code, _, err = call(capsys, "finetune", "--data", tree, "--name", "second", *options, *more)
    assert code == 0, err
    second = Embedder.load(tmp_path / "models" / "second")
    torch.testing.assert_close(second.backbone.state_dict(), first.backbone.state_dict(), rtol=0, atol=0)
    assert second.config["arguments"]["network"] == "cnn6"
    assert second.clip_frames == 2
    code, _, err = call(capsys, "finetune", "--data", tree, *options, *more, "--method.pooling", "average")
    assert code in (1, 2)
    assert ("first was trained with grl" in err) == (not named)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images-per-step", "18"], "--images-per-step: must be pairs of clips of --method.frames 2"),
        (["--accumulate", "4"], "accumulate: each part of a step needs two pairs"),
        (["--init", "FOLDER", "--backbone", "grl"], "clips need a backbone of images"),
    ],
)
def test_mistakes_are_one_line(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    options = [] if "FOLDER" in options else options
    more = options or ["--backbone", "grl", "--set", "arguments={network: cnn6, width: 4}"]
    code, _, err = call(capsys, "finetune", "--data", tree, "--out", tmp_path, "--name", "m", *SMALL, *more)
    assert code == 2
    assert message in err


def test_images_without_tracklets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for person in range(6):
        for shot in range(4):
            path = tmp_path / "plain" / f"person {person}" / f"{shot}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(paint(person, camera=0, shot=shot)))
    code, _, err = call(capsys, "finetune", "--data", tmp_path / "plain", "--out", tmp_path, *SMALL)
    assert code == 1
    assert "clips need the tracklet of every image" in err


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GRL of first weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "video"
    arguments = {"network": "cnn6", "width": 4, "frames": 3}
    network = create_model("grl", **arguments).eval()
    config = {"architecture": "grl", "arguments": arguments}
    Embedder(network, Preprocessing(height=32, width=16), config=config).save(folder)
    return folder


@pytest.mark.parametrize("how", ["clip", "dense"])
def test_tracklets_of_mars_are_ranked_by_their_descriptors(
    tree: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    for includes in ("yes", "no"):
        options = ["--protocol", "video", "--tracklet", how, "--gallery-includes-query", includes, "--name", includes]
        options += ["--bootstrap", "5"]
        code, printed, err = call(capsys, "evaluate", tree, "--model", model, "--out", tmp_path, *options, "--json")
        assert code == 0, err
        found = json.loads(printed)["evaluations"][-1]
        table = read("mars", tree)
        tracklets = [np.flatnonzero(table.sequence == number) for number in np.unique(table.sequence)]
        tracklets = [rows for rows in tracklets if table.split[rows[0]] != "train"]
        images = Images(table)
        frames = [[images[row] for row in rows.tolist()] for rows in tracklets]
        vectors = Embedder.load(model).tracklets(frames, dense=how == "dense")
        first = np.array([rows[0] for rows in tracklets])
        query = table.split[first] == "query"
        gallery = np.ones(len(query), bool) if includes == "yes" else ~query
        ranking = rank(
            vectors[query],
            vectors[gallery],
            query_ids=table.identity[first[query]],
            gallery_ids=table.identity[first[gallery]],
            query_cameras=table.camera[first[query]],
            gallery_cameras=table.camera[first[gallery]],
        )
        assert found["mean_ap"] == pytest.approx(ranking.mean_ap, abs=1e-6)
        assert (found["queries"], found["gallery"]) == (8, int(gallery.sum()))  # the distractor and junk are there


def test_a_tracklet_that_cannot_be_read_is_left_out(model: Path, tmp_path: Path) -> None:
    data = mars(tmp_path / "mars", people=3)
    names = sorted((data / "bbox_test" / "0011").iterdir())
    names[-5].write_bytes(b"no image")  # the first of the last tracklet
    record = evaluate_one(
        Workspace(tmp_path / "work"),
        "e",
        EvaluateSettings(extractor=ModelSettings(name=str(model)), protocol="video", bootstrap=5),
        data=data,
    )
    assert record.dropped["tracklets with an image that cannot be decoded"] == 1
    assert record.counts["gallery"] == 3 * 4 + 2 - 1


def test_images_alone_and_other_models_are_ranked_as_before(model: Path, tree: Path, tmp_path: Path) -> None:
    work, color = Workspace(tmp_path / "work"), EvaluateSettings(protocol="video", bootstrap=5)
    clips = EvaluateSettings(extractor=ModelSettings(name=str(model)), protocol="video", tracklet="images", bootstrap=5)
    for name, settings in (("color", color), ("images", clips)):
        assert evaluate_one(work, name, settings, data=tree).counts["queries"] == 8
    record = evaluate_one(work, "market", EvaluateSettings(extractor=clips.extractor, bootstrap=5), data=tree)
    assert record.counts["queries"] == 8 * 5
