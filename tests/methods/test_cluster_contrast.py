import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reappear.core import SettingsError, TrainingError
from reappear.denoise.normalize import COHORT, PRIOR
from reappear.methods.cluster_contrast.clusters import cluster_by_average_linkage
from reappear.methods.cluster_contrast.settings import ClusterContrastSettings
from reappear.methods.cluster_contrast.task import ClusterContrast
from reappear.metrics.ranking import rank
from reappear.models import Embedder
from reappear.synthetic.tracklets import TrackletPlan, render_tracklets
from reappear.train.batch_norm import batch_norm_layers
from reappear.train.image_augment import ImageAugmentSettings
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule
from tests.references import average as literal
from tests.train.tables import make_table

from .setups import make_setup


def _task(*, labels: str = "found", images_per_step: int = 32, **changes: object) -> ClusterContrast:
    method = ClusterContrastSettings(**{"phase_steps": 2, **changes})
    setup = make_setup(method, labels=labels, images_per_step=images_per_step, log_every=1, checkpoint_every=1, lr=1e-3)
    return ClusterContrast(setup)


def test_people_who_look_alike_are_found_and_outliers_are_left_out() -> None:
    task = _task()
    phase = task.phase(0, None)
    cluster = phase.labels["cluster"]
    assert (phase.first, phase.end) == (0, 2)
    batch = phase.data[1]
    assert batch.images.shape[:2] == (4, 8)
    row = task.training_step(batch, 1).metrics()
    assert row["clusters"] == cluster.max() + 1
    assert (row["clustered"], row["pseudo_label_precision"]) == (1.0, 1.0)
    assert 0.9 < row["pseudo_label_f1"] <= 1.0

    outliers = np.arange(0, 240, 7)
    cluster[outliers] = -1
    again = task.phase(0, {"cluster": cluster})  # as from a checkpoint
    task.setup.images[:] = [np.full((20, 10, 3), int(row in outliers), np.uint8) for row in range(240)]
    table = again.data.table
    assert len(table) == 240 - len(outliers)
    for step in range(4):
        for row in again.data.sampler.groups(step).ravel().tolist():
            assert again.data.images[row].max() == 0
            assert table.identity[row] >= 0


def test_average_linkage_finds_them_too() -> None:
    task = _task(clusters="average")
    phase = task.phase(0, None)
    row = task.training_step(phase.data[0], 0).metrics()
    assert len(np.unique(phase.labels["cluster"])) > 20  # of thirty people
    assert row["pseudo_label_precision"] > 0.8


def test_memory_begins_as_the_mean_and_a_step_is_cross_entropy_to_it() -> None:
    task = _task(hard=False)
    phase = task.phase(0, None)
    vectors = F.normalize(torch.from_numpy(task.export("student")([task.setup.images[i] for i in range(240)])), dim=-1)
    cluster = torch.from_numpy(phase.labels["cluster"])
    for number in range(int(cluster.max()) + 1):
        mean = F.normalize(vectors[cluster == number].mean(0), dim=-1)
        torch.testing.assert_close(task.memory.centroids[number], mean)
    batch, centroids = phase.data[0], task.memory.centroids.clone()
    result = task.training_step(batch, 0)
    features = task.student.pooled(batch.images.flatten(0, 1))
    unit = F.normalize(F.batch_norm(features, None, None, training=True), dim=-1)
    target = batch.identity.repeat_interleave(8)
    torch.testing.assert_close(result.loss, F.cross_entropy(unit @ centroids.T / 0.05, target))
    task.after_step(0)
    number = int(batch.identity[0])
    expected = centroids[number]
    for vector in unit[:8]:
        expected = F.normalize(0.2 * expected + 0.8 * vector, dim=-1)
    torch.testing.assert_close(task.memory.centroids[number], expected.detach())


