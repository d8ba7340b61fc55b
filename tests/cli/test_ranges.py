"""Every numeric setting of every command with values at and beyond its range."""

import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

import av
import numpy as np
import pytest
from annotated_types import Interval, MultipleOf
from pydantic import AfterValidator

from reappear.cli.app import COMMANDS, main
from reappear.core import SettingsError
from reappear.core.settings import members, notes, without_notes
from reappear.pipeline.settings import Field, describe, resolve
from tests.models.extractors.test_extractors import onnx_file, openvino_file
from tests.pipeline.pretrain_fixture import make_validation_set
from tests.video.detectors.test_detectors import yolox_file

EXTREMES = ("nan", "inf", "-inf", "-1", "0", "1e20")
WITH_SETTINGS = [name for name, entry in COMMANDS.items() if entry.settings]
# Checked by a function of their own, for they are numbers or words.
NUMBERS_OR_WORDS = {"thresholds", "memory"}


def settings_class(command: str) -> Any:
    module, cls = COMMANDS[command].settings.split(":")
    return getattr(import_module(f"reappear.pipeline.{module}"), cls)


def numbers(hint: Any) -> Iterator[Any]:
    """The types of the numbers in a type, with their ranges."""
    for member in members(hint):
        plain = without_notes(member)
        if get_origin(plain) is tuple:
            for part in get_args(plain):
                yield from numbers(part)
        elif plain in (int, float):
            yield member


def fits(hint: Any, value: Any) -> bool:
    """Whether a value lies in the declared range: what the check is checked against."""
    plain = without_notes(hint)
    if members(hint) != [hint]:
        return any(fits(member, value) for member in members(hint) if member is not type(None))
    if get_origin(plain) is tuple:
        parts = get_args(plain)
        parts = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        inside = all(itertools.starmap(fits, zip(parts, value, strict=True)))
    else:
        inside = math.isfinite(value) and (plain is float or value == int(value))
    for note in notes(hint):
        if isinstance(note, Interval):
            inside &= note.ge is None or value >= note.ge
            inside &= note.gt is None or value > note.gt
            inside &= note.le is None or value <= note.le
            inside &= note.lt is None or value < note.lt
        elif isinstance(note, MultipleOf):
            inside = inside and value % note.multiple_of == 0
        elif isinstance(note, AfterValidator) and inside:
            try:
                note.func(value)
            except ValueError:
                inside = False
    return inside


def replaced(value: Any, new: Any) -> Iterator[Any]:
    """A list of numbers with `new` in the place of each number in turn; a number becomes `new`."""
    if isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from ((*value[:i], other, *value[i + 1 :]) for other in replaced(part, new))
    else:
        yield int(new) if isinstance(value, int) and math.isfinite(new) else new


def default_of(field: Field) -> Any:
    if field.default is None:
        tuples = [without_notes(member) for member in members(field.hint)]
        return next(((1.0,) * len(get_args(plain)) for plain in tuples if get_origin(plain) is tuple), None)
    return field.default


def given_for(fields: list[Field], field: Field) -> dict[str, str]:
    """What must be given so that the part of this field can be made."""
    if not field.kind:
        return {}
    chosen = {other.path for other in fields if other.is_part}
    prefix = field.path.rpartition(".")[0]
    while prefix not in chosen:  # settings in groups inside a part
        prefix = prefix.rpartition(".")[0]
    required = {
        other.path: "x"
        for other in fields
        if other.path.rpartition(".")[0] == prefix
        and other.kind == field.kind
        and not isinstance(other.default, (int, float, str, tuple, type(None)))
    }
    return {
        prefix: field.kind,
        **required,
        **({"views.local_views": "0"} if field.kind in ("moco", "upreid") and prefix == "method" else {}),
    }


def as_text(value: Any) -> str:
    return f"[{', '.join(map(as_text, value))}]" if isinstance(value, tuple) else f"{value:.12g}"


