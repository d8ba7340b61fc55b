import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from reappear.core import (
    SILENT,
    InputError,
    MissingExtra,
    ReappearError,
    SettingsError,
    StorageError,
    TrainingError,
    WorkspaceError,
    generator,
)
from reappear.methods.cion.settings import CionSettings, DinoSettings, TrackletSettings
from reappear.methods.moco.settings import MocoSettings
from reappear.methods.upreid.settings import UpReidSettings
from reappear.models import Embedder, load_model
from reappear.pipeline.demo import DemoSettings, demo
from reappear.pipeline.labels import crop_images, labelled_crops
from reappear.pipeline.pretrain import PretrainSettings, pretrain
from reappear.pipeline.pretrain.step import draw_identities
from reappear.pipeline.run import RunSettings, run
from reappear.pipeline.training import CropImages
from reappear.pipeline.validation import Validation
from reappear.pipeline.workspace import Workspace
from reappear.store import read_table, write_table
from reappear.train.views import ViewSettings
from tests.cli.test_kill import workers_of

from .pretrain_fixture import make_validation_set, make_workspace

TINY = PretrainSettings(
    backbone="cnn6",
    arguments={"width": 4},
    height=32,
    width=16,
    local_height=16,
    local_width=8,
    views=ViewSettings(local_views=1),
    steps=5,
    images_per_step=12,
    method=CionSettings(curriculum=((0.0, 2), (0.6, 4)), head_hidden=16, head_bottleneck=8, prototypes=16),
    warmup=0.4,
    log_every=2,
    checkpoint_every=2,
    device="cpu",
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("work"))


def _weights(work: Workspace, name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(work.model(name) / "model.safetensors")


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_leaves_a_model_with_its_card_and_curve(work: Workspace) -> None:
    record = pretrain(work, "whole", TINY, labels="found")
    folder = work.model("whole")
    assert record.counts["identities"] == 8
    assert record.counts["crops"] == 48
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "config.json",
        "README.md",
        "metrics.jsonl",
        "record.json",
    }
    model, config = load_model(folder)
    assert (config["architecture"], config["height"], config["width"], config["exported"]) == (
        "cnn6",
        32,
        16,
        "student",
    )
    assert config["features"] == model.num_features == 16
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 4, 5]
    assert [row["images_per_identity"] for row in rows] == [2, 2, 4, 4]
    assert {"loss", "teacher_entropy", "batch_entropy", "center_norm", "feature_spread", "lr"} <= rows[0].keys()
    assert pretrain(work, "whole", TINY, labels="found").already_done


@pytest.mark.parametrize(
    ("labels", "identities", "crops", "dropped"),
    [
        ("instance", 48, 48, {}),
        ("tracklet", 16, 48, {}),
        ("true", 8, 47, {"not in the ground truth": 1}),
    ],
)
def test_labels_choose_training_identities(
    work: Workspace, labels: str, identities: int, crops: int, dropped: dict[str, int]
) -> None:
    record = pretrain(work, f"by-{labels}", TINY, labels=labels)
    assert (record.counts["identities"], record.counts["crops"], record.dropped) == (identities, crops, dropped)