def test_neck_begins_with_the_statistics_of_the_images_and_then_keeps_its_own() -> None:
    task = _task()
    neck = task.student.head.neck
    task.phase(0, None)
    task.student.eval()
    features = task.student.pooled(task.setup.pixels(np.arange(240)))
    torch.testing.assert_close(neck.running_mean, features.mean(0).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(neck.running_var, features.var(0, unbiased=False).detach(), rtol=1e-4, atol=1e-5)
    neck.running_mean.zero_()
    task.phase(2, None)
    assert not neck.running_mean.any()


def test_batch_norm_is_adapted_to_all_images_before_the_first_clustering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reappear.methods.cluster_contrast.task._BATCH", 100)  # three batches of 80 images
    task = _task(adapt_batch_norm=True)
    layers, inputs = batch_norm_layers(task.student.backbone), {}
    for layer in layers:
        layer.running_mean.fill_(7.0)  # as of another set
        layer.register_forward_hook(
            lambda layer, given, _: inputs.setdefault(layer, []).append(given[0]) if layer.training else None
        )
    task.phase(0, None)
    assert len(layers) > 2
    for layer in layers:
        parts = [batch.double().movedim(1, 0).flatten(1).numpy() for batch in inputs[layer]]
        assert [len(batch) for batch in inputs[layer]] == [80, 80, 80]
        np.testing.assert_allclose(layer.running_mean, np.mean([part.mean(1) for part in parts], 0), 1e-4, 1e-5)
        np.testing.assert_allclose(layer.running_var, np.mean([part.var(1, ddof=1) for part in parts], 0), 1e-4)
    pixels = torch.from_numpy(task.setup.training.preprocessing(task.setup.images))
    first = torch.cat(inputs[layers[0]])
    assert first.shape[0] == len(pixels)  # each image once, and not augmented
    conv = next(layer for layer in task.student.backbone.modules() if isinstance(layer, torch.nn.Conv2d))
    torch.testing.assert_close(first.double().mean(), conv(pixels).double().mean(), rtol=1e-4, atol=1e-6)

    before = [layer.running_mean.clone() for layer in layers]
    task.phase(2, None)
    torch.testing.assert_close([layer.running_mean for layer in layers], before)


def test_features_of_an_adapted_network_have_mean_0_and_variance_1_in_each_layer() -> None:
    task = _task(adapt_batch_norm=True)  # 240 images in one batch
    task.phase(0, None)
    outputs = {}
    for layer in batch_norm_layers(task.student.backbone):
        layer.register_forward_hook(lambda layer, given, _: outputs.__setitem__(layer, (given[0], layer)))
    task.student.eval()
    task.student.pooled(task.setup.pixels(np.arange(240)))
    for given, layer in outputs.values():
        values = given.movedim(1, 0).flatten(1)
        torch.testing.assert_close(values.mean(1), layer.running_mean, rtol=0.01, atol=0.01)
        torch.testing.assert_close(values.var(1), layer.running_var, rtol=0.02, atol=1e-4)


def test_a_network_without_batch_norm_cannot_be_adapted() -> None:
    network = {"backbone": "convnext_atto", "arguments": {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}}
    setup = make_setup(ClusterContrastSettings(adapt_batch_norm=True), height=32, width=32, **network)
    with pytest.raises(SettingsError, match=r"method\.adapt_batch_norm.*convnext_atto"):
        ClusterContrast(setup)


_ADAPT = """
import sys, torch
from reappear.methods.cluster_contrast.settings import ClusterContrastSettings
from reappear.methods.cluster_contrast.task import ClusterContrast
from reappear.train import parallel
from tests.methods.setups import make_setup

with parallel.process_group(torch.device("cpu")) as (rank, world):
    task = ClusterContrast(make_setup(ClusterContrastSettings(adapt_batch_norm=True), images_per_step=32))
    labels = task.phase(0, None).labels
    torch.save([task.state_dict(), torch.from_numpy(labels["cluster"])], f"{sys.argv[1]}{world}{rank}")
"""


@pytest.mark.slow
def test_each_of_two_processes_adapts_batch_norm_as_one_does(tmp_path: Path) -> None:
    script = tmp_path / "adapt.py"
    script.write_text(_ADAPT)
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    for launcher in ([], two):
        subprocess.run(
            [sys.executable, *launcher, script, f"{tmp_path}/"], check=True, env={**os.environ, "PYTHONPATH": paths}
        )
    one, first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("10", "20", "21"))
    torch.testing.assert_close(first, one, rtol=0, atol=0)
    # The neck is calibrated by the first process alone; the others get its buffers with the first step.
    backbones = [{k: v for k, v in state["student"].items() if "backbone" in k} for state, _ in (second, one)]
    torch.testing.assert_close(*backbones, rtol=0, atol=0)


