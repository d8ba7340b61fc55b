"""Each recipe is complete, and its description is correct."""

import re
from pathlib import Path

import pytest
import torch

from reappear.methods.cion.settings import CionSettings
from reappear.methods.cion.task import Cion
from reappear.models import describe_model, list_models, load_model, save_model
from reappear.models.zoo import ZOO
from reappear.pipeline.finetune import FinetuneSettings
from reappear.pipeline.pretrain import PretrainSettings, pretrain
from reappear.pipeline.settings import load_recipe, resolve
from reappear.pipeline.workspace import Workspace
from tests.methods.setups import make_setup
from tests.pipeline.pretrain_fixture import make_workspace

FOLDER = Path(__file__).parents[2] / "recipes" / "pretrain"
SMALL = {
    "steps": 1,
    "images_per_step": 4,
    "method.curriculum": [[0, 2]],
    "method.prototypes": 64,
    "method.head_hidden": 64,
    "views.local_views": 2,
    "precision": "float32",
    "device": "cpu",
    "workers": 0,
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("recipes"), people=4)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_named(path: Path) -> None:
    settings = resolve(PretrainSettings, load_recipe(path))
    for command in re.findall(r"--config (\S+)", path.read_text(encoding="utf-8")):
        assert FOLDER.parents[1] / command == path
    for _, images_per_identity in getattr(settings.method, "curriculum", ()):
        assert settings.images_per_step % (8 * images_per_identity) == 0  # on 8 GPUs


