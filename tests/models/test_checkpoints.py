import argparse
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from reappear.core import InputError
from reappear.models import create_model, load_checkpoint


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
def test_layouts_of_others_load_whole(tmp_path: Path, wrap) -> None:
    source, target = _model(0), _model(1)
    torch.save(wrap(source), tmp_path / "weights.pth")
    report = load_checkpoint(target, tmp_path / "weights.pth")
    assert _equal(source, target)
    assert len(report.matched) == len(source.state_dict())
    assert (report.missing, report.unexpected) == ((), ())


def test_what_belongs_to_a_head_is_told_as_ignored(tmp_path: Path) -> None:
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


def test_a_partial_fit_is_refused_unless_asked_for_and_then_told(tmp_path: Path) -> None:
    state = dict(_model(0).state_dict())
    first = next(iter(state))
    del state["features.3.weight"]
    state[first] = torch.zeros(2, 2)
    state["stranger"] = torch.zeros(1)
    torch.save(state, tmp_path / "other.pth")
    model, untouched = _model(1), _model(1)
    with pytest.raises(InputError, match=r"does not fit SmallCNN: 34 of 36 tensors match, 1 missing \(features.3.wei"):
        load_checkpoint(model, tmp_path / "other.pth")
    assert _equal(model, untouched)
    report = load_checkpoint(model, tmp_path / "other.pth", partial=True)
    assert report.missing == ("features.3.weight",)
    assert report.unexpected == ("stranger", f"{first} (2, 2) for (4, 3, 3, 3)")
    assert len(report.matched) == 34


def test_nothing_in_common_is_refused_even_when_partial_is_asked_for(tmp_path: Path) -> None:
    torch.save({"stranger": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="0 of 36 tensors match"):
        load_checkpoint(_model(0), tmp_path / "other.pth", partial=True)


class _Burglar:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("burgled"),))


def test_pickled_code_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": _model(0).state_dict(), "extra": _Burglar()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(_Burglar()))
    for name in ("evil.pth", "plain.pkl"):
        with pytest.raises(InputError, match="could run code hidden in it; save its state_dict alone"):
            load_checkpoint(_model(1), tmp_path / name)
    assert not (tmp_path / "burgled").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.pth", None, "does not exist"),
        ("text.safetensors", b"hello", "is not readable as safetensors"),
        ("cut.pth", b"PK\x03\x04 and no more", "is not readable as a PyTorch file"),
        ("empty.pth", b"", "is not readable as a PyTorch file"),
    ],
)
def test_files_that_are_no_weights(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_checkpoint(_model(0), tmp_path / name)


def test_a_file_without_named_tensors(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds no tensors under their names"):
        load_checkpoint(_model(0), tmp_path / "list.pth")
