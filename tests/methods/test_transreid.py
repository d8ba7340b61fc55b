from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from reappear.core import InputError, SettingsError
from reappear.losses import BatchHardTripletLoss
from reappear.methods.transreid.settings import TransReidSettings
from reappear.methods.transreid.task import TransReid
from reappear.models import Embedder
from reappear.train.optimizer import scale_layers
from reappear.train.views import ViewSettings

from .setups import make_setup


def test_loss_is_the_sum_of_both_on_the_features_around_the_neck() -> None:
    task = TransReid(make_setup(TransReidSettings(label_smoothing=0.1, margin=0.3)))
    batch = task.phase(0, None).data[0]
    student = task.student
    features = student.pooled(batch.images.flatten(0, 1))
    identity = batch.identity.repeat_interleave(4)
    normalised = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
    expected = F.cross_entropy(normalised @ student.head.classifiers[0].T, identity, label_smoothing=0.1)
    distance = torch.cdist(features, features)
    for i in range(len(identity)):
        positive = distance[i][identity == identity[i]].max()
        negative = distance[i][identity != identity[i]].min()
        expected = expected + F.relu(0.3 + positive - negative) / len(identity)
    torch.testing.assert_close(task.training_step(batch, 0).loss, expected)


def test_a_step_has_p_identities_with_k_images_and_classes_have_no_gaps() -> None:
    setup = make_setup(TransReidSettings())
    setup.table.identity[:] = setup.table.identity * 7 + 3
    batch = TransReid(setup).phase(0, None).data[0]
    assert batch.images.shape[:2] == (6, 4)
    assert sorted(batch.identity.tolist()) == [0, 1, 2, 3, 4, 5]


def test_all_decays_and_biases_learn_twice_as_fast() -> None:
    task = TransReid(make_setup(TransReidSettings()))
    weights, biases = task.parameter_groups()
    assert (weights.decays, weights.lr_scale, biases.decays, biases.lr_scale) == (True, 1.0, True, 2.0)
    named = {id(p): name for name, p in task.student.named_parameters()}
    assert all(named[id(p)].endswith(".bias") for p in biases.parameters)
    assert id(task.student.head.neck.bias) not in {id(p) for p in (*weights.parameters, *biases.parameters)}


def test_the_saved_vector_is_the_feature_before_the_neck() -> None:
    task = TransReid(make_setup(TransReidSettings()))
    embedder = task.export("student")
    assert embedder.neck is task.student.head.neck
    image = torch.zeros(1, 3, 16, 8, dtype=torch.uint8)
    task.student.eval()
    vector = torch.from_numpy(embedder([image[0].permute(1, 2, 0).numpy()]))
    torch.testing.assert_close(vector, task.student.pooled(image).detach())


VIT = {
    "backbone": "vit_tiny",
    "arguments": {"depth": 2, "embed_dim": 12, "num_heads": 3},
    "height": 64,
    "width": 32,
    "views": ViewSettings(local_views=0),
}


def test_jigsaw_patches_and_cameras_are_trained_and_saved(tmp_path: Path) -> None:
    method = TransReidSettings(jpm=True, sie=True)
    task = TransReid(make_setup(method, **VIT, images_per_step=24))
    batch = task.phase(0, None).data[0]
    result = task.training_step(batch, 0)
    result.loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in task.student.backbone.parameters())
    student, identity = task.student, batch.identity.repeat_interleave(4)
    features = student.pooled(batch.images.flatten(0, 1), batch.camera.flatten())
    parts = features.view(24, 5, 12) * torch.tensor([1.0, 4, 4, 4, 4])[:, None]
    expected = 0.0
    for part in range(5):
        after = F.batch_norm(features.view(24, 5, 12)[:, part], None, None, training=True)
        loss = F.cross_entropy(after @ student.head.classifiers[part].T, identity)
        loss = loss + BatchHardTripletLoss()(parts[:, part], identity)
        expected = expected + loss * (0.5 if part == 0 else 0.125)
    torch.testing.assert_close(result.loss, expected)
    assert torch.isfinite(torch.tensor(list(result.metrics().values()))).all()

    task.export("student").save(tmp_path / "m")
    saved = Embedder.load(tmp_path / "m")
    assert saved.config["arguments"] == {
        "vit": "vit_tiny", **VIT["arguments"], "jigsaw": True, "cameras": 2, "camera_weight": 3.0,
    }  # fmt: skip
    image = np.zeros((64, 32, 3), np.uint8)
    student.eval()
    vector = student.pooled(torch.from_numpy(image).permute(2, 0, 1)[None]).detach()
    torch.testing.assert_close(torch.from_numpy(saved([image])), vector)


def test_networks_without_tokens_and_images_without_cameras_are_refused() -> None:
    with pytest.raises(SettingsError, match="need a vision transformer"):
        TransReid(make_setup(TransReidSettings(jpm=True)))
    setup = make_setup(TransReidSettings(sie=True), **VIT)
    setup.table.camera[3] = -1
    with pytest.raises(InputError, match=r"method\.sie: .* without a camera"):
        TransReid(setup)


def test_layers_of_a_transformer_with_jigsaw_patches_learn_at_their_own_rates() -> None:
    task = TransReid(make_setup(TransReidSettings(jpm=True, sie=True), **VIT))
    groups = scale_layers(task.parameter_groups(), task.backbone, 0.5)
    scale = {id(p): group.lr_scale for group in groups for p in group.parameters}
    named = dict(task.student.named_parameters())
    first, last, twin, cameras, head = (
        scale[id(named[name])]
        for name in (
            "backbone.vit.blocks.0.attn.qkv.weight",
            "backbone.vit.blocks.1.attn.qkv.weight",
            "backbone.local_block.attn.qkv.weight",
            "backbone.cameras",
            "head.classifiers",
        )
    )
    assert cameras < first < last == twin < head == 1.0