METHODS = {
    "cion": TINY,
    "dino": dataclasses.replace(TINY, method=DinoSettings(head_hidden=16, head_bottleneck=8, prototypes=16)),
    "tracklet": dataclasses.replace(
        TINY, method=TrackletSettings(curriculum=((0.0, 2),), head_hidden=16, head_bottleneck=8, prototypes=16)
    ),
    "moco": dataclasses.replace(
        TINY, method=MocoSettings(queue=32, head_width=8), views=ViewSettings(local_views=0, erase=0.5)
    ),
    "upreid": dataclasses.replace(
        TINY, method=UpReidSettings(queue=32, head_width=8, patch_rows=2), views=ViewSettings(local_views=0)
    ),
}


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_goes_on_where_it_was_stopped(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    labels = "found" if kind == "cion" else None
    record = pretrain(work, f"whole-{kind}", METHODS[kind], labels=labels)
    assert record.counts["identities"] == {"cion": 8, "dino": 48, "tracklet": 16, "moco": 48, "upreid": 48}[kind]
    assert load_model(work.model(f"whole-{kind}"))[1]["method"] == kind

    def break_off(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("reappear.models.Embedder.save", break_off)
        with pytest.raises(KeyboardInterrupt):
            pretrain(work, f"broken-{kind}", METHODS[kind], labels=labels)
    assert "checkpoints" in {path.name for path in (work.root / "models" / f"broken-{kind}.partial").iterdir()}
    pretrain(work, f"broken-{kind}", METHODS[kind], labels=labels)
    assert _same(_weights(work, f"whole-{kind}"), _weights(work, f"broken-{kind}"))


def test_resume_takes_a_checkpoint_from_elsewhere_and_never_starts_over(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(work, "straight", TINY, labels="found")
    with monkeypatch.context() as patch:
        patch.setattr("reappear.models.Embedder.save", lambda *given, **named: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(work, "left", TINY, labels="found")
    left = work.root / "models" / "left.partial"

    class Heard:
        task = staticmethod(SILENT.task)

        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    progress = Heard()
    pretrain(work, "elsewhere", TINY, labels="found", resume=left, progress=progress)
    assert progress.notes == ["resuming the training after step 4"]
    assert _same(_weights(work, "straight"), _weights(work, "elsewhere"))
    with pytest.raises(SettingsError, match=r"resume: .* is of a training with other settings"):
        pretrain(work, "other", dataclasses.replace(TINY, seed=1), labels="found", resume=left)
    other = Workspace(shutil.copytree(work.root, tmp_path / "relabelled"))
    table = read_table(other.identities("found") / "identities.parquet")
    write_table(other.identities("found") / "identities.parquet", {**table, "identity": table["identity"][::-1]})
    with pytest.raises(SettingsError, match=r"resume: .* images or labels"):
        pretrain(other, "relabelled", TINY, labels="found", resume=left)
    with pytest.raises(InputError, match=r"holds no checkpoint \(step-\*.pt\)"):
        pretrain(work, "none", TINY, labels="found", resume=tmp_path)
    shutil.copytree(left, left.with_name("anew.partial"))
    shorter = dataclasses.replace(TINY, steps=1)
    with pytest.raises(WorkspaceError, match=r"anew.partial was begun with another steps \(5, now 1\)"):
        pretrain(work, "anew", shorter, labels="found")
    assert list((left.with_name("anew.partial") / "checkpoints").iterdir())
    assert pretrain(work, "anew", shorter, labels="found", resume="never").counts["steps"] == 1
    progress.notes.clear()
    pretrain(work, "left", TINY, labels="found", resume="never", progress=progress)
    assert progress.notes == []
    assert _same(_weights(work, "straight"), _weights(work, "left"))


def test_parts_of_a_step_are_the_step(work: Workspace) -> None:
    """Without batch norm, whose statistics are those of a part."""
    # No batch norm in convnext, and none in the head.
    base = dataclasses.replace(
        TINY,
        backbone="convnext_atto",
        arguments={"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8), "patch_size": 2},
        method=dataclasses.replace(TINY.method, head_batch_norm=False, curriculum=((0.0, 2),)),
        height=64,
        local_height=32,
        width=32,
        local_width=32,
        steps=2,
        lr=1e-4,
    )
    pretrain(work, "at-once", base, labels="found")
    pretrain(work, "in-parts", dataclasses.replace(base, accumulate=3), labels="found")
    pretrain(work, "again", dataclasses.replace(base, gradient_checkpointing=True), labels="found")
    whole = _weights(work, "at-once")
    for name in ("in-parts", "again"):
        for key, value in _weights(work, name).items():
            torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=5e-6, msg=lambda text, n=key: f"{n}: {text}")


@pytest.mark.parametrize(
    "changes", [{"precision": "bfloat16"}, {"precision": "float16"}, {"colours_on": "device"}, {"optimizer": "sgd"}]
)
def test_switches_change_the_training_and_leave_it_sound(work: Workspace, changes: dict[str, object]) -> None:
    pretrain(work, "plain", TINY, labels="found")
    name = "-".join(map(str, changes.values()))
    record = pretrain(work, name, dataclasses.replace(TINY, **changes), labels="found")
    plain, other = _weights(work, "plain"), _weights(work, name)
    assert record.counts["loss"] < 2 * np.log(16)
    assert not _same(plain, other)
    assert all(bool(torch.isfinite(value).all()) for value in other.values())


def test_choice_of_batch_norm_statistics_changes_no_weight(work: Workspace) -> None:
    pretrain(work, "plain", TINY, labels="found")
    pretrain(work, "all", dataclasses.replace(TINY, batch_norm_statistics="all"), labels="found")
    plain, other = _weights(work, "plain"), _weights(work, "all")
    differing = {name for name in plain if not torch.equal(plain[name], other[name])}
    assert differing == {name for name in plain if name.endswith(("running_mean", "running_var"))}


def test_people_held_out_are_scored_and_not_trained_on(work: Workspace) -> None:
    settings = dataclasses.replace(TINY, validation_share=0.25, validation_every=5, seed=1)
    record = pretrain(work, "held-out", settings, labels="found")
    assert record.counts["identities"] == 6
    assert record.dropped == {"held out for validation": 12}
    rows = [json.loads(line) for line in (work.model("held-out") / "metrics.jsonl").read_text().splitlines()]
    assert 0 < rows[-1]["validation_map"] <= 1


def test_model_that_diverged_in_its_last_step_is_not_exported(work: Workspace) -> None:
    with pytest.raises(TrainingError, match=r"the model is not saved: .*: NaN or infinite") as caught:
        pretrain(work, "diverged", dataclasses.replace(TINY, steps=2, warmup=0.0, lr=1e38), labels="found")
    assert "\n" not in str(caught.value)
    assert not work.model("diverged").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "cnn7"},
        {"arguments": {"depth": 3}},
        {"backbone": "vit_tiny_patch16_224", "arguments": {}},
        {"init": Path("nowhere.pth")},
        {"device": "tpu9"},
        {"tracker": "wandb"},
        {"gradient_checkpointing": True},
        {"validation": Path("nowhere")},
        {"images_per_step": 10},
        {"accumulate": 4},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_cannot_be_trained_leaves_nothing_behind(work: Workspace, changes: dict[str, object]) -> None:
    before = set((work.root / "models").glob("*"))
    with pytest.raises(ReappearError):
        pretrain(work, "never", dataclasses.replace(TINY, **changes), labels="found")
    assert set((work.root / "models").glob("*")) == before


@pytest.mark.parametrize("lacking", ["query", "gallery", "other cameras"])
def test_validation_without_a_query_that_has_a_match_is_refused(work: Workspace, tmp_path: Path, lacking: str) -> None:
    validation = make_validation_set(tmp_path / "validation")
    folder = validation / ("query" if lacking == "query" else "bounding_box_test")
    for path in folder.iterdir():
        path.unlink() if lacking != "other cameras" else path.rename(path.with_name(path.name.replace("_c2", "_c1")))
    if lacking == "other cameras":
        for path in (validation / "query").glob("*_c2*"):
            path.unlink()
    with pytest.raises(InputError, match=f"validation: {re.escape(str(validation))}"):
        pretrain(work, "never", dataclasses.replace(TINY, validation=validation, validation_every=2), labels="found")
    assert not list((work.root / "models").glob("never*"))


def test_run_checks_the_training_before_anything_else(tmp_path: Path) -> None:
    settings = RunSettings(pretrain=dataclasses.replace(TINY, backbone="cnn7"))
    video = tmp_path / "no video.mp4"
    video.write_text("text")
    with pytest.raises(InputError, match="did you mean cnn6"):
        run([video], Workspace(tmp_path / "w"), settings)
    with pytest.raises(InputError, match="did you mean cnn6"):
        demo(tmp_path / "d", DemoSettings(run=settings))
    assert list(tmp_path.iterdir()) == [video]


def test_zero_steps_export_the_network_as_it_was_drawn(work: Workspace) -> None:
    first = pretrain(work, "untrained", dataclasses.replace(TINY, steps=0), labels="instance")
    pretrain(work, "untrained-too", dataclasses.replace(TINY, steps=0, keep="teacher"), labels="found")
    assert first.counts["steps"] == 0
    assert _same(_weights(work, "untrained"), _weights(work, "untrained-too"))


def test_epochs_count_where_steps_are_not_given(work: Workspace) -> None:
    settings = dataclasses.replace(TINY, steps=None, epochs=1.5)
    assert pretrain(work, "epochs", settings, labels="found").counts["steps"] == 6


def test_init_starts_from_given_weights(work: Workspace) -> None:
    pretrain(work, "start", TINY, labels="found")
    settings = dataclasses.replace(TINY, steps=0, init=work.model("start"), seed=7)
    pretrain(work, "from-start", settings, labels="found")
    assert _same(_weights(work, "start"), _weights(work, "from-start"))


def test_memory_and_workers_change_nothing(work: Workspace) -> None:
    pretrain(work, "held", TINY, labels="found")
    pretrain(work, "read", dataclasses.replace(TINY, memory_mb=0, workers=1), labels="found")
    assert _same(_weights(work, "held"), _weights(work, "read"))


def test_tall_crops_are_shrunk_the_same_way_held_or_read(work: Workspace) -> None:
    images = crop_images(work, labelled_crops(work, "instance")[0])
    held = CropImages(images, max_height=20, memory_mb=10)
    read = CropImages(images, max_height=20, memory_mb=0)
    for i in range(4):
        assert held[i].shape == (20, 10, 3)
        np.testing.assert_array_equal(held[i], read[i])


def test_crops_that_cannot_be_decoded_are_left_out_and_listed(tmp_path: Path) -> None:
    work = make_workspace(tmp_path / "work")
    crops = read_table(work.crops / "crops.parquet")
    shard = work.crops / "shard-00000.tar"
    data = bytearray(shard.read_bytes())
    begin, size = int(crops["offset"][5]), int(crops["size"][5])
    data[begin : begin + size] = bytes(size)
    shard.write_bytes(data)
    record = pretrain(work, "m", TINY, labels="instance")
    assert (record.counts["crops"], record.counts["identities"]) == (47, 47)
    assert record.dropped == {"images that cannot be decoded": 1}
    assert json.loads((work.model("m") / "unreadable.json").read_text()) == {"crop 5": "not an image"}


def test_validation_scores_the_model_while_it_trains(work: Workspace, tmp_path: Path) -> None:
    validation = make_validation_set(tmp_path / "validation")
    pretrain(work, "validated", dataclasses.replace(TINY, validation=validation, validation_every=2), labels="found")
    rows = [json.loads(line) for line in (work.model("validated") / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation_map" in row] == [2, 4, 5]
    embedder = Embedder.load(work.model("validated"))
    again = Validation.of_folder(validation, embedder.preprocessing).score(embedder)
    assert rows[-1]["validation_map"] == pytest.approx(again, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images_per_step": 10}, SettingsError, "images_per_step: 10 is not a multiple of 4"),
        ({"lr": 1e38, "bad_steps": 1}, TrainingError, "the loss is nan at step 2 and the norm of its gradient"),
        ({"device": "tpu9"}, SettingsError, "device: must be auto, cpu, cuda"),
        ({"gradient_checkpointing": True}, SettingsError, "gradient_checkpointing: cnn6 cannot"),
        (
            {"accumulate": 4, "images_per_step": 12},
            InputError,
            "accumulate: a step of 6 identities cannot be cut into 4",
        ),
        ({"method": MocoSettings(queue=3)}, SettingsError, "views.local_views: method moco compares two views"),
        ({"method": MocoSettings(queue=3), "views": ViewSettings(local_views=0)}, SettingsError, "queue: must hold"),
        ({"method": DinoSettings()}, SettingsError, "labels: method dino learns from labels instance, got found"),
        ({"tracker": "wandb"}, MissingExtra, "tracker: wandb needs a package: pip install 'reappear[wandb]'"),
        ({"backbone": "cnn7"}, InputError, "no model is called 'cnn7'; did you mean cnn6"),
        ({"arguments": {"depth": 3}}, SettingsError, "cnn6 cannot be built with {'depth': 3}"),
        ({"backbone": "vit_tiny_patch16_224", "arguments": {}}, SettingsError, "does not take images of 32x16"),
    ],
)
def test_bad_settings_raise_one_line_errors(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    work = make_workspace(tmp_path, people=4)
    labels = None if isinstance(changes.get("method"), MocoSettings) else "found"
    with pytest.raises(error, match=re.escape(message)) as caught:
        pretrain(work, "bad", dataclasses.replace(TINY, **changes), labels=labels)
    assert "\n" not in str(caught.value)


def test_labels_that_are_not_there(work: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no identities 'lost'; labels are instance, tracklet, given, true, found"):
        pretrain(work, "m", TINY, labels="lost")
    with pytest.raises(InputError, match="has no crops yet"):
        pretrain(Workspace(tmp_path), "m", TINY, labels="instance")


def test_other_settings_for_a_finished_name_are_refused(work: Workspace) -> None:
    pretrain(work, "fixed", TINY, labels="found")
    with pytest.raises(WorkspaceError, match=r"seed \(0, now 1\)"):
        pretrain(work, "fixed", dataclasses.replace(TINY, seed=1), labels="found")


_RUN = """
import sys, dataclasses
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.pipeline.test_pretrain import TINY
from reappear.pipeline.pretrain import pretrain
from reappear.pipeline.workspace import Workspace
settings = dataclasses.replace(TINY, **{"steps": eval(sys.argv[4]), "images_per_step": 24, **eval(sys.argv[5])})
pretrain(Workspace(Path(sys.argv[2])), sys.argv[3], settings, labels="found")
"""


def _start(work: Workspace, name: str, steps: int | None, changes: str = "{}", *launcher: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, *(launcher or ("-c", _RUN)), root, str(work.root), name, str(steps), changes]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)


def _run(*arguments: object) -> None:
    process = _start(*arguments)
    _, said = process.communicate()
    assert process.returncode == 0, said


def _steps_done(work: Workspace, name: str) -> int:
    path = work.root / "models" / f"{name}.partial" / "metrics.jsonl"
    try:
        return json.loads(path.read_text().splitlines()[-1])["step"]
    except (FileNotFoundError, IndexError, ValueError):
        return 0


@pytest.mark.slow
def test_twenty_kills_leave_no_trace(tmp_path: Path) -> None:
    """Six epochs, stopped twenty times: after some steps or at any moment, by signals that can be handled and not.

    Signals go to the process, to its group, and to a worker, which ends for SIGKILL alone.
    """
    work = make_workspace(tmp_path, people=80, crops=8)
    changes = "{'epochs': 6.0, 'images_per_step': 12, 'checkpoint_every': 3, 'workers': 1}"
    _run(work, "undisturbed", None, changes)
    steps = json.loads((work.model("undisturbed") / "record.json").read_text())["counts"]["steps"]
    random = generator(0, "kills")
    kills = 0
    for turn, number in enumerate([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT] * 5):
        goal = _steps_done(work, "killed") + int(random.integers(1, 8))
        patience = float(random.uniform(0.5, 4.0)) if random.random() < 0.3 else 1000.0
        process, since = _start(work, "killed", None, changes), time.monotonic()
        while process.poll() is None and _steps_done(work, "killed") < goal and time.monotonic() - since < patience:
            time.sleep(0.001)
        if turn % 3 == 0:
            process.send_signal(number)
        elif turn % 3 == 1:
            os.killpg(process.pid, number)
        else:
            for worker in workers_of(process.pid):
                os.kill(worker, number)
            if number != signal.SIGKILL:
                time.sleep(0.2)
                assert process.poll() is None
            if number != signal.SIGKILL or not workers_of(process.pid):
                process.kill()
        process.communicate()
        kills += process.returncode != 0
    assert kills == 20
    assert _steps_done(work, "killed") < steps
    _run(work, "killed", None, changes)
    assert _same(_weights(work, "undisturbed"), _weights(work, "killed"))
    undisturbed, killed = (
        [json.loads(line)["loss"] for line in (work.model(name) / "metrics.jsonl").read_text().splitlines()]
        for name in ("undisturbed", "killed")
    )
    assert undisturbed == killed


def test_a_full_disk_stops_the_training_and_costs_nothing(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain(work, "roomy", TINY, labels="found")
    write = Path.write_bytes

    def fills_up(path: Path, data: bytes) -> int:
        if "step-000000004" in path.name:
            write(path, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fills_up)
        with pytest.raises(StorageError, match="the disk is full; free some space and run the same command again"):
            pretrain(work, "full", TINY, labels="found")
    left = work.root / "models" / "full.partial" / "checkpoints"
    assert [path.name.split("-")[1] for path in left.iterdir()] == ["000000002"]
    pretrain(work, "full", TINY, labels="found")
    assert _same(_weights(work, "roomy"), _weights(work, "full"))


@pytest.mark.slow
def test_sigterm_saves_the_step_that_it_came_in(tmp_path: Path) -> None:
    work = make_workspace(tmp_path)
    process = _start(work, "stopped", 500, "{'checkpoint_every': 10000}")
    while _steps_done(work, "stopped") < 4:
        time.sleep(0.002)
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == -signal.SIGTERM, said
    saved = list((work.root / "models" / "stopped.partial" / "checkpoints").glob("step-*.pt"))
    assert len(saved) == 1
    assert int(saved[0].name.split("-")[1]) >= 4


@pytest.mark.slow
def test_two_processes_make_one_model(tmp_path: Path) -> None:
    """What they compute is compared in `tests/train/test_two_processes.py`; here, the command under torchrun."""
    work = make_workspace(tmp_path)
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script))
    _run(work, "two", 4, "{}", *launcher)
    assert load_model(work.model("two"))[1]["steps"] == 4


@pytest.mark.slow
def test_two_processes_stop_together_print_once_and_go_on(tmp_path: Path) -> None:
    work = make_workspace(tmp_path)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "reappear",
        "pretrain", str(tmp_path), "--labels", "found", "--name", "two", "--steps", "60", "--device", "cpu",
        "--backbone", "cnn6", "--set", "arguments={width: 4}", "--images-per-step", "16", "--workers", "1",
        "--set", "method.curriculum=[[0, 2]]", "--method.head-width", "16", "--log-every", "1",
    ]  # fmt: skip
    launcher = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while _steps_done(work, "two") < 4:
        assert launcher.poll() is None
        time.sleep(0.005)
    launcher.terminate()
    _, err = launcher.communicate()
    assert err.count("reappear: stopped; the same command continues") == 1, err
    assert len(list((work.root / "models" / "two.partial" / "checkpoints").glob("step-*.pt"))) == 1
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("steps: 60") == 1


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tmp_path: Path) -> None:
    """In processes of their own: the shape checks of tests cannot be compiled."""
    work = make_workspace(tmp_path)
    _run(work, "start", 0)
    _run(work, "eager", 3, "{'optimizer': 'sgd', 'lr': 0.3}")  # moves by the gradient's size, not by its sign
    _run(work, "compiled", 3, "{'optimizer': 'sgd', 'lr': 0.3, 'compile': True}")
    start, eager, compiled = (_weights(work, name) for name in ("start", "eager", "compiled"))
    assert max(float((eager[key] - start[key]).abs().max()) for key in eager) > 1e-2
    for key, value in compiled.items():
        torch.testing.assert_close(value, eager[key], rtol=1e-3, atol=1e-4, msg=lambda text, n=key: f"{n}: {text}")


@pytest.mark.slow
def test_a_compiled_transformer_takes_views_of_two_sizes(tmp_path: Path) -> None:
    """Its position embedding is resized for the smaller ones, which torch compiles for fixed sizes only."""
    work = make_workspace(tmp_path)
    sizes = "'height': 64, 'width': 32, 'local_height': 32, 'local_width': 16"
    network = "'backbone': 'vit_tiny', 'arguments': {'depth': 1, 'embed_dim': 24}, 'precision': 'bfloat16'"
    _run(work, "compiled", 2, f"{{{network}, {sizes}, 'compile': True}}")
    assert load_model(work.model("compiled"))[1]["steps"] == 2


def test_share_of_identities_is_part_of_a_larger_share_and_drawn_by_the_seed(work: Workspace) -> None:
    table, _ = labelled_crops(work, "true")
    people = np.unique(table.identity)
    drawn = [draw_identities(table, share, seed=3) for share in (0.01, 0.3, 0.6, 1.0)]
    counts = [len(np.unique(table.identity[rows])) for rows in drawn]
    assert counts == [1, round(0.3 * len(people)), round(0.6 * len(people)), len(people)]
    for smaller, larger in pairwise(drawn):
        assert not (smaller & ~larger).any()
    for rows in drawn:  # whole identities
        assert not set(table.identity[rows]) & set(table.identity[~rows])
    others = [draw_identities(table, 0.5, seed) for seed in range(5)]
    assert len({rows.tobytes() for rows in others}) > 1


def test_share_of_identities_is_trained_on(work: Workspace) -> None:
    half = dataclasses.replace(TINY, steps=1, data_share=0.5)
    record = pretrain(work, "half", half, labels="true")
    rows = draw_identities(labelled_crops(work, "true")[0], 0.5, half.seed)
    assert record.counts["crops"] == rows.sum()
    assert record.dropped["beyond data_share"] == (~rows).sum()
