import contextlib
import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reappear.cli.app import COMMANDS, build, main
from reappear.cli.options import field_help, format_default
from reappear.core.settings import choices_of
from reappear.pipeline.settings import describe


def reappear(capsys, *arguments: str) -> tuple[int, str, str]:
    """Calls the command line as a user types it."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    message = capsys.readouterr()
    return int(stopped.value.code or 0), message.out, message.err


def test_help_lists_every_command(capsys):
    code, out, _ = reappear(capsys, "--help")
    assert code == 0
    for name in COMMANDS:
        assert name in out


def test_help_imports_no_torch_and_no_step():
    script = (
        "import sys\n"
        "from reappear.cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stopped:\n    assert not stopped.code\n"
        "heavy = {'numpy', 'torch', 'timm', 'cv2', 'av', 'pyarrow', 'sklearn', 'matplotlib', 'pydantic'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("room", ["core", "store", "denoise", "metrics", "data", "synthetic", "video"])
def test_rooms_without_torch(room):
    script = f"import sys, reappear.{room}\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize(
    "line",
    [
        "run nowhere.mp4 --out w",
        "embed w",
        "pretrain w",
        "finetune --data nowhere --out w --backbone cnn6",
        "export-model w --out x",
    ],
)
def test_input_that_is_missing_is_told_before_torch_is_imported(line, tmp_path):
    script = (
        "import sys\n"
        "from reappear.cli.app import main\n"
        f"try:\n    main({line.split()!r})\nexcept SystemExit as stopped:\n    assert stopped.code == 1\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=tmp_path)


def test_correlate_imports_no_torch():
    script = "import sys, reappear.pipeline.correlate\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


WITH_SETTINGS = [name for name, entry in COMMANDS.items() if entry.settings]
ALL = [[name] for name, entry in COMMANDS.items() if not entry.group] + [
    [name, inner] for name, entry in COMMANDS.items() for inner in entry.group
]


def fields_of(name: str) -> list[Any]:
    module, cls = COMMANDS[name].settings.split(":")
    return describe(getattr(import_module(f"reappear.pipeline.{module}"), cls))


def paths_of(name: str) -> list[str]:
    return [field.path for field in fields_of(name)] if name in WITH_SETTINGS else []


def help_of(capsys, monkeypatch, *command: str) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "dumb")
    code, out, _ = reappear(capsys, *command, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    assert not set(out) & set("╭│╰\x1b")
    return out


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_help_shows_every_setting_with_choices_range_and_default(capsys, monkeypatch, name):
    words = "".join(help_of(capsys, monkeypatch, name).split())
    for field in fields_of(name):
        assert len(field.help) > 3, field.path
        flag = next(flag for flag in flags_of(name, field.path) if flag in words)
        assert "".join(field_help(field).split()) in words, flag
        assert "|".join(choices_of(field.hint)) in words
        if field.default is dataclasses.MISSING:
            assert "required" in field_help(field)
        elif field.default is None:
            assert re.search("if not given|where|own, or", field.help), f"{flag}: the default in words"
        else:
            assert re.search(rf"default: {re.escape(format_default(field.default))}[];]", field_help(field))
        assert ("can be changed later" in field_help(field)) == field.operational


def flags_of(name: str, path: str) -> list[str]:
    """An option is called by the path of its setting, or without the step in front of it."""
    names = [path] + [path.removeprefix(long + ".") for long in ("ingest",) if path.startswith(long + ".")]
    return ["--" + option.replace("_", "-") for option in names]


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_help_shows_the_default_of_every_other_option(capsys, monkeypatch, command):
    words = " ".join(help_of(capsys, monkeypatch, *command).split())
    found = typer.main.get_command(build(command[0]))
    for part in command:
        found = found.commands[part]
    settings = {flag for path in paths_of(command[0]) for flag in flags_of(command[0], path)}
    context = found.make_context(command[-1], [], resilient_parsing=True)
    for parameter in found.get_params(context):
        if settings & set(parameter.opts) or getattr(parameter, "is_flag", False):
            continue
        text = " ".join(parameter.get_help_record(context)[1].split())
        assert text in words
        assert re.search(r"default: |required\]|[Ii]f not given|repeatable", text), parameter.opts


def test_help_of_run_starts_with_the_most_used_settings(capsys, monkeypatch):
    out = help_of(capsys, monkeypatch, "run")
    common = out[out.index("Common options:") : out.index("Other options:")]
    found = re.findall(r"^  (?:-\w, )?--([\w.-]+)", common, flags=re.MULTILINE)
    assert found == ["out", "config", *COMMANDS["run"].first]
    titles = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles[:3] == ["Arguments:", "Common options:", "Other options:"]
    assert {"Ingest detector: motion:", "Ingest detector: yolox:", "Pretrain views:", "Report:"} <= set(titles)
    assert len(titles) == len(set(titles))
    assert "--ingest." not in out  # those of videos need no prefix


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--flip", "set"], True),
        (["set", "--flip"], True),
        (["--flip", "--top", "3", "set"], True),
        (["--flip", "no", "set"], False),
        (["set"], False),
    ],
)
def test_boolean_options_need_no_value(monkeypatch, arguments, meant):
    from reappear.pipeline import evaluate as step

    asked = []
    monkeypatch.setattr(step, "evaluate", lambda work, settings, **more: asked.append((settings.flip, more["data"])))
    monkeypatch.setattr("reappear.cli.app._step", lambda name: step.evaluate)
    with pytest.raises(SystemExit):
        main(["evaluate", "--out", "w", *arguments])
    assert asked == [(meant, ["set"])]


def test_version(capsys):
    code, out, _ = reappear(capsys, "--version")
    assert code == 0
    assert out.startswith("reappear 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "x.mp4", "--out", "w", "--strid", "2"], "--stride"),
        (["ingest", "x.mp4", "--out", "w", "--set", "strid=2"], "unknown setting 'strid'; did you mean stride?"),
        (["ingest", "x.mp4", "--out", "w", "--stride", "two"], "stride: must be a whole number, 1 to"),
        (["ingest", "x.mp4", "--out", "w", "--detector", "yolo"], "mean yolox? known: auto, motion, yolox, mot"),
        (["ingest", "x.mp4", "--out", "w", "--tracker", "botsort"], "known: bytetrack, ocsort, sort"),
        (["ingest", "x.mp4", "--out", "w", "--detector", "yolox"], "detector.weights: must be given"),
        (["embed", "w", "--extractor", "onnx"], "extractor.weights: must be given"),
        (["evaluate", "x", "--out", "w", "--protocol", "x"], "known: market, cross-camera, no-camera, video"),
        (["run", "x", "--out", "w", "--pretrain.images-per-step", "10"], "--pretrain.images-per-step: 10 is not"),
        (["ingest", "x.mp4", "--out", "w", "--config", "/dev/zero"], "/dev/zero is not a regular file"),
        (["ingest", "x.mp4", "--out", "w", "--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["ingest", "x.mp4"], "--out"),
        (["fly"], "fly"),
    ],
)
def test_wrong_usage_exits_with_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = reappear(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not Path("w").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ingest", "nowhere.mp4", "--out", "w"], "nowhere.mp4 does not exist"),
        (["embed", "nowhere"], "nowhere has no crops yet; run `reappear ingest VIDEOS --out nowhere` first"),
        (["correlate", "nowhere"], "nowhere has no crops yet"),
        (["pretrain", "nowhere"], "nowhere has no crops yet"),
        (["evaluate", "nowhere", "--out", "w"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_failed_command_exits_with_1_and_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = reappear(capsys, *arguments)
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_unexpected_errors_are_reported_as_bugs(capsys, monkeypatch):
    def broken(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.delenv("REAPPEAR_DEBUG", raising=False)
    monkeypatch.setattr("reappear.cli.doctor.check_machine", broken)
    code, _, err = reappear(capsys, "doctor")
    assert code == 1
    assert "unexpected ZeroDivisionError: division by zero (a bug in reappear" in err


def test_desktop_opencv_without_libgl_is_one_line_with_advice(capsys, monkeypatch):
    def broken(*arguments: object, **more: object) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("reappear.cli.doctor.check_machine", broken)
    code, _, err = reappear(capsys, "doctor")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "pip install --force-reinstall --no-deps opencv-python-headless" in err


def test_no_requirement_installs_desktop_opencv():
    """Where both builds are asked for, the one that wins is left to chance, and the desktop one needs libGL."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [name for extra in project["optional-dependencies"].values() for name in extra]
    waiting, seen = [Requirement(name) for name in project["dependencies"]], set()
    assert any(of.name == "opencv-python-headless" for of in waiting)
    waiting += [Requirement(name) for name in extras]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in seen:
            continue
        seen.add(name)
        with contextlib.suppress(PackageNotFoundError):  # an extra that is not installed here
            needed = [Requirement(line) for line in requires(name) or ()]
            waiting += [of for of in needed if of.marker is None or of.marker.evaluate({"extra": ""})]
    assert {"torch", "numpy"} <= seen
    assert not {"opencv-python", "opencv-contrib-python"} & seen


