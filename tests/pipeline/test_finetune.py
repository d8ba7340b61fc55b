"""The command as users type it, on painted people in Market-1501's layout and in a workspace."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch

from reappear.cli.app import main
from reappear.data import Images
from reappear.models import Embedder, create_model, save_model
from reappear.pipeline.sets import find_set
from reappear.pipeline.validation import Validation, across_cameras, hold_out_people

from .pretrain_fixture import jpeg, make_validation_set, make_workspace, paint

NETWORK = ["--backbone", "cnn6", "--set", "arguments={width: 4}"]
SMALL = ["--height", "32", "--width", "16", "--images-per-step", "16", "--steps", "6", "--device", "cpu",
         "--validation-share", "0.3", "--validation-every", "2", "--log-every", "1", "--method.augment.padding", "2",
         "--checkpoint-every", "3"]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people to train on, in two cameras, and three images that must not be read."""
    root = tmp_path_factory.mktemp("sets") / "painted"
    for person in range(10):
        for camera in range(2):
            for shot in range(3):
                name = f"{person + 1:04d}_c{camera + 1}s1_{shot:06d}_00.jpg"
                path = root / "bounding_box_train" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(paint(person, camera=camera, shot=shot)))
    for folder in ("query", "bounding_box_test"):
        (root / folder).mkdir()
        (root / folder / "0099_c1s1_000000_00.jpg").write_bytes(b"no image")
    return root


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = 0
    try:
        main(["finetune", *map(str, arguments), "-q"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert "a bug in reappear" not in err
    return code, out, err


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in safetensors.torch.load_file(folder / "model.safetensors").items()}


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_writes_the_best_and_the_last_weights_and_evaluates_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code, printed, err = call(capsys, "--data", data, "--out", out, "--name", "m", *NETWORK, *SMALL, "--json")
    assert code == 0, err
    record = json.loads(printed)
    assert record["counts"]["identities"] == 7
    assert record["counts"]["images"] == 42
    assert record["dropped"] == {"held out for validation": 18}
    folder = out / "models" / "m"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = {row["step"]: row["validation_map"] for row in rows if "validation_map" in row}
    best = max(curve, key=lambda step: (curve[step], -step))
    assert list(curve) == [2, 4, 6]
    assert (record["counts"]["selected_step"], record["counts"]["selected_validation_map"]) == (best, curve[best])
    assert record["counts"]["last_validation_map"] == curve[6]
    assert (folder / "last").exists() == (best != 6)
    assert {"cross_entropy", "triplet_loss", "accuracy", "ordered_triplets"} <= rows[0].keys()

    held = find_set(data).read().where("train")
    held = held.select(hold_out_people(held.identity, held.camera, share=0.3, seed=0))
    for model, step in [(folder, best), *([(folder / "last", 6)] if best != 6 else [])]:
        embedder = Embedder.load(model)
        assert (embedder.config["neck"], embedder.feature, embedder.config["steps"]) == ("bnneck", "before", step)
        scored = Validation.of(Images(across_cameras(held)), embedder.preprocessing).score(embedder)
        assert scored == pytest.approx(curve[step], abs=1e-6)
    card = (folder / "README.md").read_text()
    assert "fine-tuned by cross-entropy and triplets (TransReID)" in card
    assert "42 images of 7 identities (data: painted)" in card

    code, _, err = call(capsys, "--data", data, "--out", out, "--name", "m", *NETWORK, *SMALL)
    assert code == 0
    assert "already done" in err


@pytest.mark.slow
def test_evaluate_makes_the_final_table_of_both_weights(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", data, "--out", tmp_path, "--name", "m", *NETWORK, *SMALL, "--lr", "0.5"]
    assert call(capsys, *arguments)[0] == 0
    folder, set_of = tmp_path / "models" / "m", shutil.copytree(data, tmp_path / "set")
    for part in ("query", "bounding_box_test"):
        shutil.rmtree(set_of / part)
    models = [word for path in (folder, *folder.glob("last")) for word in ("--model", str(path))]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(set_of), "--split", "cross-camera", "--out", str(tmp_path), *models, "-q"])
    shown, err = capsys.readouterr()
    assert not ended.value.code, err
    assert shown.count("mAP") >= len(models) // 2


