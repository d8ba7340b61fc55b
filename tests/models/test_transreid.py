"""Jigsaw patches and side information against the steps of the paper's public code, written out."""

import copy

import pytest
import torch
from torch import nn

from reappear.core import SettingsError
from reappear.models import Embedder, Preprocessing, create_model
from reappear.models.transreid import TransReIDViT, shuffle_patches

SMALL = {"depth": 2, "embed_dim": 12, "num_heads": 3}


def _vit() -> nn.Module:
    torch.manual_seed(0)
    return create_model("vit_tiny", **SMALL).eval()


def literal_shuffle(patches: torch.Tensor) -> list[int]:
    """The order of the patches, by number: shift by five, then column by column of two rows."""
    order = [*range(5, len(patches)), *range(5)]
    if len(order) % 2:
        order.append(order[-2])
    half = len(order) // 2
    return [order[row * half + column] for column in range(half) for row in range(2)]


@pytest.mark.parametrize("m", [8, 9, 128])
def test_patches_are_shifted_and_dealt(m: int) -> None:
    patches = torch.arange(m, dtype=torch.float32).view(1, m, 1)
    assert shuffle_patches(patches).flatten().tolist() == literal_shuffle(patches[0])


def test_vector_is_that_of_the_whole_and_of_four_parts() -> None:
    vit = _vit()
    model = TransReIDViT(copy.deepcopy(vit)).eval()
    with torch.no_grad():
        for parameter in model.local_block.parameters():  # the twin learns apart
            parameter.add_(0.1)
        images = torch.randn(2, 3, 128, 64)
        vectors = model(images)
        assert vectors.shape == (2, 60) == (2, model.num_features)
        torch.testing.assert_close(vectors[:, :12], vit(images))
        tokens = vit.blocks[:-1](vit._pos_embed(vit.patch_embed(images)))
        order = literal_shuffle(tokens[0, 1:])
        for part in range(4):
            chosen = [1 + order[i] for i in range(part * 8, part * 8 + 8)]
            seen = torch.cat([tokens[:, :1], tokens[:, chosen]], 1)
            expected = model.local_norm(model.local_block(seen))[:, 0] / 4
            torch.testing.assert_close(vectors[:, 12 * (part + 1) : 12 * (part + 2)], expected)


def test_camera_is_added_to_every_token_and_unknown_ones_are_the_mean() -> None:
    vit = _vit()
    model = TransReIDViT(copy.deepcopy(vit), jigsaw=False, cameras=3, camera_weight=2.0).eval()
    images = torch.randn(2, 3, 128, 64)
    with torch.no_grad():
        tokens = vit._pos_embed(vit.patch_embed(images)) + 2.0 * model.cameras[[2, 0]]
        expected = vit.norm(vit.blocks(tokens))[:, 0]
        torch.testing.assert_close(model(images, torch.tensor([2, 0])), expected)
        model.cameras[:] = model.cameras[:1]
        torch.testing.assert_close(model(images), model(images, torch.tensor([1, 2])))
    assert model.num_features == 12


def test_twin_starts_as_the_last_block_and_is_saved_with_the_model(tmp_path) -> None:
    vit = _vit()
    model = TransReIDViT(vit, cameras=2)
    for one, other in zip(model.local_block.parameters(), vit.blocks[-1].parameters(), strict=True):
        assert torch.equal(one, other)
        assert one is not other
    config = {"architecture": "transreid", "arguments": {"vit": "vit_tiny", **SMALL, "cameras": 2}}
    embedder = Embedder(model.eval(), Preprocessing(height=128, width=64), config=config)
    embedder.save(tmp_path / "m")
    again = Embedder.load(tmp_path / "m")
    images = torch.randn(2, 3, 128, 64)
    with torch.no_grad():
        assert torch.equal(again.backbone(images), model(images))


@pytest.mark.parametrize("name", ["cnn6", "resnet18", "vit_base_patch16_clip_224", "transreid"])
def test_other_networks_are_refused(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name) if name != "vit_base_patch16_clip_224" else create_model(name, global_pool="avg")
    with pytest.raises(SettingsError, match="need a vision transformer"):
        TransReIDViT(network)
