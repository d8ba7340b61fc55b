import contextlib
import json
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reappear.cli.app import COMMANDS, main


def reappear(capsys, *arguments: str) -> tuple[int, str, str]:
    """Calls the command line as a user types it."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


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


def test_correlate_imports_no_torch():
    script = "import sys, reappear.pipeline.correlate\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if entry.settings])
def test_each_command_teaches_its_settings(capsys, name):
    code, out, _ = reappear(capsys, name, "--help")
    assert code == 0
    assert "Settings" in out
    assert "--set" in out


def test_every_setting_has_a_help_text():
    from importlib import import_module

    from reappear.pipeline.settings import describe

    for entry in COMMANDS.values():
        if entry.settings:
            module, cls = entry.settings.split(":")
            for field in describe(getattr(import_module(f"reappear.pipeline.{module}"), cls)):
                assert len(field.help) > 3, f"{entry.settings}: {field.path} says nothing"


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
def test_a_yes_may_be_left_unsaid(monkeypatch, arguments, meant):
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
    ("arguments", "said"),
    [
        (["ingest", "x.mp4", "--out", "w", "--strid", "2"], "--strid"),
        (["ingest", "x.mp4", "--out", "w", "--set", "strid=2"], "unknown setting strid; did you mean stride?"),
        (["ingest", "x.mp4", "--out", "w", "--stride", "two"], "stride: input should be a valid integer"),
        (["ingest", "x.mp4", "--out", "w", "--detector", "yolo"], "did you mean yolox?"),
        (["ingest", "x.mp4", "--out", "w", "--detector", "yolox"], "detector.weights must be given"),
        (["ingest", "x.mp4", "--out", "w", "--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["ingest", "x.mp4"], "--out"),
        (["fly"], "fly"),
    ],
)
def test_wrong_usage_exits_with_2(capsys, arguments, said):
    code, _, err = reappear(capsys, *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingest", "nowhere.mp4", "--out", "w"], "nowhere.mp4 does not exist"),
        (["embed", "nowhere"], "nowhere holds no crops yet; run `reappear ingest VIDEOS --out nowhere` first"),
        (["correlate", "nowhere"], "nowhere holds no crops yet"),
        (["pretrain", "nowhere"], "nowhere holds no crops yet"),
        (["evaluate", "nowhere", "--out", "w"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_done_exits_with_1_in_one_line(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = reappear(capsys, *arguments)
    assert code == 1
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_fault_of_ours_is_said_to_be_one(capsys, monkeypatch):
    def broken(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.delenv("REAPPEAR_DEBUG", raising=False)
    monkeypatch.setattr("reappear.cli.doctor.examine", broken)
    code, _, err = reappear(capsys, "doctor")
    assert code == 1
    assert "unexpected ZeroDivisionError: division by zero (a fault of reappear" in err


def test_desktop_opencv_without_libgl_is_one_line_with_the_fix(capsys, monkeypatch):
    def broken(*arguments: object, **more: object) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("reappear.cli.doctor.examine", broken)
    code, _, err = reappear(capsys, "doctor")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "pip install --force-reinstall --no-deps opencv-python-headless" in err


def test_no_requirement_brings_the_desktop_build_of_opencv():
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
    found = {finding.what: finding for finding in doctor.examine(tmp_path)}
    assert not found["disk"].ok
    assert "choose another folder" in found["disk"].says
    assert not found["no_such_package"].ok
    assert "pip install no-such-package" in found["no_such_package"].says