def test_doctor(capsys):
    code, out, _ = reappear(capsys, "doctor", "--json")
    found = {finding["what"]: finding for finding in json.loads(out)}
    assert code == 0, out
    assert {"python", "torch", "H.264", "disk"} <= found.keys()


def test_doctor_finds_an_unwritable_folder_and_a_missing_package(monkeypatch, tmp_path):
    from reappear.cli import doctor

    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    monkeypatch.setitem(doctor._NEEDED, "no_such_package", "no-such-package")
    found = {finding.what: finding for finding in doctor.check_machine(tmp_path)}
    assert not found["disk"].ok
    assert "choose another folder" in found["disk"].detail
    assert not found["no_such_package"].ok
    assert "pip install no-such-package" in found["no_such_package"].detail


@pytest.mark.parametrize(
    ("line", "head"),
    [
        ("run f --out w --detector nope", "--detector: unknown kind"),
        ("run f --out w --detector yolox", "--detector.weights: must be given"),
        ("run f --out w --pretrain.lr x", "--pretrain.lr: must be a number"),
        ("run f --out w --workers -1", "--workers: must be"),
        ("ingest f --out w --set detector.score=3", "--detector.score: is a setting of detector"),
        ("evaluate f f --out w --name x", "--name: several evaluations"),
        ("correlate w --thresholds 9", "--thresholds: must be cosine distances"),
        ("run f --out w --config r.yaml", "pretrain.lr: must be a number"),
        ("run f --out w --config r.yaml --pretrain.lr 1 --workers -1", "--workers: must be"),
    ],
)
def test_settings_in_messages_are_named_as_they_are_typed(capsys, tmp_path, monkeypatch, line, head):
    """By the option; by the path where the value is that of a recipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text("pretrain: {lr: x}")
    code, _, err = reappear(capsys, *line.split())
    assert code == 2
    assert err.startswith(f"reappear: {head}"), err


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("evaluate set --out w --model resnet50 --extractor.weights f.pth", ("--model", "--extractor.weights")),
        ("evaluate set --out w --model resnet50 --extractor color", ("--model", "--extractor")),
        ("evaluate a.npz b.npz --out w --extractor resnet50", (".npz", "--extractor")),
        ("embed w --extractor f.onnx --extractor.weights g.onnx", ("f.onnx", "extractor.weights g.onnx")),
        ("run film.mp4 --out w --detector f.onnx --detector.weights g.onnx", ("f.onnx", "detector.weights g.onnx")),
        ("search w crop:1 --csv --json", ("--csv", "--json")),
    ],
)
def test_options_that_exclude_each_other_are_both_named(capsys, tmp_path, monkeypatch, line, pair):
    monkeypatch.chdir(tmp_path)
    for name in ("f.onnx", "g.onnx"):
        (tmp_path / name).touch()
    code, _, err = reappear(capsys, *line.split())
    assert code in (1, 2)
    assert all(part in err for part in pair), err
    assert re.search("give|leave", err)