def test_identities_of_the_set_change_nothing(tmp_path: Path) -> None:
    known, unknown = _task(), _task(labels="instance")
    rows = [
        train(task, Schedule(4, task.setup.training), task.setup.training, Run(tmp_path / str(number)))
        for number, task in enumerate((known, unknown))
    ]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    assert "pseudo_label_f1" in rows[0][0]
    assert "pseudo_label_f1" not in rows[1][0]


def test_average_linkage_of_images_is_that_of_the_loops() -> None:
    random = np.random.default_rng(1)
    features = np.repeat(random.normal(size=(20, 16)), 3, 0) + 0.3 * random.normal(size=(60, 16))
    camera = random.integers(0, 2, 60)
    features += random.normal(size=(2, 16))[camera]  # what all images of a camera have in common

    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    rows = np.array(literal.center_by_place(unit.tolist(), camera.tolist(), PRIOR))
    cosine = (rows @ rows.T).tolist()
    expected = []
    for skip in (2, 3, 4, 6):
        near = literal.nearest(cosine, skip + COHORT, 60)
        middle = [literal.neighborhood([cosine[i][j] for j in near[i][skip:]]) for i in range(60)]
        z = literal.similarity(cosine, *zip(*middle, strict=True))
        expected.append({group for group in literal.tree(z, 3.0) if len(group) > 1})

    found = cluster_by_average_linkage(features.astype(np.float32), camera, z=3.0)
    assert {frozenset(np.flatnonzero(found == k).tolist()) for k in range(found.max() + 1)} in expected
    shuffled = random.permutation(60)
    again = cluster_by_average_linkage(features[shuffled].astype(np.float32), camera[shuffled], z=3.0)
    pairs = [(one[:, None] == one) & (one >= 0) for one in (found[shuffled], again)]
    np.testing.assert_array_equal(*pairs)


def test_average_linkage_without_cameras_centers_on_the_mean_of_all_images() -> None:
    random = np.random.default_rng(2)
    features = np.repeat(random.normal(size=(30, 16)), 4, 0) + 0.2 * random.normal(size=(120, 16)) + 3
    unknown = np.full(120, -1)
    np.testing.assert_array_equal(
        cluster_by_average_linkage(features.astype(np.float32), unknown, z=3.0), np.repeat(np.arange(30), 4)
    )
    assert (cluster_by_average_linkage(features[:20].astype(np.float32), unknown[:20], z=3.0) == -1).all()  # too few


def test_images_are_contrasted_with_clusters_of_their_camera() -> None:
    task = _task(negatives="camera")
    cluster = np.arange(240) // 20
    task.phase(0, None)
    centroids = F.normalize(torch.randn(12, task.memory.centroids.shape[1]), dim=-1)
    task._remember(centroids)
    of_cluster = np.repeat(np.arange(12) % 3, 20)  # a third of the clusters is in both cameras
    camera = np.where(of_cluster == 2, task._table.camera, of_cluster)
    task._table.camera[:] = camera
    batch = task.phase(0, {"cluster": cluster}).data[0]
    vectors = F.normalize(F.batch_norm(task.student.pooled(batch.images.flatten(0, 1)), None, None, training=True))
    seen = [{int(c) for c in camera[cluster == k]} for k in range(12)]
    expected = []
    for row, (own, mine) in enumerate(zip(batch.identity.repeat_interleave(8), batch.camera.flatten(), strict=True)):
        others = [k for k in range(12) if int(mine) in seen[k]]
        expected.append(F.cross_entropy(centroids[others] @ vectors[row] / 0.05, torch.tensor(others.index(int(own)))))
    torch.testing.assert_close(task.training_step(batch, 0).loss, torch.stack(expected).mean())


