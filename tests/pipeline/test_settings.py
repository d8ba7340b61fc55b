from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from reappear.core import SettingsError, settings
from reappear.pipeline.settings import describe, load_recipe, parse_override, parse_value, resolve, to_plain


@settings
class Motion:
    kind: Literal["motion"] = "motion"
    history: Annotated[int, "frames remembered"] = 300


@settings
class Network:
    kind: Literal["network"] = "network"
    weights: Annotated[Path, "an ONNX file"]
    score: Annotated[float, "least score"] = 0.3


@settings
class Crop:
    padding: Annotated[float, "share of the box"] = 0.05


@settings
class Job:
    detector: Annotated[Motion | Network, "what finds people"] = field(default_factory=Motion)
    crop: Annotated[Crop, ""] = field(default_factory=Crop)
    stride: Annotated[int, "every n-th frame"] = 1
    note: Annotated[str | None, "anything"] = None


def test_defaults():
    assert resolve(Job) == Job()


def test_a_recipe_and_overrides_later_wins():
    job = resolve(Job, {"stride": 2, "crop": {"padding": 0.1}}, {"crop.padding": 0.2})
    assert (job.stride, job.crop.padding) == (2, 0.2)


def test_a_kind_starts_from_its_own_defaults_in_any_order():
    wanted = Job(detector=Network(weights=Path("w.onnx"), score=0.5))
    given = {"detector.score": 0.5, "detector": "network", "detector.weights": "w.onnx"}
    assert resolve(Job, {}, given) == wanted
    assert resolve(Job, {}, dict(reversed(given.items()))) == wanted
    assert resolve(Job, {"detector": {"history": 5, "kind": "motion"}}, given) == wanted


def test_a_field_of_the_default_part_can_be_set_alone():
    assert resolve(Job, {}, {"detector.history": 9}).detector == Motion(history=9)


@settings
class Colours:
    hue: Annotated[float, "turn"] = 0.1
    gray: Annotated[float, "share"] = 0.2
    crop: Annotated[Crop, "inside"] = field(default_factory=Crop)


@settings
class Training:
    colours: Annotated[Colours, "of views"] = field(default_factory=lambda: Colours(hue=0.5, crop=Crop(padding=0.7)))


@pytest.mark.parametrize("recipe", [{}, {"colours": {"gray": 0.3}}])
def test_what_is_not_set_keeps_the_default_of_the_whole_not_of_the_part(recipe):
    colours = resolve(Training, recipe, {"colours.gray": 0.3}).colours
    assert colours == Colours(hue=0.5, gray=0.3, crop=Crop(padding=0.7))
    assert resolve(Training, recipe, {"colours.crop.padding": 0.9}).colours.hue == 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strid": 2}, "unknown setting strid; did you mean stride?"),
        ({"crop.paddin": 2}, r"unknown setting crop.paddin; did you mean crop.padding\?"),
        ({"zzz": 2}, "known here: detector, crop, stride, note"),
        ({"detector": "netwrk"}, r"detector: no such kind 'netwrk'; did you mean network\?"),
        ({"detector": "network"}, "detector.weights must be given"),
        ({"detector.histori": 2}, "did you mean detector.history"),
        ({"stride": "many"}, "stride: input should be a valid integer.*got 'many'"),
        ({"crop.padding": "wide"}, "crop.padding: input should be a valid number.*got 'wide'"),
        ({"crop": 3}, "crop"),
    ],
)
def test_wrong_settings_are_named(given, said):
    with pytest.raises(SettingsError, match=said):
        resolve(Job, {}, given)


def test_plain_and_back():
    job = Job(detector=Network(weights=Path("w.onnx")), stride=3)
    assert resolve(Job, to_plain(job)) == job


def test_describe_lists_every_field_with_its_help():
    found = {f.path: f for f in describe(Job)}
    assert set(found) == {
        "detector", "detector.history", "detector.weights", "detector.score", "crop.padding", "stride", "note",
    }  # fmt: skip
    assert found["detector.score"].kind == "network"
    assert found["detector.score"].help == "least score"
    assert found["detector"].default == "motion"
    assert found["crop.padding"].kind is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("1e-3", 0.001),
        ("2e4", 20000.0),
        ("-2.5E1", -25.0),
        ("yes", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("a b", "a b"),
        ("w.onnx", "w.onnx"),
        ("e", "e"),
        ("1e3x", "1e3x"),
    ],
)
def test_values_are_read_as_yaml_with_exponents(text, value):
    assert parse_value(text) == value


def test_override_text():
    assert parse_override("a.b=1e-3") == ("a.b", 0.001)
    with pytest.raises(SettingsError, match="takes name=value"):
        parse_override("a.b")


@pytest.mark.parametrize(("text", "said"), [("a: [", "is not YAML"), ("- 1", "must hold `name: value` lines")])
def test_bad_recipes(tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        load_recipe(tmp_path / "r.yaml")


def test_missing_and_empty_recipes(tmp_path):
    with pytest.raises(SettingsError, match="does not exist"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_recipe(tmp_path / "empty.yaml") == {}


def test_a_recipe_stands_on_its_base(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "first.yaml").write_text("a: 1\nb: 1\npart: {kind: x, c: 1, d: 1}\nother: {kind: x, c: 1}\n")
    (tmp_path / "second.yaml").write_text("base: deep/first.yaml\nb: 2\npart: {c: 2}\nother: {kind: y}\n")
    (tmp_path / "third.yaml").write_text("base: second.yaml\npart: {kind: x, d: 3}\n")
    assert load_recipe(tmp_path / "third.yaml") == {
        "a": 1,
        "b": 2,
        "part": {"kind": "x", "c": 2, "d": 3},
        "other": {"kind": "y"},
    }


def test_a_recipe_that_is_its_own_base_or_has_none(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(SettingsError, match=r"a\.yaml is its own base"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("base: c.yaml\n")
    with pytest.raises(SettingsError, match=r"c\.yaml does not exist"):
        load_recipe(tmp_path / "a.yaml")
