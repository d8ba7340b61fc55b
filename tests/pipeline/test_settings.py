import itertools
import os
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from reappear.core import SettingsError, settings
from reappear.pipeline.pretrain import PretrainSettings
from reappear.pipeline.settings import describe, load_recipe, parse_override, resolve, to_plain


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


def test_overrides_take_precedence_over_the_recipe():
    job = resolve(Job, {"stride": 2, "crop": {"padding": 0.1}}, {"crop.padding": 0.2})
    assert (job.stride, job.crop.padding) == (2, 0.2)


def test_other_kind_starts_from_its_own_defaults():
    wanted = Job(detector=Network(weights=Path("w.onnx"), score=0.5))
    given = {"detector.score": 0.5, "detector": "network", "detector.weights": "w.onnx"}
    assert resolve(Job, {}, given) == wanted
    assert resolve(Job, {}, dict(reversed(given.items()))) == wanted
    assert resolve(Job, {"detector": {"history": 5, "kind": "motion"}}, given) == wanted


def test_kind_alone_stands_for_a_part(tmp_path):
    recipe = {"detector": "motion"}
    assert resolve(Job, recipe) == resolve(Job, {"detector": {"kind": "motion"}})
    assert resolve(Job, recipe, {"detector.history": "7"}).detector == Motion(history=7)
    (tmp_path / "base.yaml").write_text("detector: {kind: network, weights: a.onnx}\n")
    (tmp_path / "same.yaml").write_text("base: base.yaml\ndetector: network\n")
    assert resolve(Job, load_recipe(tmp_path / "same.yaml")).detector == Network(weights=Path("a.onnx"))
    (tmp_path / "other.yaml").write_text("base: base.yaml\ndetector: motion\n")
    assert resolve(Job, load_recipe(tmp_path / "other.yaml")).detector == Motion()


def test_headings_of_help_are_no_settings():
    with pytest.raises(SettingsError, match="unknown setting 'section'"):
        resolve(PretrainSettings, {"section": "Model"})


def test_a_setting_of_another_kind_is_told_with_that_kind():
    for given in ({"detector": "motion", "detector.score": 0.5}, {"detector": {"kind": "motion", "score": 0.5}}):
        with pytest.raises(SettingsError, match=r"^detector\.score: is a setting of detector network.* is motion here"):
            resolve(Job, {}, given)


def test_single_field_of_a_default_part_can_be_set():
    assert resolve(Job, {}, {"detector.history": 9}).detector == Motion(history=9)
    assert resolve(Job, {"detector": {"history": 9}}).detector == Motion(history=9)


@settings
class Colours:
    hue: Annotated[float, "turn"] = 0.1
    gray: Annotated[float, "share"] = 0.2
    crop: Annotated[Crop, "inside"] = field(default_factory=Crop)


@settings
class Training:
    colours: Annotated[Colours, "of views"] = field(default_factory=lambda: Colours(hue=0.5, crop=Crop(padding=0.7)))


@pytest.mark.parametrize("recipe", [{}, {"colours": {"gray": 0.3}}])
def test_unset_fields_keep_the_outer_default(recipe):
    colours = resolve(Training, recipe, {"colours.gray": 0.3}).colours
    assert colours == Colours(hue=0.5, gray=0.3, crop=Crop(padding=0.7))
    assert resolve(Training, recipe, {"colours.crop.padding": 0.9}).colours.hue == 0.5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strid": 2}, "unknown setting 'strid'; did you mean stride\\?"),
        ({"crop.paddin": 2}, r"unknown setting 'crop.paddin'; did you mean crop.padding\?"),
        ({"zzz": 2}, "known: detector, crop, stride, note"),
        ({"detector": "netwrk"}, r"detector: unknown kind 'netwrk'; did you mean network\? known: motion, network"),
        ({"detector": "zzz"}, "detector: unknown kind 'zzz'; known: motion, network"),
        ({"detector": "network"}, "detector.weights: must be given"),
        ({"detector.histori": 2}, "did you mean detector.history"),
        ({"stride": "many"}, "stride: must be a whole number, got 'many'"),
        ({"crop.padding": "wide"}, "crop.padding: must be a number, got 'wide'"),
        ({"crop": 3}, "crop"),
    ],
)
def test_wrong_settings_are_named(given, message):
    with pytest.raises(SettingsError, match=message):
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
    assert {f.path: f.default for f in describe(Training)} == {
        "colours.hue": 0.5, "colours.gray": 0.2, "colours.crop.padding": 0.7,
    }  # fmt: skip


TEXTS = [
    "on", "yes", "null", "none", "~", "", "nan", "1_000", "0x10", "010", "2026-01-01", "12:30:00", "[1, 2]", "1e3",
    "{a: b}", "*x", "&x", "!!int 3", "- 1", "#x", "a: b", "3", "  spaced ",
]  # fmt: skip


@settings
class Typed:
    text: Annotated[str, "text"] = ""
    word: Annotated[str | None, "text"] = None
    path: Annotated[Path | None, "a file"] = None
    whole: Annotated[int, "a whole number"] = 0
    share: Annotated[float | None, "a number"] = None
    flag: Annotated[bool, "yes or no"] = False
    pair: Annotated[tuple[float, float], "two numbers"] = (0.0, 1.0)
    amount: Annotated[float | str, "an amount"] = "4GB"
    free: Annotated[dict[str, Any], "anything"] = field(default_factory=dict)


@pytest.mark.parametrize("text", TEXTS)
def test_text_settings_are_not_parsed(text):
    made = resolve(Typed, {}, {"text": text, "word": text, "path": text})
    assert (made.text, made.word, made.path) == (text, text, Path(text))