@pytest.mark.parametrize("name", list_models())
def test_every_backbone_has_the_papers_recipe(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    settings = resolve(PretrainSettings, load_recipe(path))
    assert settings.backbone == name
    assert settings.lr == 5e-4 * settings.images_per_step / 256
    assert (settings.epochs, settings.warmup, settings.keep) == (100, 0.1, "teacher")
    assert (settings.method.teacher_temperature, settings.method.momentum) == (0.04, 0.996)
    text = path.read_text(encoding="utf-8")
    assert f"({ZOO[name].parameters / 1e6:.1f} M parameters)" in text
    row = ZOO[name]
    assert "Market-1501 mAP {}, rank 1 {}; MSMT17 mAP {}, rank 1 {}.".format(*row.market1501, *row.msmt17) in text


@pytest.mark.parametrize(
    "name",
    [name if name == "resnet50_ibn" else pytest.param(name, marks=pytest.mark.slow) for name in list_models()],
)
def test_cost_in_a_recipe_is_measured(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    message, hours = re.search(r"([\d.]+) GMACs for an image in a step, ([\d.]+) GPU-hours", text).groups()
    whole, part = describe_model(name).gmacs, describe_model(name, height=128, width=64).gmacs
    gmacs = 2 * whole + 3 * (2 * whole + 8 * part)  # teacher; student there and, at twice the cost, back
    assert float(message) == pytest.approx(gmacs, abs=0.051)
    assert float(hours) == pytest.approx(gmacs * 2e9 * 3_898_086 * 100 / 100e12 / 3600, rel=0.05, abs=0.51)


@pytest.mark.parametrize(("steps", "frozen"), [(30, 0), (100, 1), (1250, 12), (406_051, 4060)])
def test_prototypes_are_frozen_for_the_first_of_a_hundred_passes(steps: int, frozen: int) -> None:
    settings = resolve(PretrainSettings, load_recipe(FOLDER / "cion.yaml"), SMALL)
    assert isinstance(settings.method, CionSettings)
    method = Cion(make_setup(settings.method, steps=steps))
    assert frozen == 0 or method.is_frozen("head.prototypes", frozen - 1)
    assert not method.is_frozen("head.prototypes", frozen)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_step_at_full_image_size_then_saved_and_loaded(work: Workspace, tmp_path: Path, name: str) -> None:
    settings = resolve(PretrainSettings, load_recipe(FOLDER / f"{name}.yaml"), SMALL)
    record = pretrain(work, name, settings, labels="true")
    assert record.counts["steps"] == 1
    model, config = load_model(work.model(name))
    save_model(tmp_path / "again", model, config, card="")
    again, _ = load_model(tmp_path / "again")
    images = torch.randn(2, 3, 256, 128)
    with torch.no_grad():
        features = model(images)
        assert torch.equal(again(images), features)
    assert features.shape == (2, ZOO[name].features)
    assert features.isfinite().all()


FINETUNE = FOLDER.parent / "finetune"
SETS = ("market1501", "msmt17")


@pytest.mark.parametrize("name", list_models())
def test_every_backbone_has_the_papers_recipes_of_fine_tuning(name: str) -> None:
    for layout in SETS:
        path = FINETUNE / layout / f"{name}.yaml"
        settings = resolve(FinetuneSettings, load_recipe(path))
        assert (settings.backbone, settings.method.images, settings.normalisation) == (name, 4, "half")
        assert (settings.epochs, settings.optimizer, settings.lr_schedule) == (120, "sgd", "full-cosine")
        text = path.read_text(encoding="utf-8")
        for command in re.findall(r"--config (\S+)", text):
            assert FOLDER.parents[1] / command == path
        scores = getattr(ZOO[name], layout)
        assert "mAP {}, rank 1 {}.".format(*scores) in text
        by_rule = 4e-4 * settings.images_per_step / 64
        exceptions = {("convnext_base", "market1501"): 8e-4, ("swin_base", "msmt17"): 2e-4}
        assert settings.lr == pytest.approx(exceptions.get((name, layout), by_rule))
        assert settings.final_lr == pytest.approx(0.002 * settings.lr)
        passes = 40 if (name, layout) == ("ghostnet_0_5", "market1501") else 20
        assert settings.warmup == pytest.approx(passes / 120, abs=1e-5)
        assert (settings.validation_share, settings.validation_every) == (0, 0)  # as there: the last weights


@pytest.mark.parametrize(
    "path", sorted(FINETUNE.glob("*/mgn_*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_recipes_of_mgn_are_the_papers(path: Path) -> None:
    settings = resolve(FinetuneSettings, load_recipe(path))
    assert path.stem == f"mgn_{settings.backbone}"
    assert (settings.height, settings.width, settings.lr, settings.images_per_step) == (384, 128, 3.5e-4, 64)
    assert (settings.optimizer, settings.lr_schedule, settings.method.images) == ("adam", "late-cosine", 16)
    for command in re.findall(r"--config (\S+)", path.read_text(encoding="utf-8")):
        assert FOLDER.parents[1] / command == path


@pytest.mark.parametrize(("layout", "radius"), [("market1501", 0.6), ("msmt17", 0.7)])
def test_recipes_of_cluster_contrast_are_the_papers(layout: str, radius: float) -> None:
    path = FINETUNE / layout / "cluster_contrast.yaml"
    settings = resolve(FinetuneSettings, load_recipe(path), {"backbone": "resnet50"})
    method = settings.method
    assert (method.radius, method.images, method.k1, method.momentum, method.gem) == (radius, 8, 30, 0.2, True)
    assert settings.steps == 50 * method.phase_steps
    assert [share * 50 for share in settings.lr_steps] == [20, 40]
    for command in re.findall(r"--config (\S+)", path.read_text(encoding="utf-8")):
        assert FOLDER.parents[1] / command == path


@pytest.mark.parametrize(("layout", "tracklets"), [("mars", 8298), ("ilids_vid", 300), ("prid2011", 178)])
def test_recipes_of_grl_are_the_papers(layout: str, tracklets: int) -> None:
    path = FINETUNE / layout / "grl_resnet50.yaml"
    settings = resolve(FinetuneSettings, load_recipe(path))
    method = settings.method
    assert (method.pooling, method.frames, method.pair_weight, method.new_lr, method.compat) == (
        "grl",
        8,
        20,
        2,
        "fixed",
    )
    assert (settings.backbone, settings.optimizer, settings.lr, settings.images_per_step) == (
        "resnet50",
        "nesterov",
        1e-3,
        128,
    )
    assert [share * 60 for share in settings.lr_steps] == [15, 30, 45]
    assert settings.steps == round(60 * tracklets / 8)  # in pairs of clips
    for command in re.findall(r"--config (\S+)", path.read_text(encoding="utf-8")):
        assert FOLDER.parents[1] / command == path
