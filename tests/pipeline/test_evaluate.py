import json
import shutil
from dataclasses import replace

import cv2
import jaxtyping
import numpy as np
import pytest

from reappear.core import InputError, SettingsError
from reappear.models import create_model, save_model
from reappear.models.extractors import ModelSettings
from reappear.pipeline.evaluate import EvaluateSettings, evaluate, evaluate_one
from reappear.pipeline.workspace import Workspace
from tests.data import trees


@pytest.fixture
def unchecked():
    """Users run without the checks of annotations that tests add: the resulting messages are tested here."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


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


def test_workspace_may_be_moved(tmp_path):
    data = market(tmp_path / "set")
    work, moved = Workspace(tmp_path / "work"), Workspace(tmp_path / "elsewhere" / "work")
    config = {"architecture": "cnn6", "arguments": {"width": 4}, "height": 32, "width": 16}
    network = create_model("cnn6", width=4)
    save_model(work.model("small"), network, config | {"mean": [0.5] * 3, "std": [0.5] * 3}, card="")

    def settings(where, **how):
        return EvaluateSettings(extractor=ModelSettings(name=str(where.model("small"))), **how)

    evaluate_one(work, "a", settings(work), data=data)
    moved.root.parent.mkdir()
    work.root.rename(moved.root)
    (vectors,) = moved.root.glob("vectors/*/vectors.npy")
    before = vectors.stat().st_mtime_ns
    assert evaluate_one(moved, "a", settings(moved), data=data).already_done
    assert not evaluate_one(moved, "b", settings(moved, top=2), data=data).already_done
    assert [path.stat().st_mtime_ns for path in moved.root.glob("vectors/*/vectors.npy")] == [before]


def test_scores_and_lists(tmp_path):
    data = market(tmp_path / "set")
    work = Workspace(tmp_path / "work")
    record = evaluate_one(work, "color", EvaluateSettings(top=3), data=data)
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
    assert evaluate_one(work, "color", EvaluateSettings(top=3), data=data).already_done
    assert scores["verification"]["pairs_of_one_person"] == 3
    assert scores["cameras"]["cameras"] == [1, 2]
    assert scores["cameras"]["first_right"] == [[None, 1.0], [None, None]]


def test_what_cannot_be_read_is_counted(tmp_path):
    data = market(tmp_path / "set")
    (data / "bounding_box_test" / "0004_c2s1_000009_00.jpg").write_bytes(b"no image")
    (data / "bounding_box_test" / "0005_c2s1_000009_00.jpg").write_bytes(b"")
    (data / "bounding_box_test" / "Thumbs.db").write_bytes(b"x")
    picture(data / "query" / "0009_c1s1_000000_00.jpg", (9, 9, 9))
    work = Workspace(tmp_path / "work")
    evaluate_one(work, "color", EvaluateSettings(), data=data)
    scores = json.loads((work.evaluation("color") / "scores.json").read_text())
    assert scores["skipped"] == {"not an image file": 1, "images that cannot be decoded": 2}
    assert scores["reasons"] == {"its person is not in the gallery": 1}
    assert (scores["queries"], scores["valid_queries"]) == (4, 3)


def one_camera(data):
    market(data, cameras=(2, 2))


def no_camera(data):
    market(data)
    picture(data / "query" / "0001_0.jpg", COLORS[1])


def train_only(data):
    picture(data / "bounding_box_train" / "0001_c1s1_000000_00.jpg", COLORS[1])


def no_gallery(data):
    picture(data / "query" / "0001_c1s1_000000_00.jpg", COLORS[1])


def no_readable_query(data):
    market(data)
    for path in (data / "query").iterdir():
        path.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            one_camera,
            "all images are of camera 2, and the protocol market .* in other cameras; give --protocol no-camera",
        ),
        (no_camera, "the file name has no camera .* or give --protocol no-camera"),
        (no_gallery, "bounding_box_test is missing or holds no images; an evaluation needs queries and a gallery"),
        (train_only, "has training images only; make queries of them by a rule: --split cross-camera"),
        (no_readable_query, "no image of the query can be read, first .*0001_c1s1_000000_00.jpg"),
    ],
)
def test_invalid_input_is_named(tmp_path, build, message):
    build(tmp_path / "set")
    with pytest.raises(InputError, match=message) as caught:
        evaluate_one(Workspace(tmp_path / "work"), "color", EvaluateSettings(), data=tmp_path / "set")
    assert "\n" not in str(caught.value)


def test_no_camera_protocol_works_with_one_camera(tmp_path):
    one_camera(tmp_path / "set")
    work = Workspace(tmp_path / "work")
    evaluate_one(work, "color", EvaluateSettings(protocol="no-camera"), data=tmp_path / "set")
    assert json.loads((work.evaluation("color") / "scores.json").read_text())["mean_ap"] == 1.0


def test_rerank_needs_a_gallery_without_the_queries():
    with pytest.raises(SettingsError, match=r"rerank: queries that are in the gallery .* --gallery-includes-query"):
        EvaluateSettings(rerank=True, protocol="video")


def make_market_set(root, people=6, cameras=(1, 2), shots=2):
    """Training images only: random stripes of each person, a little different in each."""
    for person in range(1, people + 1):
        look = np.random.default_rng(person).integers(0, 255, (4, 1, 3))
        for camera in cameras:
            for shot in range(shots):
                noise = np.random.default_rng([person, camera, shot]).normal(0, 25, (4, 1, 3))
                image = np.repeat(np.clip(look + noise, 0, 255).astype(np.uint8), 16, axis=0).repeat(16, axis=1)
                path = root / "bounding_box_train" / f"{person:04d}_c{camera}s{camera}_{shot:06d}_00.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), image)
    return root


def read_evaluations(path):
    return json.loads(path.read_text())["evaluations"]


@pytest.mark.parametrize(
    ("change", "queries", "gallery"),
    [
        ({"split": "cross-camera"}, 12, 24),
        ({"split": "cross-camera", "query_camera": 3}, 12, 24),
        ({"split": "first-image"}, 6, 30),
        ({"split": "cross-camera", "identities": "2-4"}, 6, 12),
    ],
)
def test_training_images_are_split_by_rule(tmp_path, change, queries, gallery):
    data = make_market_set(tmp_path / "set", cameras=(1, 2, 3))
    (scores,) = read_evaluations(evaluate(Workspace(tmp_path / "work"), EvaluateSettings(**change), data=[data]))
    assert (scores["queries"], scores["gallery"]) == (queries, gallery)
    with np.load(tmp_path / "work" / "evaluations" / scores["name"] / "ranking.npz") as lists:
        queries = lists["query_path"]
        assert set(queries) & set(lists["gallery_path"]) == set()
    if change.get("query_camera"):
        assert all("_c3" in path for path in queries)
    if change.get("identities"):
        assert sorted({path.rsplit("/", 1)[1][:4] for path in queries}) == ["0002", "0003", "0004"]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"split": "cross-camera", "identities": "0-3"},
            SettingsError,
            "positions of people from 1 to 6, got '0-3'",
        ),
        ({"split": "cross-camera", "identities": "5-9"}, SettingsError, "from 1 to 6, got '5-9'"),
        ({"split": "cross-camera", "identities": "all"}, SettingsError, "identities: must be A-B"),
        ({"split": "cross-camera", "query_camera": 4}, SettingsError, "query_camera: must be one of 1, 2, got 4"),
    ],
)
def test_invalid_split_rules_are_refused(tmp_path, change, kind, message):
    data = make_market_set(tmp_path / "set")
    with pytest.raises(kind, match=message):
        evaluate(Workspace(tmp_path / "work"), EvaluateSettings(**change), data=[data])


def test_folder_of_people_without_cameras(tmp_path):
    for path in sorted((make_market_set(tmp_path / "named", people=3, cameras=(1,), shots=3)).rglob("*.png")):
        person = tmp_path / "set" / f"anna{path.name[:4]}"
        person.mkdir(parents=True, exist_ok=True)
        path.rename(person / path.name)
    work, rule = Workspace(tmp_path / "work"), {"split": "first-image"}
    with pytest.raises(InputError, match=r"has no camera .* give --protocol no-camera"):
        evaluate(work, EvaluateSettings(**rule), data=[tmp_path / "set"])
    with pytest.raises(InputError, match="--split cross-camera needs images of two cameras or more, got 0"):
        evaluate(work, EvaluateSettings(split="cross-camera"), data=[tmp_path / "set"])
    (scores,) = read_evaluations(
        evaluate(work, EvaluateSettings(**rule, protocol="no-camera"), data=[tmp_path / "set"])
    )
    assert (scores["mean_ap"], scores["queries"], scores["gallery"]) == (1.0, 3, 6)
    assert scores["cameras"] is None
    assert scores["name"] == "color@set,no-camera,first-image"
    named = evaluate(work, EvaluateSettings(**rule, protocol="no-camera"), data=[f"folder:{tmp_path / 'set'}"])
    assert read_evaluations(named) == [scores]


def test_unrecognised_sets_are_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        evaluate(Workspace(tmp_path / "work"), EvaluateSettings(), data=[tmp_path / "nowhere"])
    with pytest.raises(InputError, match="unknown data set layout 'market1500'; did you mean market1501"):
        evaluate(Workspace(tmp_path / "work"), EvaluateSettings(), data=[f"market1500:{tmp_path}"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty has an unrecognised data set layout"):
        evaluate(Workspace(tmp_path / "work"), EvaluateSettings(), data=[tmp_path / "empty"])
    with pytest.raises(SettingsError, match=r"data: give folders, or .npz files"):
        evaluate(Workspace(tmp_path / "work"), EvaluateSettings(), data=[])


def test_models_and_sets_in_one_table_reuse_embeddings(tmp_path, monkeypatch):
    from reappear.pipeline.evaluate import vectors

    data = [make_market_set(tmp_path / "near"), make_market_set(tmp_path / "far", people=8)]
    work, settings = Workspace(tmp_path / "work"), EvaluateSettings(split="cross-camera", bootstrap=50)
    first = read_evaluations(evaluate(work, settings, data=data, models=["color"]))
    assert [one["name"] for one in first] == ["color@near,cross-camera", "color@far,cross-camera"]
    calls = []
    embed = vectors.embed_images
    monkeypatch.setattr(
        vectors, "embed_images", lambda images, by, **k: calls.append(by.name) or embed(images, by, **k)
    )
    found = evaluate(work, settings, data=data, models=["color", "cnn6"])
    page = json.loads(found.read_text())
    assert set(calls) == {"cnn6"}
    assert [one["label"] for one in page["evaluations"]] == ["color", "cnn6"] * 2
    assert [(one["data"], one["first"], one["second"]) for one in page["differences"]] == [
        ("near", "color", "cnn6"),
        ("far", "color", "cnn6"),
    ]
    for one, of in zip(page["differences"], page["evaluations"][1::2], strict=True):
        before = page["evaluations"][page["evaluations"].index(of) - 1]
        assert one["mean_ap"]["mean"] == pytest.approx(of["mean_ap"] - before["mean_ap"])
        assert one["mean_ap"]["low"] <= one["mean_ap"]["mean"] <= one["mean_ap"]["high"]
        assert 0 <= one["rank_1"]["sign_flip_rate"] <= 1
    calls.clear()
    other = replace(settings, protocol="no-camera", rerank=True, k1=3, k2=2)
    reranked = read_evaluations(evaluate(work, other, data=data[:1], models=["color"]))
    assert not calls  # another rule works on the vectors that are there
    assert reranked[0]["name"] == "color+rerank@near,no-camera,cross-camera"
    flipped = read_evaluations(evaluate(work, replace(settings, flip=True), data=data[:1], models=["color"]))
    assert set(calls) == {"color"}
    assert flipped[0]["label"] == "color+flip"
    text = found.with_suffix(".html").read_text()
    assert "color+flip" in text
    assert text.count("data:image/jpeg;base64,") > 20
    assert "http" not in text.replace("http-equiv", "")


def test_result_names_are_distinct(tmp_path):
    data = make_market_set(tmp_path / "set")
    settings = EvaluateSettings(split="cross-camera")
    with pytest.raises(SettingsError, match="the model color is given twice"):
        evaluate(Workspace(tmp_path / "work"), settings, data=[data], models=["color", "color"])
    with pytest.raises(SettingsError, match="several evaluations cannot have one name"):
        evaluate(Workspace(tmp_path / "work"), settings, data=[data], models=["color", "cnn6"], name="mine")
    (scores,) = read_evaluations(
        evaluate(Workspace(tmp_path / "work"), settings, data=[data], models=["color"], name="mine")
    )
    assert scores["name"] == "mine"


def test_tracklets_are_the_means_of_their_images(tmp_path):
    data = make_market_set(tmp_path / "set", cameras=(1, 2, 3), shots=3)
    settings = EvaluateSettings(split="cross-camera", protocol="video", identities="1-4")
    (scores,) = read_evaluations(evaluate(Workspace(tmp_path / "work"), settings, data=[data]))
    assert (scores["queries"], scores["gallery"]) == (4, 8 + 4)
    without = replace(settings, gallery_includes_query=False)
    (scores,) = read_evaluations(evaluate(Workspace(tmp_path / "other"), without, data=[data]))
    assert (scores["queries"], scores["gallery"]) == (4, 8)
    market(tmp_path / "plain")
    for path in (tmp_path / "plain").rglob("*_c2s1*"):
        path.rename(path.with_name(path.name.replace("c2s1", "c2")))
    with pytest.raises(InputError, match="has no sequence, and the protocol video ranks tracklets"):
        evaluate(Workspace(tmp_path / "third"), EvaluateSettings(protocol="video"), data=[tmp_path / "plain"])


def sequences(root):
    """iLIDS-VID with images that can be looked at: two splits of four people into halves."""
    trees.ilids_vid(root)
    for path in root.rglob("*.png"):
        picture(path, COLORS.get(int(path.parent.name[-1]), (90, 90, 90)), shade=10 * int(path.parent.parent.name[-1]))
    return root


def test_splits_of_a_set_are_its_options(tmp_path):
    root, work = sequences(tmp_path / "sets" / "iLIDS-VID"), Workspace(tmp_path / "work")
    settings = EvaluateSettings(protocol="video", gallery_includes_query=False)
    found = evaluate(work, settings, data=[f"ilids_vid,split={split}:{root}" for split in (0, 1)])
    first, second = read_evaluations(found)
    assert [one["data"] for one in (first, second)] == ["iLIDS-VID,split=0", "iLIDS-VID,split=1"]
    assert (first["queries"], first["gallery"]) == (2, 2)  # tracklets: people at places 3 and 1
    with np.load(work.evaluation(second["name"]) / "ranking.npz") as lists:
        assert lists["query_ids"].tolist() == [1, 2]
    (mean,) = json.loads(found.read_text())["means"]
    assert (mean["set"], mean["label"], mean["splits"]) == ("iLIDS-VID", "color", 2)
    for key in ("mean_ap", "mean_inp"):
        assert mean[key] == pytest.approx((first[key] + second[key]) / 2)
    assert mean["cmc"][0] == pytest.approx((first["cmc"][0] + second["cmc"][0]) / 2)
    assert "2 splits of iLIDS-VID" in found.with_suffix(".html").read_text()
    last = read_evaluations(evaluate(work, settings, data=[f"ilids_vid,split=1,test=last:{root}"]))[0]
    with np.load(work.evaluation(last["name"]) / "ranking.npz") as lists:
        assert lists["query_ids"].tolist() == [9, 319]
    for wrong, message in (
        ("split=2", r"split: must be one of 0..1, or none, got 2"),
        ("split=first", "split: must be a whole number from 0, got 'first'"),
        ("half=1", "ilids_vid has no option half; it has split, test"),
        ("split", "options of a layout are written ilids_vid,KEY=VALUE:FOLDER; got 'split'"),
    ):
        with pytest.raises(SettingsError, match=message):
            evaluate(work, settings, data=[f"ilids_vid,{wrong}:{root}"])


def test_two_sets_of_one_name(tmp_path):
    data = [make_market_set(tmp_path / place / "set") for place in ("here", "there")]
    with pytest.raises(SettingsError, match="two data sets have the name set"):
        evaluate(Workspace(tmp_path / "work"), EvaluateSettings(split="cross-camera"), data=data)


def arrays(seed=0, named=False, cameras=True, people=8):
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(people), 4)
    features = np.random.default_rng(9).normal(size=(people, 16))[ids] + 0.8 * rng.normal(size=(len(ids), 16))
    out = {"features": features.astype(np.float32), "ids": np.array([f"p{i}" for i in ids]) if named else ids}
    if cameras:
        out["cameras"] = np.tile(np.array(["door", "hall"]) if named else np.array([0, 1]), 2 * people)
    return out


def test_embeddings_from_files(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        np.savez(tmp_path / f"{name}-query.npz", **{k: v[::4] for k, v in arrays(seed).items()})
        np.savez(tmp_path / f"{name}-gallery.npz", **arrays(seed + 2))
    files = [tmp_path / f"{name}-{side}.npz" for name in "ab" for side in ("query", "gallery")]
    found = evaluate(Workspace(tmp_path / "work"), EvaluateSettings(bootstrap=50), data=files)
    first, second = read_evaluations(found)
    assert (first["label"], second["label"], first["queries"], first["gallery"]) == ("a-query", "b-query", 8, 32)
    (difference,) = json.loads(found.read_text())["differences"]
    assert difference["mean_ap"]["mean"] == pytest.approx(second["mean_ap"] - first["mean_ap"])
    assert "<img" not in found.with_suffix(".html").read_text()  # no paths of images are given


def test_names_in_files_are_numbered_together(tmp_path):
    np.savez(tmp_path / "q.npz", **{k: v[::4] for k, v in arrays(0, named=True).items()})
    np.savez(tmp_path / "g.npz", **arrays(2, named=True))
    np.savez(tmp_path / "q2.npz", **{k: v[::4] for k, v in arrays(0).items()})
    np.savez(tmp_path / "g2.npz", **arrays(2))
    files = [tmp_path / f"{name}.npz" for name in ("q", "g", "q2", "g2")]
    named, numbered = read_evaluations(evaluate(Workspace(tmp_path / "work"), EvaluateSettings(), data=files))
    assert named["mean_ap"] == numbered["mean_ap"]


@pytest.mark.parametrize(
    ("query", "gallery", "message"),
    [
        ({"ids": None}, {}, "q.npz holds no ids; write it with numpy.savez"),
        ({"features": None}, {}, "q.npz holds no features"),
        ({"cameras": None}, {}, "q.npz holds no cameras, and the other file does; give both"),
        ({"ids": np.array(["a"] * 8)}, {}, "ids of q.npz are names and those of g.npz are numbers; write both alike"),
        ({"ids": np.array([{}] * 8)}, {}, "q.npz .*Python objects"),
        ({"ids": np.arange(8) / 2}, {}, "q.npz: ids must be whole numbers or text, got float64; convert them"),
        ({"cameras": np.array([b"door"] * 8)}, {}, "q.npz: cameras must be whole numbers or text, got |S4"),
        ({"ids": np.arange(7)}, {}, r"q.npz: ids .*\(8,\), got \(7,\)"),
        ({"paths": np.array(["a"])}, {}, r"q.npz: paths .*\(8,\), got \(1,\)"),
        ({"paths": np.arange(8)}, {}, "q.npz: paths must be text, got int64"),
        ({"ids": np.array([0, -2, *range(6)])}, {}, "query_ids: .* got -2"),
        ({"features": np.ones((8, 3))}, {}, "query features have 3 values and gallery features 16; embed both"),
        ({"features": np.full((8, 16), np.nan)}, {}, "query: zero or not finite: 8 rows, the first is 0"),
        ({"cameras": np.zeros(8, int)}, {"cameras": np.zeros(32, int)}, "all images are of camera 0"),
        (
            {"cameras": None},
            {"cameras": None},
            "g.npz hold no cameras, which the protocol market needs; save them as cameras=, or choose --protocol no-",
        ),
        ({k: v[:0] for k, v in arrays(0).items()}, {}, "the query is empty"),
        (None, {}, "q.npz does not exist"),
        (b"no zip", {}, "q.npz .*an .npz file"),
    ],
)
def test_invalid_npz_files_are_one_line(tmp_path, query, gallery, message, unchecked):
    for name, change, plain in (
        ("q", query, {k: v[::4] for k, v in arrays(0).items()}),
        ("g", gallery, arrays(2)),
    ):
        if isinstance(change, bytes):
            (tmp_path / f"{name}.npz").write_bytes(change)
        elif change is not None:
            np.savez(tmp_path / f"{name}.npz", **{k: v for k, v in (plain | change).items() if v is not None})
    with pytest.raises(InputError, match=message) as caught:
        evaluate(Workspace(tmp_path / "work"), EvaluateSettings(), data=[tmp_path / "q.npz", tmp_path / "g.npz"])
    assert "\n" not in str(caught.value)


def test_npz_files_in_pairs_and_single(tmp_path):
    work = Workspace(tmp_path / "work")
    with pytest.raises(SettingsError, match=r"embeddings come in pairs, query.npz gallery.npz; got 1 file"):
        evaluate(work, EvaluateSettings(), data=["q.npz"])
    with pytest.raises(SettingsError, match=r"give .npz files alone"):
        evaluate(work, EvaluateSettings(), data=["q.npz", "g.npz"], models=["color"])


NO_CAMERA = EvaluateSettings(protocol="no-camera", bootstrap=20)


def own_images(scores):
    return [count for reason, count in scores["skipped"].items() if "in the gallery too" in reason]


@pytest.mark.parametrize("named", [False, True])
def test_shared_embeddings_are_not_their_own_match(tmp_path, named):
    """By features; and where features differ in their last bits, as from another batch, by paths."""
    everything = arrays(0, cameras=False) | {"paths": np.array([f"{i}.jpg" for i in range(32)])}
    queries = {k: v[::2] for k, v in everything.items()}
    apart = {k: np.delete(v, slice(None, None, 2), axis=0) for k, v in everything.items()}
    if named:
        queries["features"] = queries["features"] * np.float32(1 + 1e-6)
    else:
        del queries["paths"]
    np.savez(tmp_path / "q.npz", **queries)
    np.savez(tmp_path / "all.npz", **everything)
    np.savez(tmp_path / "others.npz", **apart)
    files = [tmp_path / "q.npz", tmp_path / "all.npz", tmp_path / "q.npz", tmp_path / "others.npz"]
    work = Workspace(tmp_path / "work")
    both = read_evaluations(evaluate(work, NO_CAMERA, data=files[:2]))[0]
    disjoint = read_evaluations(evaluate(Workspace(tmp_path / "other"), NO_CAMERA, data=files[2:]))[0]
    assert own_images(both) == [16]
    assert own_images(disjoint) == []
    assert both["cmc"][0] < 1
    with np.load(work.evaluation(both["name"]) / "ranking.npz") as lists:
        assert (lists["distance"][:, 0] > 1e-3).all()
        assert not (lists["top"] == np.arange(0, 32, 2)[:, None]).any()


def test_file_against_itself_excludes_the_query(tmp_path):
    np.savez(tmp_path / "all.npz", **arrays(0, cameras=False))
    found = read_evaluations(evaluate(Workspace(tmp_path / "work"), NO_CAMERA, data=[tmp_path / "all.npz"] * 2))[0]
    assert own_images(found) == [32]
    assert found["cmc"][0] < 1


@pytest.mark.parametrize("copied", ["copy", "hardlink", "symlink", "renamed"])
def test_queries_copied_into_the_gallery_change_nothing_without_cameras(tmp_path, copied):
    """Whatever their files are called, and though two pictures of a person may look alike to the descriptor."""
    root = make_market_set(tmp_path / "train", cameras=(1,), shots=4)
    for path in sorted((root / "bounding_box_train").iterdir()):
        side = "query" if "000000" in path.name else "bounding_box_test"
        for data in ("apart", "both"):
            (tmp_path / data / side).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / data / side / path.name)
    for path in sorted((tmp_path / "both" / "query").iterdir()):
        name = path.name.replace("_c1s1_000000", "_c1s1_999999") if copied == "renamed" else path.name
        target = tmp_path / "both" / "bounding_box_test" / name
        if copied in ("copy", "renamed"):
            shutil.copy(path, target)
        else:
            target.hardlink_to(path) if copied == "hardlink" else target.symlink_to(path)
    work = Workspace(tmp_path / "work")
    apart, both = read_evaluations(evaluate(work, NO_CAMERA, data=[tmp_path / "apart", tmp_path / "both"]))
    assert own_images(apart) == []
    assert own_images(both) == [6]
    assert both["gallery"] == apart["gallery"] + 6
    with np.load(work.evaluation(both["name"]) / "ranking.npz") as lists:
        own = np.char.find(lists["gallery_path"][lists["top"]], "000000" if copied != "renamed" else "999999") >= 0
        person = np.char.rpartition(lists["gallery_path"][lists["top"]], "/")[..., 2]
        queries = np.char.rpartition(lists["query_path"], "/")[:, 2]
        same = np.array([[name[:4] == q[:4] for name in row] for q, row in zip(queries, person, strict=True)])
        assert not (own & same).any()


def test_copy_under_another_identity_is_excluded(tmp_path):
    data = market(tmp_path / "set")
    shutil.copy(data / "query" / "0001_c1s1_000000_00.jpg", data / "bounding_box_test" / "0002_c2s1_000007_00.jpg")
    work = Workspace(tmp_path / "work")
    found = read_evaluations(evaluate(work, NO_CAMERA, data=[data]))[0]
    assert own_images(found) == [1]
    with np.load(work.evaluation(found["name"]) / "ranking.npz") as lists:
        assert lists["ap"][0] == 1  # whose picture it is; to person 2 it is an answer


def test_rerank_refuses_queries_in_the_gallery(tmp_path):
    np.savez(tmp_path / "all.npz", **arrays(0, cameras=False))
    with pytest.raises(InputError, match="the gallery has 32 images of the queries"):
        evaluate(Workspace(tmp_path / "work"), replace(NO_CAMERA, rerank=True), data=[tmp_path / "all.npz"] * 2)


@pytest.mark.real
def test_two_networks_on_unseen_people(tmp_path, real_data):
    weights = real_data / "weights"
    settings = EvaluateSettings(split="cross-camera", protocol="cross-camera", identities="568-607", bootstrap=100)
    models = ["color", str(weights / "osnet_x0_25_msmt17.onnx")]
    data = [real_data / "cuhk03_np"]
    found = json.loads(evaluate(Workspace(tmp_path / "work"), settings, data=data, models=models).read_text())
    color, osnet = found["evaluations"]
    assert color["people"] == osnet["people"] == 40
    assert osnet["mean_ap"] > 2 * color["mean_ap"]
    assert found["differences"][0]["mean_ap"]["sign_flip_rate"] == 0
