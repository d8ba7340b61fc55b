import argparse
import io
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from reappear.core import InputError
from reappear.models import create_model, list_models, load_checkpoint
from reappear.models.checkpoints import load_plain
from reappear.models.zoo import ZOO
from tests.references.cion_layouts import LAYOUTS


def _model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("cnn6", width=4)


def _equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def _prefixed(model: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: m.state_dict(),
        lambda m: {"state_dict": m.state_dict(), "epoch": 3},
        lambda m: {"model": _prefixed(m, "module.")},
        lambda m: {"student": _prefixed(_model(5), "module.backbone."), "teacher": _prefixed(m, "backbone.")},
        lambda m: {"teacher": {**_prefixed(m, "module.backbone."), "module.head.mlp.0.weight": torch.zeros(2)}},
        lambda m: {"teacher": _prefixed(m, "backbone."), "args": argparse.Namespace(lr=0.1, arch="cnn6"), "epoch": 7},
        lambda m: {**m.state_dict(), "fc.weight": torch.zeros(5, 16), "fc.bias": torch.zeros(5)},
    ],
)
def test_public_layouts_load_completely(tmp_path: Path, wrap) -> None:
    source, target = _model(0), _model(1)
    torch.save(wrap(source), tmp_path / "weights.pth")
    report = load_checkpoint(target, tmp_path / "weights.pth")
    assert _equal(source, target)
    assert len(report.matched) == len(source.state_dict())
    assert (report.missing, report.unexpected) == ((), ())


def test_head_tensors_are_reported_as_ignored(tmp_path: Path) -> None:
    state = {**_prefixed(_model(0), "backbone."), "head.mlp.0.weight": torch.zeros(2, 2)}
    torch.save({"teacher": state}, tmp_path / "weights.pth")
    assert load_checkpoint(_model(1), tmp_path / "weights.pth").ignored == ("head.mlp.0.weight",)


def test_safetensors_and_folders(tmp_path: Path) -> None:
    source = _model(0)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        target = _model(1)
        load_checkpoint(target, path)
        assert _equal(source, target)


def test_old_files_without_batch_counters_load(tmp_path: Path) -> None:
    state = {name: value for name, value in _model(0).state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    assert load_checkpoint(_model(1), tmp_path / "old.pth").missing == ()


def test_partial_match_is_refused_unless_allowed(tmp_path: Path) -> None:
    state = dict(_model(0).state_dict())
    first = next(iter(state))
    del state["features.3.weight"]
    state[first] = torch.zeros(2, 2)
    state["stranger"] = torch.zeros(1)
    torch.save(state, tmp_path / "other.pth")
    model, untouched = _model(1), _model(1)
    with pytest.raises(
        InputError, match=r"does not fit SmallCNN: matched 34 of 36 tensors, 1 missing \(features.3.wei"
    ):
        load_checkpoint(model, tmp_path / "other.pth")
    assert _equal(model, untouched)
    report = load_checkpoint(model, tmp_path / "other.pth", allow=["*"])
    assert report.missing == ("features.3.weight",)
    assert report.unexpected == ("stranger", f"{first} (2, 2) for (4, 3, 3, 3)")
    assert len(report.matched) == 34


def test_no_common_tensor_is_always_refused(tmp_path: Path) -> None:
    torch.save({"stranger": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="matched 0 of 36 tensors"):
        load_checkpoint(_model(0), tmp_path / "other.pth", allow=["*"])


class _Burglar:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("burgled"),))


def test_pickled_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": _model(0).state_dict(), "extra": _Burglar()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(_Burglar()))
    for name in ("evil.pth", "plain.pkl"):
        with pytest.raises(InputError, match="could run code hidden in it"):
            load_checkpoint(_model(1), tmp_path / name)
    assert not (tmp_path / "burgled").exists()


def _public_checkpoint(model: nn.Module, loss: str) -> dict[str, object]:
    """All that the training script of DINO (loss: "dino_loss") or CION ("Loss") stores, after one step."""
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for group in optimizer.param_groups:  # the scripts take both from numpy arrays, one value for each step
        group["lr"], group["weight_decay"] = np.linspace(0, 1e-3, 4)[1], np.linspace(0.04, 0.4, 4)[1]
    optimizer.step()
    return {
        "student": _prefixed(model, "module.backbone."),
        "teacher": _prefixed(model, "backbone."),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(arch="cnn6", global_crops_scale=(0.4, 1.0), use_fp16=True),
        loss: {"center": torch.zeros(1, 8)},
        "fp16_scaler": torch.amp.GradScaler("cpu").state_dict(),
    }