def cases(command: str) -> Iterator[tuple[Field, dict[str, str], Any]]:
    """Field, what else must be given, and the value that it gets."""
    fields = describe(settings_class(command))
    for field in fields:
        if field.is_part or not list(numbers(field.hint)):
            continue
        if command == "demo" and field.path.startswith("run."):
            continue  # the settings of the command `run`
        for extreme in EXTREMES:
            for value in replaced(default_of(field), float(extreme)):
                yield field, given_for(fields, field), value


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_every_number_declares_its_range(command):
    for field in describe(settings_class(command)):
        if field.path.rpartition(".")[2] not in NUMBERS_OR_WORDS:
            for number in numbers(field.hint):
                assert any(isinstance(note, Interval) for note in notes(number)), field.path


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_numbers_out_of_range_are_refused_by_name(command):
    """Defaults obey their own ranges: each class is made here with all of its defaults but one."""
    cls = settings_class(command)
    for field, given, value in cases(command):
        text = as_text(value)
        name = field.path.rpartition(".")[2]
        fine = name == "thresholds" and value == 0 if name in NUMBERS_OR_WORDS else fits(field.hint, value)
        if fine:
            resolve(cls, {}, given | {field.path: text})
        else:
            with pytest.raises(SettingsError, match=f"^{field.path}: ") as caught:
                resolve(cls, {}, given | {field.path: text})
            assert text.strip("[]").split(",")[0] in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        ["models", "resnet50", "--height", "N"],
        ["models", "resnet50", "--width", "N"],
        ["explain", "w", "N"],
        ["explain", "w", "--tracklet", "N"],
        ["explain", "w", "--crop", "N"],
        ["review", "w", "same", "N", "3"],
        ["review", "w", "reject", "--crops", "N"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("value", [*EXTREMES, str(10**20)])
def test_numbers_outside_of_settings(capsys, tmp_path, monkeypatch, command, value):
    monkeypatch.chdir(tmp_path)
    code, err = call(capsys, *[value if word == "N" else word for word in command])
    assert code == (1 if value == "0" and command[0] != "models" else 2), err
    assert "a bug in reappear" not in err


def call(capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    return int(stopped.value.code or 0), capsys.readouterr().err


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """A film of a walking person with boxes, a workspace with crops, a set of images, networks."""
    root = tmp_path_factory.mktemp("inputs")
    film(root / "film.mp4")
    make_validation_set(root / "set")
    work = str(root / "work")
    for step in (
        ["ingest", str(root / "set"), "--layout=market1501", f"--out={work}"],
        ["embed", work],
        ["correlate", work],
    ):
        with pytest.raises(SystemExit) as stopped:
            main([*step, "-q"])
        assert not stopped.value.code
    onnx_file(root / "embedding.onnx")
    openvino_file(root / "openvino.xml")
    yolox_file(root / "yolox.onnx", {9: [0.5, 0.5, 1.0, 1.8, 0.9, 0.9]})
    return root


def film(path: Path) -> None:
    """A dark figure that walks before a grey wall, with boxes and, for ids, tracklets."""
    boxes = []
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for i in range(24):
            image = np.full((128, 160, 3), 160, np.uint8)
            left = 10 + 4 * i
            image[30:110, left : left + 28] = 40
            boxes.append(f"{i + 1},1,{left},30,28,80,0.9,-1,-1,-1")
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    path.with_suffix(".det.txt").write_text("\n".join(boxes) + "\n")


SMALL = {
    "ingest": {"detector.study_frames": "20", "workers": "1"},
    "pretrain": {"steps": "2", "images_per_step": "24", "method.head_hidden": "16"},
    "evaluate": {"bootstrap": "2"},
    "synthesize": dict.fromkeys(("people", "test_people", "cameras", "films", "appearances", "workers"), "1"),
}
NETWORKS = {"onnx": "{}/embedding.onnx", "openvino": "{}/openvino.xml", "yolox": "{}/yolox.onnx", "model": "cnn6"}
# Work that is as long as the number says.
ENDLESS = {"crowding", "lead_in", "seeds"}


def in_range(command: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Accepted values to run a command with: extremes, and the bounds themselves where they are cheap."""
    fields = describe(settings_class(command))
    for field, given, value in cases(command):
        if field.path.rpartition(".")[2] not in NUMBERS_OR_WORDS and fits(field.hint, value):
            yield field.path, given | {field.path: as_text(value)}
    for field in fields:
        if field.is_part or field.path in ENDLESS or not list(numbers(field.hint)):
            continue
        spans = [note for number in numbers(field.hint) for note in notes(number) if isinstance(note, Interval)]
        for span in dict.fromkeys(spans):
            low, high = span.ge, span.le
            for bound in (low, high if high is not None and (high <= 100 or isinstance(high, float)) else None):
                for value in () if bound is None else replaced(default_of(field), float(bound)):
                    if fits(field.hint, value):
                        yield field.path, given_for(fields, field) | {field.path: as_text(value)}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ingest", "embed", "correlate", "pretrain", "evaluate", "synthesize", "report"])
def test_steps_end_in_order_with_extreme_values_in_range(capsys, inputs, tmp_path, command):
    seen, failed = set(), []
    for path, given in in_range(command):
        given = SMALL.get(command, {}) | given
        for name, value in given.items():
            if value == "x":  # a required file
                given[name] = NETWORKS[given[name.rpartition(".")[0]]].format(inputs)
        if given.get("method") in ("moco", "upreid"):
            given = {"method.queue": "32", **given}
        if given.get("method") in ("cion", "dino", "tracklet"):
            given = {"method.prototypes": "8", **given}
        key = tuple(sorted(given.items()))
        if key in seen:
            continue
        seen.add(key)
        out = tmp_path / str(len(seen))
        options = [f"--set={name}={value}" for name, value in given.items()]
        code, err = call(capsys, *ARGUMENTS[command](inputs, out), *options)
        if code not in (0, 1, 2) or "a bug in reappear" in err or "Traceback" in err:
            failed.append(f"{path} {given[path]}: {code} {err.strip().splitlines()[-1:]}")
        shutil.rmtree(out, ignore_errors=True)
    assert seen
    assert not failed, "\n".join(failed)


def in_copy(command: str) -> Callable[[Path, Path], list[str]]:
    """The command in a copy of the workspace."""

    def arguments(inputs: Path, out: Path) -> list[str]:
        shutil.copytree(inputs / "work", out)
        more = ["--labels=round0"] if command == "pretrain" else []
        return [command, str(out), "-q", *(["--name=again"] if command != "report" else []), *more]

    return arguments


ARGUMENTS: dict[str, Callable[[Path, Path], list[str]]] = {
    "ingest": lambda inputs, out: ["ingest", str(inputs / "film.mp4"), "--out", str(out), "-q"],
    "evaluate": lambda inputs, out: ["evaluate", str(inputs / "set"), "--out", str(out), "-q"],
    "synthesize": lambda inputs, out: ["synthesize", "--out", str(out), "-q"],
    **{command: in_copy(command) for command in ("embed", "correlate", "pretrain", "report")},
}
