"""A device that runs out of memory: one line with the settings that help, and the work goes on with them."""

import dataclasses
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from reappear.cli.app import main
from reappear.core import SILENT, DeviceError, describe_out_of_memory, device_memory_errors
from reappear.methods.cion.task import Cion
from reappear.models.extractors import ColorExtractor
from reappear.pipeline import embed as embed_step
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.evaluate import EvaluateSettings
from reappear.pipeline.evaluate.score import score
from reappear.pipeline.evaluate.vectors import LabelledEmbeddings
from reappear.pipeline.pretrain import pretrain
from tests.pipeline.pretrain_fixture import make_workspace

from .test_correlate import pretend
from .test_embed import CROPS, make_crops
from .test_pretrain import TINY

FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB is "
    "free. Process 1 has 78.00 GiB memory in use. See documentation for Memory Management"
)
SHORT = (
    "CUDA out of memory, Tried to allocate 2.00 GiB, GPU 0 has a total capacity of 79.10 GiB of which 1.00 GiB is free"
)


def fail(*_: object, **__: object) -> None:
    raise torch.OutOfMemoryError(FULL)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(FULL),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 8 bytes. Error"),
    ],
)
def test_errors_about_memory_are_told_from_others(error: RuntimeError) -> None:
    with pytest.raises(DeviceError, match="; lower batch") as caught, device_memory_errors("lower batch"):
        raise error
    assert "\n" not in str(caught.value)


def test_other_errors_pass() -> None:
    assert describe_out_of_memory(RuntimeError("shapes do not match")) == ""
    with pytest.raises(RuntimeError, match="shapes do not match"), device_memory_errors("lower batch"):
        raise RuntimeError("shapes do not match")


def test_pretraining_names_the_settings_and_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = make_workspace(tmp_path)
    small = {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 4)}
    settings = dataclasses.replace(TINY, backbone="resnet18", arguments=small)
    pretrain(work, "straight", settings, labels="found")
    training_step = Cion.training_step

    def fails_in_step_3(self: Cion, batch: object, step: int) -> object:
        return fail() if step == 3 else training_step(self, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(Cion, "training_step", fails_in_step_3)
        with pytest.raises(DeviceError) as caught:
            pretrain(work, "stopped", settings, labels="found")
    assert str(caught.value) == (
        f"{SHORT}; set gradient_checkpointing, with which this training goes on, or begin another under a new name, "
        "with precision bfloat16, accumulate 2, fewer views.local_views, fewer images_per_step"
    )
    pretrain(work, "stopped", dataclasses.replace(settings, gradient_checkpointing=True), labels="found")
    straight, other = (
        safetensors.torch.load_file(work.model(name) / "model.safetensors") for name in ("straight", "stopped")
    )
    for name, value in straight.items():
        assert name.endswith("num_batches_tracked") or torch.equal(value, other[name]), name


def test_embedding_names_the_batch_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = make_crops(tmp_path)
    monkeypatch.setattr(embed_step, "_BLOCK", 16)
    straight = embed(work, "straight", EmbedSettings(batch=8))
    calls, extract = [], ColorExtractor.__call__

    def fails_in_block_3(self: ColorExtractor, images: list[np.ndarray]) -> np.ndarray:
        calls.append(len(images))
        return fail() if sum(calls) > 32 else extract(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(ColorExtractor, "__call__", fails_in_block_3)
        with pytest.raises(DeviceError, match=r"out of memory.*; lower batch, which is 8"):
            embed(work, "stopped", EmbedSettings(batch=8))
    assert [*work.embeddings("stopped").with_name("stopped.partial").rglob("*.f16")]
    assert embed(work, "stopped", EmbedSettings(batch=8)).counts == straight.counts
    first, second = (work.embeddings(name) / "vectors.npy" for name in ("straight", "stopped"))
    assert first.read_bytes() == second.read_bytes()
    assert straight.counts["crops"] == CROPS


def test_correlation_and_ranking_name_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reappear.pipeline.correlate.step.identify", fail)
    with pytest.raises(DeviceError, match=r"out of memory.*; set device cpu"):
        correlate(pretend(tmp_path), "i", CorrelateSettings(), embeddings="e")

    monkeypatch.setattr(import_module("reappear.pipeline.evaluate.score"), "rank_task", fail)
    rows = np.arange(4)
    one = LabelledEmbeddings(np.eye(4, dtype=np.float32), rows // 2, rows % 2, rows.astype(str), np.full(4, -1))
    with pytest.raises(DeviceError, match=r"out of memory.*; lower memory_mb, which is 256, or set device cpu"):
        score(one, one, EvaluateSettings(), {"name": "pair"}, {}, tmp_path, progress=SILENT)


def test_any_command_says_it_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reappear.models.list_models", fail)
    with pytest.raises(SystemExit) as stopped:
        main(["models"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"reappear: {SHORT}; lower the batch or the memory setting of this step, or choose --device cpu"
    ]