def _with_pickle(path: Path, before: bytes, after: bytes) -> None:
    """Replaces bytes of the pickle inside a PyTorch file."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data.replace(before, after) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("loss", ["dino_loss", "Loss"])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"], ids=["numpy1", "numpy2"])
def test_full_checkpoints_of_public_training_scripts_load(tmp_path: Path, loss: str, module: bytes) -> None:
    source, target = _model(0), _model(1)
    torch.save(_public_checkpoint(source, loss), tmp_path / "checkpoint.pth")
    _with_pickle(tmp_path / "checkpoint.pth", b"numpy._core.multiarray", module)
    load_checkpoint(target, tmp_path / "checkpoint.pth")
    assert _equal(source, target)


class _Reduced:
    """Pickled as a call of `function`, then `__setstate__(state)`."""

    def __init__(self, function: object, arguments: tuple[object, ...], state: object = None) -> None:
        self._parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[object, ...]:
        return self._parts


_ARRAY = np.zeros(1).__reduce__()[0]  # numpy's _reconstruct
_SCALAR = np.float64(0).__reduce__()[0]  # numpy's scalar


@pytest.mark.parametrize("code", ["b1", "i1", "u1", "<i2", ">u4", "<i8", ">f2", "<f4", ">f8", "<c8"])
def test_numpy_scalars_keep_their_value(code: str) -> None:
    number = np.array(3, code)
    data = io.BytesIO()
    torch.save([_Reduced(_SCALAR, (number.dtype, number.tobytes())), number[()], number.dtype], data)
    read = load_plain(data, Path("numbers.pth"))
    for value in read[:2]:
        assert value == number
        assert value.dtype == number.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    "hostile",
    [
        _Reduced(os.system, ("touch burgled",)),
        _Reduced(eval, ("__import__('os').system('touch burgled')",)),
        np.zeros(2),
        np.array([{}], object),
        _Reduced(_ARRAY, (np.ndarray, (0,), b"O"), (1, (1,), np.dtype("O"), False, [1])),
        _Reduced(_ARRAY, (argparse.Namespace, (0,), b"b")),
        _Reduced(_SCALAR, (np.dtype("O"), "burgled")),
        _Reduced(_SCALAR, (_Reduced(np.dtype, ("O8", False, True), (3, "|", None, None, None, 8, 8, 0)), b"\1" * 8)),
        _Reduced(_SCALAR, (_Reduced(np.dtype, ("V8", False, True), (3, "|", None, None, None, 8, 1, 63)), b"\1" * 8)),
        _Reduced(_SCALAR, (np.dtype([("a", "O")]), b"\1" * 8)),
        _Reduced(_SCALAR, (np.dtype("M8[s]"), b"\1" * 8)),
        _Reduced(_SCALAR, (np.dtype("f8"), b"\1" * 7)),
        _Reduced(_SCALAR, (np.dtype("f8"),)),
        _Reduced(np.dtype, ("f8,f4", False, True)),
        _Reduced(np.dtype, ("U1000000000", False, True)),
        _Reduced(np.dtype, (argparse.Namespace(dtype="f8"), False, True)),
        _Reduced(np.load, ("burgled",)),
        _Reduced(np.fromfile, ("burgled",)),
    ],
)
def test_only_numbers_of_numpy_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: object) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": _model(0).state_dict(), "extra": hostile}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth"):
        load_checkpoint(_model(1), tmp_path / "evil.pth")
    assert not (tmp_path / "burgled").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.pth", None, "does not exist"),
        ("text.safetensors", b"hello", "safetensors"),
        ("cut.pth", b"PK\x03\x04 and no more", "PyTorch file"),
        ("empty.pth", b"", "PyTorch file"),
    ],
)
def test_invalid_weight_files_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_checkpoint(_model(0), tmp_path / name)


def test_file_without_named_tensors(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds no tensors under their names"):
        load_checkpoint(_model(0), tmp_path / "list.pth")


def _marked(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Each tensor full of a number of its own, and on disk as small as that number."""
    return {
        name: torch.tensor(number + 1, dtype=torch.int64 if name.endswith("tracked") else torch.float32).expand(shape)
        for number, (name, shape) in enumerate(shapes.items())
    }


def _empty(name: str, **kw: object) -> nn.Module:
    with torch.device("meta"):
        model = create_model(name, **kw)
    return model.to_empty(device="cpu")


_FIRST = {name.split("_")[0].rstrip("0123456789"): name for name in reversed(list_models())}.values()


