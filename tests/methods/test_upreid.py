import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from reappear.core import SettingsError
from reappear.losses import PatchVectors
from reappear.methods.cion.settings import CionSettings
from reappear.methods.cion.task import Cion
from reappear.methods.moco.settings import MocoSettings
from reappear.methods.moco.task import Moco
from reappear.methods.setup import Setup
from reappear.methods.upreid.regularization import IntraIdentity, PatchEncoder
from reappear.methods.upreid.settings import IntraIdentityOption, UpReidSettings
from reappear.methods.upreid.task import UpReid
from reappear.models import create_model
from reappear.models.maps import feature_and_map, pool_patches
from reappear.train.batch import PatchBatch
from reappear.train.loop import Run, train
from reappear.train.optimizer import Schedule
from reappear.train.views import ViewSettings

from .setups import make_setup

SMALL = {"head_hidden": 8, "head_width": 6, "queue": 64, "patch_head_width": 6}
CION = {"head_hidden": 8, "head_bottleneck": 6, "prototypes": 12, "curriculum": ((0.0, 2),)}
PLAIN = ViewSettings(local_views=0, jitter=0.0, gray=0.0, blur=(0.0, 0.0, 0.0), solarise=0.0, flip=0.0)
WHOLE = replace(PLAIN, global_scale=(1.0, 1.0), ratio=(0.5, 0.5))  # that of the images


def _setup(changes: dict[str, object] | None = None, **training: object) -> Setup[UpReidSettings]:
    return make_setup(UpReidSettings(**{**SMALL, **(changes or {})}), labels="instance", **training)


def _upreid(changes: dict[str, object] | None = None, **training: object) -> UpReid:
    return UpReid(_setup(changes, **training))


def _terms(task: UpReid | Cion) -> IntraIdentity:
    assert task.intra_identity is not None
    return task.intra_identity


def _batch(task: UpReid | Cion, step: int = 0) -> PatchBatch:
    batch = task.phase(step, None).data[step].augmented()
    assert isinstance(batch, PatchBatch)
    return batch


def _trained(task: UpReid | Moco | Cion, steps: int = 3) -> tuple[list[float], dict[str, object]]:
    settings = replace(task.setup.training, log_every=1)
    rows = train(task, Schedule(steps, settings), settings, Run(None))
    return [row["loss"] for row in rows], task.state_dict()