def test_yaml_words_stay_text_in_recipes(tmp_path):
    (tmp_path / "r.yaml").write_text("text: on\nword: 2026-01-01\npath: 010\n")
    assert resolve(Typed, load_recipe(tmp_path / "r.yaml")) == Typed(text="on", word="2026-01-01", path=Path("010"))
    (tmp_path / "r.yaml").write_text("word: null\npath:\nshare: ~\ntext: 'null'\n")
    assert resolve(Typed, load_recipe(tmp_path / "r.yaml"), {}) == Typed(text="null")


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("whole", "3", 3),
        ("whole", "010", 10),
        ("whole", "1e3", 1000),
        ("whole", "-2", -2),
        ("share", "1e-3", 0.001),
        ("share", "-2.5E1", -25.0),
        ("share", "null", None),
        ("share", "none", None),
        ("flag", "yes", True),
        ("flag", "off", False),
        ("pair", "[1, 2.5]", (1.0, 2.5)),
        ("pair", "[1e-3, 2]", (0.001, 2.0)),
        ("amount", "2", 2.0),
        ("amount", "800MB", "800MB"),
        ("free", "{width: 48, deep: {a: [1, 0.5]}, flag: yes, name: x}",
         {"width": 48, "deep": {"a": [1, 0.5]}, "flag": True, "name": "x"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["option", "recipe"])
def test_value_is_read_as_the_type_of_its_setting(tmp_path, setting, text, value, place):
    (tmp_path / "r.yaml").write_text(f"{setting}: {text}\n")
    recipe, given = (load_recipe(tmp_path / "r.yaml"), {}) if place == "recipe" else ({}, {setting: text})
    found = getattr(resolve(Typed, recipe, given), setting)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        *itertools.product(
            ["whole", "share"], ["yes", "on", "true", "0x10", "2026-01-01", "nan", "inf", "-inf", "1e999", "12:30"]
        ),
        *[("whole", text) for text in ("1.5", "null", "9" * 5000)],
        *[("flag", text) for text in ("2", "maybe")],
        *[("pair", text) for text in ("[1]", "[yes, no]", "[1, nan]", "[", "3")],
        *[("free", text) for text in ("3", "*a")],
    ],
)
def test_invalid_values_are_refused(setting, text):
    with pytest.raises(SettingsError, match=rf"^{setting}: must be .*, got ") as caught:
        resolve(Typed, {}, {setting: text})
    assert len(str(caught.value)) < 300


def test_override_text():
    assert parse_override("a.b=1e-3") == ("a.b", "1e-3")
    assert parse_override("a.b=c=d") == ("a.b", "c=d")
    with pytest.raises(SettingsError, match="takes name=value"):
        parse_override("a.b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "must hold `name: value` lines"),
        ("a", "must hold `name: value` lines"),
        ("a: 1\nb: 2\na: 3\n", "a stands twice"),
        ("p: {kind: x, c: 1, c: 2}", "c stands twice"),
        ("[1, 2]: 3", "keys must be names"),
        ("{a: 1}: 3", "keys must be names"),
        ("a: &x 1\nb: *x\n", r"the alias \*x is not allowed"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", r"the alias \*a is not allowed"),
        ("a: &a [*a]", r"the alias \*a is not allowed"),
        ("a: " + "[" * 51 + "]" * 51, "nested deeper than 50"),
        ("a: " + "[" * 500_000, "nested deeper than 50"),
        ("a: " + "{b: " * 51 + "}" * 51, "nested deeper than 50"),
        ("a: \0", "is not YAML"),
        ("a: " + "x" * 1_000_000, "larger than 1,000,000 bytes"),
        ("base: [1]", "base must be the path of a recipe"),
    ],
)
def test_bad_recipes(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize("place", ["recipe", "base"])
@pytest.mark.parametrize("what", ["/dev/zero", "pipe", "folder", "latin1", "loop"])
def test_recipe_is_a_regular_text_file(tmp_path, what, place):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin1").write_bytes(b"a: \xe4")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "r.yaml").write_text(f"base: {what}\n")
    with pytest.raises(SettingsError, match=what):
        load_recipe(tmp_path / "r.yaml" if place == "base" else tmp_path / what)


def test_tags_make_no_objects(tmp_path):
    (tmp_path / "r.yaml").write_text("a: !!python/object/apply:os.system [exit 1]\nb: !!int 3\n")
    assert load_recipe(tmp_path / "r.yaml") == {"a": ["exit 1"], "b": "3"}


def test_chain_of_bases_is_bounded(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.yaml").write_text(f"base: {i + 1}.yaml\n")
    with pytest.raises(SettingsError, match="chain of bases"):
        load_recipe(tmp_path / "0.yaml")


def test_missing_and_empty_recipes(tmp_path):
    with pytest.raises(SettingsError, match="does not exist"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_recipe(tmp_path / "empty.yaml") == {}


def test_recipe_extends_its_base(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "first.yaml").write_text("a: 1\nb: 1\npart: {kind: x, c: 1, d: 1}\nother: {kind: x, c: 1}\n")
    (tmp_path / "second.yaml").write_text("base: deep/first.yaml\nb: 2\npart: {c: 2}\nother: {kind: y}\n")
    (tmp_path / "third.yaml").write_text("base: second.yaml\npart: {kind: x, d: 3}\n")
    assert load_recipe(tmp_path / "third.yaml") == {
        "a": "1",
        "b": "2",
        "part": {"kind": "x", "c": "2", "d": "3"},
        "other": {"kind": "y"},
    }


def test_circular_or_missing_base_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(SettingsError, match=r"a\.yaml is its own base"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("base: c.yaml\n")
    with pytest.raises(SettingsError, match=r"c\.yaml does not exist"):
        load_recipe(tmp_path / "a.yaml")