@pytest.mark.parametrize(
    "name", [name if name in _FIRST else pytest.param(name, marks=pytest.mark.slow) for name in list_models()]
)
def test_public_cion_files_load_completely(tmp_path: Path, name: str) -> None:
    state = _marked(LAYOUTS[name])
    synced = any("running_mean" in key for key in state)
    prefix = "module.backbone." if synced else "backbone."  # the public code wraps the teacher only if it syncs norms
    head = {"head.mlp.0.weight": torch.zeros(2, 2), "head.last_layer.weight_g": torch.ones(3, 1)}
    teacher = {prefix + key: value for key, value in state.items()}
    teacher |= {prefix.replace("backbone.", "") + key: value for key, value in head.items()}
    whole = {"student": {}, "teacher": teacher, "epoch": 100, "args": argparse.Namespace(arch=name), "Loss": {}}
    torch.save(whole, tmp_path / "official.pth")
    model = _empty(name)
    report = load_checkpoint(model, tmp_path / "official.pth")
    assert (report.missing, report.unexpected, report.resized) == ((), (), ())
    assert len(report.ignored) == len(head)
    # Nothing was mixed, copied or forgotten: each number of the file is in one tensor of the model.
    found = {float(value.flatten()[0]) for value in model.state_dict().values()}
    assert all(value.min() == value.max() for value in model.state_dict().values())
    assert found == {float(value.flatten()[0]) for key, value in state.items() if "position_index" not in key}


@pytest.mark.parametrize("name", list_models())
def test_reference_layouts_have_the_published_size(name: str) -> None:
    trained = [
        math.prod(shape)
        for key, shape in LAYOUTS[name].items()
        if not any(part in key for part in ("running_", "num_batches", "position_index"))
    ]
    assert sum(trained) == ZOO[name].parameters


def test_repvit_blocks_map_to_stages(tmp_path: Path) -> None:
    state = _marked(LAYOUTS["repvit_m0_9"])
    torch.save(state, tmp_path / "repvit.pth")
    model = _empty("repvit_m0_9")
    load_checkpoint(model, tmp_path / "repvit.pth")
    own = model.state_dict()
    for theirs, ours in (
        ("features.0.2.c.weight", "stem.conv2.c.weight"),
        ("features.1.token_mixer.0.conv1.bias", "stages.0.blocks.0.token_mixer.conv1.bias"),
        ("features.1.token_mixer.1.conv_expand.weight", "stages.0.blocks.0.se.fc2.weight"),
        ("features.3.channel_mixer.m.2.bn.weight", "stages.1.downsample.pre_block.channel_mixer.conv2.bn.weight"),
        ("features.4.token_mixer.0.bn.bias", "stages.1.downsample.spatial_downsample.bn.bias"),
        ("features.4.token_mixer.2.c.weight", "stages.1.downsample.channel_downsample.c.weight"),
        ("features.4.channel_mixer.m.0.c.weight", "stages.1.downsample.ffn.conv1.c.weight"),
        ("features.5.token_mixer.0.bn.weight", "stages.1.blocks.0.token_mixer.bn.weight"),
    ):
        assert torch.equal(own[ours], state[theirs]), theirs


def test_moco_and_lup_give_their_query_encoder(tmp_path: Path) -> None:
    query, key = _marked(LAYOUTS["resnet18"]), _marked(LAYOUTS["resnet50"])
    state = {f"module.encoder_q.{name}": value for name, value in query.items()}
    state |= {f"module.encoder_k.{name}": value for name, value in key.items()}
    state |= {"module.encoder_q.fc.0.weight": torch.zeros(8, 512), "module.queue": torch.zeros(8, 4)}
    torch.save({"state_dict": state, "optimizer": {"lr": 0.3}}, tmp_path / "lup.pth")
    model = _empty("resnet18")
    report = load_checkpoint(model, tmp_path / "lup.pth")
    assert (report.missing, report.unexpected) == ((), ())
    assert {"fc.0.weight", "queue"} <= set(report.ignored)
    assert torch.equal(model.state_dict()["conv1.weight"], query["conv1.weight"])


def test_fine_tuned_transreid_ssl_gives_its_backbone(tmp_path: Path) -> None:
    state = {f"base.{name}": value for name, value in _marked(LAYOUTS["vit_tiny"]).items()}
    state |= {"bottleneck.weight": torch.zeros(192), "classifier.weight": torch.zeros(751, 192)}
    torch.save(state, tmp_path / "transreid.pth")
    report = load_checkpoint(_empty("vit_tiny"), tmp_path / "transreid.pth")
    assert (report.missing, report.unexpected) == ((), ())
    assert report.ignored == ("bottleneck.weight", "classifier.weight")