def test_learns_to_tell_people_apart(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["--steps", "40", "--validation-every", "40", "--lr", "0.01", "--method.augment.erase", "0"]
    code, _, err = call(capsys, "--data", data, "--out", tmp_path, "--name", "m", *NETWORK, *SMALL, *changes)
    assert code == 0, err
    rows = [json.loads(line) for line in (tmp_path / "models" / "m" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["cross_entropy"] < 0.7 * rows[0]["cross_entropy"]
    assert rows[-1]["accuracy"] > rows[0]["accuracy"]


def test_a_workspace_and_a_plain_folder_are_sets_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = make_workspace(tmp_path / "work")
    code, _, err = call(capsys, "--data", f"workspace,identities=found:{work.root}", "--name", "m", *NETWORK, *SMALL)
    assert code == 0, err
    config = Embedder.load(work.model("m")).config
    assert (config["method"], config["data"]) == ("transreid", "work,identities=found")
    code, _, err = call(capsys, "--data", f"workspace,identities=lost:{work.root}", "--name", "n", *NETWORK, *SMALL)
    assert code == 1
    assert "has no identities 'lost'" in err

    for person in range(6):
        folder = tmp_path / "plain" / f"person {person}"
        folder.mkdir(parents=True)
        for shot in range(4):
            cv2.imwrite(str(folder / f"{shot}.png"), paint(person, camera=0, shot=shot)[..., ::-1])
    folder = tmp_path / "plain"
    code, out, err = call(capsys, "--data", folder, "--out", tmp_path / "out", *NETWORK, *SMALL)
    assert code == 0, err  # cameras are unknown: each image is its own
    assert "held out for validation: 8" in out
    assert (tmp_path / "out" / "models" / "transreid" / "model.safetensors").exists()


def test_starts_from_a_model_folder_or_a_file(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = create_model("cnn6", width=4)
    config = {"architecture": "cnn6", "arguments": {"width": 4}, "height": 32, "width": 16}
    save_model(tmp_path / "start", start, config | {"mean": [0, 0, 0], "std": [1, 1, 1]}, card="")
    common = [
        "--data",
        data,
        "--out",
        tmp_path,
        *SMALL,
        "--steps",
        "0",
        "--validation-share",
        "0",
        "--validation-every",
        "0",
    ]
    models = tmp_path / "models"
    code, _, err = call(capsys, *common, "--name", "a", "--init", tmp_path / "start")
    assert code == 0, err
    made = weights(models / "a")
    for name, value in start.state_dict().items():
        np.testing.assert_array_equal(made[f"backbone.{name}"], value.numpy())
    code, _, err = call(capsys, *common, "--name", "b", "--init", models / "a")  # its neck is of other people
    assert code == 0, err
    assert same(models / "a", models / "b")
    file = tmp_path / "start" / "model.safetensors"
    code, _, err = call(capsys, *common, "--name", "c", "--init", file)
    assert (code, "backbone: must be given" in err) == (2, True)
    code, _, err = call(capsys, *common, "--name", "c", "--init", file, *NETWORK)
    assert code == 0, err
    assert same(models / "a", models / "c")


def test_images_that_cannot_be_decoded_are_left_out_counted_and_listed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(data, tmp_path / "set"))
    train = sorted((root / "bounding_box_train").iterdir())
    train[0].write_bytes(b"no image")
    train[7].write_bytes(b"")
    scored = make_validation_set(tmp_path / "scored")
    broken = sorted((scored / "bounding_box_test").iterdir())[0]
    broken.write_bytes(b"no image")
    common = ["--data", root, "--out", tmp_path, *NETWORK, *SMALL, "--validation-share", "0", "--validation", scored]
    code, printed, err = call(capsys, *common, "--name", "m", "--json")
    assert code == 0, err
    record = json.loads(printed)
    assert record["counts"]["images"] == 58
    reasons = {"images that cannot be decoded": 2, "validation images that cannot be decoded": 1}
    assert {reason: record["dropped"][reason] for reason in reasons} == reasons
    listed = json.loads((tmp_path / "models" / "m" / "unreadable.json").read_text())
    assert listed == {str(train[0]): "not an image", str(train[7]): "an empty file", str(broken): "not an image"}
    note = next(line for line in err.splitlines() if "left out: 2 images" in line)
    assert str(train[0]) in note
    assert str(train[7]) in note

    for path in (train[0], train[7]):
        path.unlink()
    assert call(capsys, *common, "--name", "without")[0] == 0
    assert same(tmp_path / "models" / "m", tmp_path / "models" / "without")

    for path in (root / "bounding_box_train").iterdir():
        path.write_bytes(b"no image")
    code, _, err = call(capsys, *common, "--name", "none")
    assert code == 1
    assert "none of 58 images can be decoded" in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--data", "nowhere"], 1, "nowhere does not exist; give the folder of a data set"),
        (["--data", "DATA"], 2, "out: must be given, as DATA is no workspace"),
        (["--data", "DATA", "--out", "OUT", "--method.images", "3"], 2, "--images-per-step: must be a multiple"),
        (["--data", "DATA", "--out", "OUT", "--accumulate", "4"], 2, "accumulate: each part of a step needs two"),
        (["--data", "DATA", "--out", "OUT", "--identities", "1-11"], 2, "identities: must be A-B"),
        (["--data", "DATA", "--out", "OUT", "--identities", "1-3"], 1, "the set has 2; give"),
        (["--data", "DATA", "--out", "OUT", "--identities", "1-1"], 2, "--validation-share: fewer than two people"),
        (["--data", "DATA", "--out", "OUT", "--init", "nowhere.pth"], 1, "nowhere.pth"),
        (["--data", "DATA", "--out", "OUT", "--method", "supcon"], 2, "unknown kind 'supcon'"),
        (["--data", "EMPTY", "--out", "OUT"], 1, "has no training images with an identity"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_leave_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    (tmp_path / "EMPTY" / "query").mkdir(parents=True)
    (tmp_path / "EMPTY" / "bounding_box_test").mkdir()
    for split in ("query", "bounding_box_test"):
        (tmp_path / "EMPTY" / split / "0001_c1s1_000001_00.jpg").write_bytes(jpeg(paint(1, camera=0, shot=0)))
    places = {"DATA": str(data), "OUT": str(tmp_path / "out"), "EMPTY": str(tmp_path / "EMPTY")}
    found, _, err = call(
        capsys,
        *[places.get(word, word) for word in options],
        *NETWORK,
        *(SMALL if "--method.images" not in options and "--accumulate" not in options else [*SMALL[:4], *SMALL[4:]]),
    )
    assert found == code, err
    assert message.replace("DATA", str(data)) in err
    assert not list((tmp_path / "out").glob("models/*"))


def _start(data: Path, out: Path, name: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "reappear", "finetune", "--data", str(data), "--out", str(out), "--name", name]
    return subprocess.Popen(
        [*command, *NETWORK, *SMALL, *more, "-q"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_goes_on_after_a_kill(data: Path, tmp_path: Path) -> None:
    """Also with the best weights so far: here those before the kill may be better than all after it."""
    long = ["--steps", "60", "--validation-every", "4", "--checkpoint-every", "5", "--lr", "0.3"]
    checkpoints = tmp_path / "models" / "killed.partial" / "checkpoints"
    with _start(data, tmp_path, "killed", *long) as process:
        while process.poll() is None and len(list(checkpoints.glob("step-*.pt"))) < 2:
            time.sleep(0.005)
        process.kill()
    assert not (tmp_path / "models" / "killed").exists()
    for name in ("killed", "whole"):
        with _start(data, tmp_path, name, *long) as process:
            output = process.communicate()[0]
        assert process.returncode == 0, output
    folders = [tmp_path / "models" / name for name in ("killed", "whole")]
    assert same(*folders)
    cards = [(folder / "README.md").read_text() for folder in folders]
    assert cards[0] == cards[1]
    assert all((folder / "last").exists() for folder in folders) or "after step 60" in cards[0]
    curves = []
    for folder in folders:
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        curves.append([(row["step"], row["loss"], row.get("validation_map")) for row in rows])
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_two_processes_learn_from_one_clustering(data: Path, tmp_path: Path) -> None:
    """The first process clusters, and the other trains on the same clusters."""
    method = ["--method", "cluster_contrast", "--method.images", "2", "--method.phase-steps", "2", "--method.k1", "6"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "reappear", "finetune"]
    more = [
        *method,
        "--method.k2",
        "2",
        "--images-per-step",
        "8",
        "--validation-share",
        "0",
        "--validation-every",
        "0",
        "--lr",
        "0.0001",
    ]
    done = subprocess.run(
        [sys.executable, *launcher, "--data", data, "--out", tmp_path, "--name", "two", *NETWORK, *SMALL, *more],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "models" / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["clusters"] >= 2 and 0 <= row["pseudo_label_f1"] <= 1 for row in rows)
    assert Embedder.load(tmp_path / "models" / "two").config["method"] == "cluster_contrast"


def test_help_gives_an_example_and_the_settings_of_the_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "reappear finetune --data market1501:SETS --init work/models/round0 --out tuned" in shown
    for option in ("--method.images", "--method.augment.erase-with", "--validation-share", "--lr-schedule"):
        assert option in shown
    for foreign in ("--views", "--local-height", "--keep ", "--colours-on"):
        assert foreign not in shown