@pytest.mark.parametrize(
    ("stop", "changes"),
    [
        (3, {}),
        (4, {}),
        (5, {}),
        (4, {"clusters": "average", "negatives": "camera"}),
        (0, {"adapt_batch_norm": True}),
        (1, {"adapt_batch_norm": True}),
    ],
)
def test_goes_on_inside_a_phase_and_between_two(tmp_path: Path, stop: int, changes: dict[str, object]) -> None:
    def run(folder: Path, *, broken: bool = False) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
        task = _task(**changes)
        if broken:
            after_step = task.after_step

            def fail(step: int) -> None:
                after_step(step)
                if step == stop:
                    raise KeyboardInterrupt

            task.after_step = fail
        rows = train(task, Schedule(7, task.setup.training), task.setup.training, Run(folder))
        return task.state_dict(), rows

    whole, expected = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", broken=True)
    again, rows = run(tmp_path / "broken")
    torch.testing.assert_close(again, whole, rtol=0, atol=0)
    assert [(row["loss"], row["clusters"]) for row in rows] == [(row["loss"], row["clusters"]) for row in expected]


def test_fewer_clusters_than_a_step_has_and_none_at_all() -> None:
    few = _task(images_per_step=128)  # sixteen clusters are wanted
    clusters = int(few.phase(0, None).labels["cluster"].max()) + 1
    assert len(few.phase(0, None).data[0].identity) == min(16, clusters) < 16
    with pytest.raises(TrainingError, match=r"method\.radius"):
        _task(radius=0.999, k1=240).phase(0, None)
    with pytest.raises(TrainingError, match=r"0 clusters of 240 images.*raise method\.radius"):
        _task(k1=2, k2=1, least=20).phase(0, None)
    with pytest.raises(TrainingError, match=r"0 clusters of 240 images.*lower method\.z 900"):
        _task(clusters="average", z=900).phase(0, None)


@pytest.mark.slow
@pytest.mark.parametrize("clusters", ["dbscan", "average"])
def test_from_random_weights_clusters_and_vectors_become_better(tmp_path: Path, clusters: str) -> None:
    """On drawn people who pass three cameras, and on others who are not in the training images."""

    def draw(people: int, seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        images, truth = render_tracklets(TrackletPlan(people=people, crops=4, seed=seed), lookalikes=0.15)
        small = [cv2.resize(image, (16, 32), interpolation=cv2.INTER_AREA) for image in images]
        return small, truth.truth, np.repeat(truth.video, np.diff(truth.offsets))

    method = ClusterContrastSettings(
        clusters=clusters, images=4, phase_steps=40, k1=8, k2=2, radius=0.5, temperature=0.2,
        augment=ImageAugmentSettings(padding=1, erase=0.0),
    )  # fmt: skip
    setup = make_setup(
        method, arguments={"width": 8, "stripes": 4}, height=32, width=16, images_per_step=64, lr=2e-3, steps=160,
        optimizer="adam", warmup=0.0, log_every=40, validation_every=160,
    )  # fmt: skip
    images, identity, camera = draw(80, 10)
    setup = replace(setup, images=images, table=make_table(identity, camera=camera))
    others, other_identity, other_camera = draw(40, 1010)
    task = ClusterContrast(setup)
    embedder, asks = task.export("student"), other_camera == 0

    def scores() -> tuple[float, float]:
        vectors, people = embedder(others), other_identity
        found = rank(vectors[asks], vectors[~asks], query_ids=people[asks], gallery_ids=people[~asks])
        return found.mean_ap, float(found.cmc[0])

    before = scores()[0]
    rows = train(task, Schedule(160, setup.training), setup.training, Run(tmp_path, validate=scores))
    f1 = [row["pseudo_label_f1"] for row in rows if row["step"] % 40 == 0]
    assert f1 == sorted(f1)
    assert f1[-1] > 1.4 * f1[0]
    assert rows[-1]["validation_map"] > before + 0.04


def test_gem_is_saved_with_the_model(tmp_path: Path) -> None:
    task = _task(gem=True)
    task.phase(0, None)
    embedder = task.export("student")
    embedder.save(tmp_path / "m")
    again = Embedder.load(tmp_path / "m")
    assert again.config["arguments"] == {"network": "cnn6", "width": 4}
    images = [task.setup.images[0]]
    np.testing.assert_allclose(again(images), embedder(images), rtol=1e-5)