def test_dino_vit_loads_into_timm_and_zoo_models(tmp_path: Path) -> None:
    dino = create_model("vit_tiny_patch16_224")
    torch.save({"student": {}, "teacher": _prefixed(dino, "backbone.")}, tmp_path / "dino.pth")
    plain = create_model("vit_tiny_patch16_224", img_size=(256, 128))
    assert load_checkpoint(plain, tmp_path / "dino.pth").resized == ("pos_embed",)
    assert torch.equal(plain.pos_embed[:, 0], dino.pos_embed[:, 0])  # the class token's has no place in the image
    zoo = create_model("vit_tiny")
    with pytest.raises(InputError, match=r"missing \(patch_embed.conv.0.weight, .*or allow these names to differ"):
        load_checkpoint(zoo, tmp_path / "dino.pth")
    with pytest.raises(InputError, match="missing"):
        load_checkpoint(zoo, tmp_path / "dino.pth", allow=["patch_embed.proj.*"])
    report = load_checkpoint(zoo, tmp_path / "dino.pth", allow=["patch_embed.*"])
    assert torch.equal(zoo.blocks[3].mlp.fc1.weight, dino.blocks[3].mlp.fc1.weight)
    assert all(name.startswith("patch_embed.") for name in (*report.missing, *report.unexpected))


@pytest.mark.parametrize("name", ["vit_tiny", "volo_d1"])
def test_position_embeddings_follow_the_image_size(tmp_path: Path, name: str) -> None:
    torch.save(_marked(LAYOUTS[name]), tmp_path / "small.pth")
    model = _empty(name, img_size=(384, 128))
    report = load_checkpoint(model, tmp_path / "small.pth")
    assert report.resized == ("pos_embed",)
    positions = model.state_dict()["pos_embed"]
    assert positions.shape[1:-1] in ((24, 8), (1 + 24 * 8,))
    torch.testing.assert_close(positions, torch.full_like(positions, positions.flatten()[0]))


def test_position_embeddings_of_unknown_shape_are_refused(tmp_path: Path) -> None:
    state = _marked({**LAYOUTS["vit_tiny"], "pos_embed": (1, 1 + 7 * 11, 192)})
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=r"1 unexpected \(pos_embed \(1, 78, 192\) for \(1, 129, 192\)\)"):
        load_checkpoint(_empty("vit_tiny"), tmp_path / "odd.pth")


def test_weights_of_another_network_are_refused_whatever_their_names(tmp_path: Path) -> None:
    models = [_empty(name) for name in ("edgenext_x_small", "ghostnet_0_5")]
    for name in ("swin_tiny", "convnext_tiny", "fastvit_s12", "repvit_m0_9", "vit_tiny"):
        torch.save(_marked(LAYOUTS[name]), tmp_path / "other.pth")
        for model in models:
            with pytest.raises(InputError, match="does not fit"):
                load_checkpoint(model, tmp_path / "other.pth")


def test_self_referencing_checkpoint_terminates(tmp_path: Path) -> None:
    inner: dict[str, object] = {"w": torch.zeros(1)}
    inner["model"] = inner
    cycle: dict[str, object] = {"state_dict": {}}
    cycle["state_dict"]["model"] = cycle  # type: ignore[index]
    for state in (inner, cycle):
        torch.save(state, tmp_path / "self.pth")
        with pytest.raises(InputError, match=r"self\.pth"):
            load_checkpoint(_model(0), tmp_path / "self.pth")


def test_decompression_bomb_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(1 << 20)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with pytest.raises(InputError, match="would expand"):
        load_checkpoint(_model(0), tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, 3, 3, 3).to_sparse(),
        torch.zeros(4, 3, 3, 3, dtype=torch.complex64),
        torch.zeros(4, 3, 3, 3, device="meta"),
    ],
    ids=["sparse", "complex", "meta"],
)
def test_tensors_that_are_not_plain_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({**_model(0).state_dict(), "features.0.0.weight": tensor}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match="not a plain tensor"):
        load_checkpoint(_model(0), tmp_path / "odd.pth")


@pytest.mark.parametrize(
    "content", [b"hello", b"epoch,loss\n1,2\n", b"{}", b"<html>", b"\x80\x02.", b"\x80\x02}q\x00."]
)
def test_text_file_named_pth_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"text\.pth") as caught:
        load_checkpoint(_model(0), tmp_path / "text.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/zero.safetensors"])
def test_weights_are_regular_files(path: str) -> None:
    with pytest.raises(InputError):
        load_checkpoint(_model(0), path)
