"""A new method is one file and one line of the registry; all else follows."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch

import reappear
from reappear.models import load_model
from reappear.pipeline.workspace import Workspace
from tests.pipeline.pretrain_fixture import make_workspace

ROOT = Path(__file__).parents[2]

METHOD = '''"""Learns from clusters of its own features, which are made anew in every phase."""

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Interval
from sklearn.cluster import KMeans
from torch.nn import functional as F

from reappear.core import SettingsError, settings
from reappear.models.heads import ProjectionHead
from reappear.train.batch import ImageBatch
from reappear.train.datasets import ImageDataset
from reappear.train.image_augment import ImageAugment, ImageAugmentSettings
from reappear.train.samplers import PKSampler
from reappear.train.task import Phase, StepResult, Task

from .settings import MethodSettings
from .setup import Setup


@settings
class ToySettings(MethodSettings):
    """k-means on the features of the network itself."""

    kind: Literal["toy"] = "toy"
    clusters: Annotated[int, "clusters", Interval(ge=2, le=1000)] = 6
    phase_steps: Annotated[int, "steps between two clusterings", Interval(ge=1, le=100_000)] = 2

    def check(self, training):
        if training.keep == "teacher":
            raise SettingsError("keep: method toy has no teacher; take student")


class Toy(Task[ImageBatch]):
    """Cross-entropy to the centroids of the clusters in a step."""

    def __init__(self, setup: Setup[ToySettings]) -> None:
        self.setup = setup
        self.student = setup.network(lambda width: ProjectionHead(width, hidden=16, width=8))

    def phase(self, step, labels):
        setup, length = self.setup, self.setup.method.phase_steps
        training = setup.training
        if labels is None:
            labels = {"cluster": self._clusters()}
        table = replace(setup.table, identity=labels["cluster"])
        sampler = PKSampler(table.identity, identities=4, images=training.images_per_step // 4, seed=training.seed)
        augment = ImageAugment(ImageAugmentSettings(padding=1), height=training.height, width=training.width)
        first = step // length * length
        data = ImageDataset(setup.images, table, sampler, augment, seed=training.seed)
        return Phase(first, first + length, data, labels)

    @torch.no_grad()
    def _clusters(self):
        images = self.setup.pixels(np.arange(len(self.setup.table)))
        self.student.eval()
        features = self.student.pooled(images)
        self.student.train()
        clustering = KMeans(self.setup.method.clusters, n_init=1, random_state=self.setup.training.seed)
        return clustering.fit_predict(features.numpy()).astype(np.int64)

    def training_step(self, batch, step):
        vectors = self.student.head.embed(self.student.pooled(batch.images.flatten(0, 1)))
        ids, images = batch.images.shape[:2]
        centroids = F.normalize(vectors.view(ids, images, -1).mean(1), dim=-1)
        target = torch.arange(ids).repeat_interleave(images)
        return StepResult(F.cross_entropy(vectors @ centroids.T / 0.1, target), lambda: {"clusters": ids})
'''

LINE = '    "toy": MethodSpec("toy:ToySettings", "toy:Toy", "instance", "clusters of its own features"),\n'


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with one file and one line more."""
    root = tmp_path_factory.mktemp("source")
    package = root / "reappear"
    shutil.copytree(Path(reappear.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "methods" / "toy.py").write_text(METHOD)
    registry = package / "methods" / "registry.py"
    text = registry.read_text()
    assert text.count("METHODS = {\n") == 1
    registry.write_text(text.replace("METHODS = {\n", "METHODS = {\n" + LINE))
    return root


def _environment(source: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)])}


def _pretrain(source: Path, work: Workspace, name: str) -> subprocess.Popen[str]:
    options = {
        "method": "toy",
        "backbone": "cnn6",
        "arguments": "{width: 4}",
        "height": "32",
        "width": "16",
        "steps": "150",
        "images-per-step": "12",
        "method.phase-steps": "30",
        "checkpoint-every": "20",
        "log-every": "25",
        "validation-share": "0.3",
        "validation-every": "75",
        "device": "cpu",
    }
    typed = [word for name, value in options.items() for word in (f"--{name}", value)]
    return subprocess.Popen(
        [sys.executable, "-m", "reappear", "pretrain", str(work.root), "--name", name, *typed],
        env=_environment(source),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_trains_from_the_command_line_and_resumes_after_a_kill(source: Path, tmp_path: Path) -> None:
    work = make_workspace(tmp_path)
    checkpoints = tmp_path / "models" / "killed.partial" / "checkpoints"
    with _pretrain(source, work, "killed") as killed:
        while killed.poll() is None and not list(checkpoints.glob("step-*.pt")):
            time.sleep(0.01)
        killed.kill()
        assert list(checkpoints.glob("step-*.pt")), killed.communicate()[0]
    assert not work.model("killed").exists()
    for name in ("killed", "whole"):
        with _pretrain(source, work, name) as process:
            output = process.communicate()[0]
        assert process.returncode == 0, output
    weights = [safetensors.torch.load_file(work.model(name) / "model.safetensors") for name in ("killed", "whole")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[1])
    rows = [json.loads(line) for line in (work.model("killed") / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 150
    assert rows[-1]["clusters"] == 4
    assert [row["step"] for row in rows if "validation_map" in row] == [75, 150]
    assert load_model(work.model("killed"))[1]["method"] == "toy"
    assert "clusters of its own features" in (work.model("killed") / "README.md").read_text()


def test_is_in_the_help(source: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "reappear", "pretrain", "--help"],
        env=_environment(source), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "|toy" in shown.replace("\n", "").replace(" ", "") or "toy|" in shown.replace("\n", "").replace(" ", "")
    assert "--method.phase-steps" in shown


def test_passes_the_contract_of_methods(source: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/test_contract.py", "-k", "toy"],
        env=_environment(source), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