def test_without_weights_it_is_moco_to_the_bit() -> None:
    off = _upreid({"global_weight": 0.0, "local_weight": 0.0})
    plain = {name: value for name, value in SMALL.items() if name != "patch_head_width"}
    moco = Moco(replace(off.setup, method=MocoSettings(**plain)))
    for one, other in zip(_trained(off), _trained(moco), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_contrast_of_a_step_is_that_of_moco() -> None:
    """The terms change neither first weights, views, keys, nor the statistics of their passes."""
    task = _upreid()
    plain = {name: value for name, value in SMALL.items() if name != "patch_head_width"}
    moco = Moco(replace(task.setup, method=MocoSettings(**plain)))
    result = task.training_step(_batch(task), 0)
    expected = moco.training_step(moco.phase(0, None).data[0].augmented(), 0)
    local = result.metrics()["patch_contrast"]
    assert result.loss.item() - local == pytest.approx(expected.loss.item(), abs=1e-5)  # lambda_g is 0 in step 0
    for name, value in moco.teacher.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(task.teacher.state_dict()[name], value, rtol=0, atol=0)


def test_cion_without_weights_is_cion_to_the_bit() -> None:
    option = IntraIdentityOption(anchors="batch", patch_rows=2)  # settings without a weight do nothing
    one, other = (
        Cion(make_setup(CionSettings(**CION, **more), height=32, width=16)) for more in ({}, {"intra_identity": option})
    )
    assert other.intra_identity is None
    assert not isinstance(one.phase(0, None).data[0], PatchBatch)
    assert not [name for name in one.state_dict()["student"] if "patch" in name]
    for a, b in zip(_trained(one), _trained(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("anchors", ["bank", "batch"])
@pytest.mark.parametrize("divergence", ["kl", "sym_kl", "js", "cosine"])
def test_view_that_is_the_original_has_no_divergence(anchors: str, divergence: str) -> None:
    """Student and teacher begin alike, and the views are whole images without augmentation."""
    task = _upreid({"anchors": anchors, "divergence": divergence, "local_weight": 0.0}, views=WHOLE)
    batch, terms = _batch(task), _terms(task)
    for view in batch.views:
        torch.testing.assert_close(view, batch.image, rtol=0, atol=0)
    _, vectors, _ = terms.student(batch.views)
    originals, _ = terms.originals(batch)
    value = terms.consistency(vectors.flatten(1, 2), originals, task.queue, vectors[1].flatten(0, 1).detach())
    assert value.item() == pytest.approx(0, abs=1e-5)
    other = _upreid({"anchors": anchors, "divergence": divergence, "local_weight": 0.0})
    changed = _batch(other)
    _, vectors, _ = terms.student(changed.views)
    value = terms.consistency(vectors.flatten(1, 2), originals, task.queue, vectors[1].flatten(0, 1).detach())
    assert value > 1e-4


def test_weight_of_the_consistency_rises_over_the_first_pass() -> None:
    task = _upreid({"global_warmup": 2.0, "global_weight": 0.5}, images_per_step=12)  # 48 images: 8 steps
    one = torch.ones(())
    weights = [_terms(task).weigh(step, lambda: one, lambda: 0 * one)[0].item() for step in (0, 2, 4, 8, 9)]
    assert weights == pytest.approx([0, 0.125, 0.25, 0.5, 0.5])


def _colors_of_patches(batch: PatchBatch, boxes: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Mean colour of each patch in the two views, and which patches both show."""
    pixels = [pool_patches(batch.views[k].flatten(0, 1).double(), boxes[k]) for k in range(2)]
    return torch.stack(pixels), visible.all(0)


def test_patches_are_those_of_the_original_image() -> None:
    """Each strip of the images has a colour; where a patch is seen, it has that colour in every view.

    Patches that are cut after the augmentation have not.
    """
    task = _upreid(
        {"patch_rows": 4, "visibility": 0.5}, height=64, views=replace(PLAIN, global_scale=(0.3, 1.0), flip=0.5)
    )
    colors = np.linspace(0, 240, 4).astype(np.uint8)
    striped = np.repeat(colors, 64)[:, None, None].repeat(100, 1).repeat(3, 2)
    task.setup = replace(task.setup, images=[striped] * 48)
    terms = _terms(task)
    terms.setup = task.setup
    batch = _batch(task)
    seen, both = _colors_of_patches(batch, *terms.locate(batch))
    expected = torch.as_tensor(colors).double()[None, :, None].expand(48, 4, 3)
    assert 0.2 < both.double().mean() < 1
    assert (seen[:, both] - expected[both]).abs().max() < 20  # strips are 80 apart
    after = terms._grid.expand(2, 48, -1, -1)
    wrong, _ = _colors_of_patches(batch, after, both.expand(2, -1, -1))
    assert (wrong[:, both] - expected[both]).abs().max() > 60


def test_strips_of_mirrored_views_match_one_to_one() -> None:
    task = _upreid({"patch_rows": 2, "patch_columns": 2}, views=replace(WHOLE, flip=0.5))
    batch, terms = _batch(task), _terms(task)
    assert len({bool(flag) for flag in batch.flipped[0].flatten()}) == 2
    (first, second), both = _colors_of_patches(batch, *terms.locate(batch))
    assert both.all()
    torch.testing.assert_close(first, second)


def test_views_of_patches_are_cut_before_the_augmentation() -> None:
    task = _upreid({"mode": "crop", "patch_rows": 2, "patch_columns": 2}, views=replace(PLAIN, global_scale=(0.2, 0.4)))
    batch, terms = _batch(task), _terms(task)
    patches, visible = terms.locate(batch)
    assert patches.shape == (2, 48, 4, 3, 16, 8)
    assert visible.all()
    torch.testing.assert_close(patches[0], patches[1])  # nothing is augmented
    grid = terms._grid.expand(48, -1, -1)
    originals = pool_patches(batch.image.flatten(0, 1).double(), grid)
    torch.testing.assert_close(patches[0].double().mean((-2, -1)), originals, atol=12, rtol=0)
    colored = _upreid({"mode": "crop", "patch_rows": 2, "patch_columns": 2}, colours_on="device")
    deferred = colored.phase(0, None).data[0]
    assert len(deferred.color_params) == len(deferred.views) == 2 + 2 * 4
    assert _batch(colored).color_params == []


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "crop"},
        {"both_views": True, "anchors": "batch"},
        {"reference": "online", "divergence": "js"},
        {"reference": "online", "local_weight": 0.0, "divergence": "cosine"},
        {"global_weight": 0.0, "negatives": "step", "hardest_negatives": 1},
        {"patch_rows": 2, "patch_columns": 2, "ignore_adjacent": True, "positives": "mean", "max_similarity": 0.95},
    ],
)
def test_each_choice_trains(changes: dict[str, object]) -> None:
    task = _upreid({"global_warmup": 0.0, **changes})
    result = task.training_step(_batch(task), 0)
    result.loss.backward()
    for name, parameter in task.student.named_parameters():
        assert parameter.grad is not None, name
    assert all(parameter.grad is None for parameter in task.teacher.parameters())
    metrics = result.metrics()
    assert ("consistency" in metrics) == (changes.get("global_weight", 1.0) > 0)
    assert ("patch_contrast" in metrics) == (changes.get("local_weight", 1.0) > 0)


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("mode", ["roi", "crop"])
def test_cion_with_both_terms_trains(across: bool, mode: str) -> None:
    option = IntraIdentityOption(
        global_weight=1.0, local_weight=1.0, global_warmup=0.0, across_images=across, mode=mode
    )
    task = Cion(make_setup(CionSettings(**CION, intra_identity=option), height=32, width=16))
    batch = _batch(task)
    assert len(batch.views) == 3 + (8 if mode == "crop" else 0)
    result = task.training_step(batch, 0)
    result.loss.backward()
    for name, parameter in task.student.named_parameters():
        assert parameter.grad is not None, name
    assert {"consistency", "patch_contrast", "teacher_entropy"} <= result.metrics().keys()


def test_positives_across_images_are_the_same_patch_of_the_identity() -> None:
    option = IntraIdentityOption(local_weight=1.0, negatives="step")
    task = Cion(make_setup(CionSettings(**CION, intra_identity=option), height=32, width=16))
    batch, terms = _batch(task), _terms(task)
    assert batch.image.shape[1] == 2
    patches, visible = terms.locate(batch)
    _, _, parts = terms.teacher(batch.views[:2], patches)
    _, originals = terms.originals(batch)
    other = PatchVectors(parts[1], visible[1])
    alike, own, strangers = terms._compared(other, originals, batch)
    n = len(originals)
    assert own.vectors.shape[1] == 2
    assert alike.vectors.shape[1] == 4
    for i in range(n):
        partner = i + 1 if i % 2 == 0 else i - 1
        torch.testing.assert_close(
            alike.vectors[i], torch.cat([own.vectors[min(i, partner)], own.vectors[max(i, partner)]])
        )
        assert not strangers.visible[i, [i, partner]].any()
    assert strangers.visible.any()


@pytest.mark.parametrize(
    ("backbone", "arguments", "size"),
    [
        ("vit_tiny_patch16_224", {"img_size": [64, 32], "patch_size": 8, "depth": 1}, (64, 32)),
        ("swin_tiny", {"depths": (1, 1), "embed_dim": 12, "num_heads": (1, 1)}, (64, 32)),
        ("gem", {"network": "cnn6", "width": 4}, (64, 32)),
        ("stripes4", {"width": 4}, (64, 32)),
        ("ghostnet_0_5", {}, (128, 64)),
    ],
)
def test_backbones_of_maps_and_of_tokens(backbone: str, arguments: dict[str, object], size: tuple[int, int]) -> None:
    height, width = size
    network = create_model(backbone, **arguments).eval()
    images = torch.randn(2, 3, height, width)
    feature, maps = feature_and_map(network, images)
    torch.testing.assert_close(feature, network(images), rtol=0, atol=0)
    assert maps.ndim == 4
    task = _upreid({}, backbone=backbone, arguments=arguments, height=height, width=width, images_per_step=8)
    result = task.training_step(_batch(task), 0)
    assert torch.isfinite(result.loss)


def test_passes_over_originals_keep_no_statistics() -> None:
    task = _upreid({"reference": "online"})
    batch, before = _batch(task), copy.deepcopy(task.state_dict())
    _terms(task).originals(batch)
    after = task.state_dict()
    for name in ("student", "teacher"):
        assert all(torch.equal(after[name][k], v) for k, v in before[name].items() if "num_batches" not in k)


@pytest.mark.parametrize(
    ("changes", "training", "message"),
    [
        ({"patch_rows": 1}, {}, "patch_rows: "),
        ({"patch_rows": 8}, {}, r"patch_rows: 8x1 patches.*4x2"),
        ({"patch_columns": 4}, {}, r"method.patch_rows: 4x4 patches.*4x2"),
        ({"patch_rows": 5, "mode": "crop"}, {}, "patch_rows: .*5x1"),
        ({"anchors": "batch"}, {"images_per_step": 1}, "anchors: "),
        ({}, {"views": ViewSettings(local_views=1)}, "views.local_views: method upreid"),
        (
            {},
            {"backbone": "transreid", "arguments": {"vit": "vit_tiny", "depth": 1}, "height": 64, "width": 32},
            "mode",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], training: dict[str, object], message: str) -> None:
    def build() -> None:
        setup = _setup(changes, **training)
        setup.method.check(setup.training)
        UpReid(setup)

    with pytest.raises(SettingsError, match=message):
        build()


def test_encoder_gives_no_patches_where_none_are_asked_for() -> None:
    task = _upreid({"local_weight": 0.0})
    encoder = PatchEncoder(task.student, "roi")
    assert encoder(_batch(task).views)[2] is None
    assert task.student.patch_head is None
