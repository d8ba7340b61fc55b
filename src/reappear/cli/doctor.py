"""Checks packages, codecs, accelerators, memory and disk of this machine."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from reappear.core import SILENT, Progress, counted

_NEEDED = {
    "numpy": "numpy",
    "scipy": "scipy",
    "pyarrow": "pyarrow",
    "av": "av",
    "cv2": "opencv-python-headless",
    "onnxruntime": "onnxruntime",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "safetensors": "safetensors",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
}
_GIB = 1024**3
HEADLESS = (
    "another package replaced OpenCV by its desktop build, which needs libGL: "
    "pip install --force-reinstall --no-deps opencv-python-headless"
)
_SHOWN = 5  # files listed in one line


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    ok: bool
    detail: str


def check_machine(folder: Path) -> list[Finding]:
    """Checks packages, codecs, accelerators, memory and the disk under `folder`."""
    machine = f"{platform.machine()}, {counted(os.cpu_count() or 1, 'core')}, {_memory_gib():.0f} GiB of memory"
    findings = [
        Finding("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.system()}"),
        Finding("machine", True, machine),
    ]
    findings += [_package(module, package) for module, package in _NEEDED.items()]
    findings += [_codec(), _accelerator(), _optional("openvino", "reads OpenVINO extractors"), _disk(folder)]
    return findings


def check_workspace(root: Path, *, progress: Progress = SILENT) -> list[Finding]:
    """Compares every file of the finished folders at `root` and below with their records."""
    from reappear.pipeline.verify import Verified, finished_folders, verify_folder

    findings: list[Finding] = []
    parts: dict[str, list[Verified]] = {}
    for folder in finished_folders(root):
        found = verify_folder(folder, progress=progress)
        if folder.parent.name == "parts" and found.verifiable and not found.damaged and not found.extra:
            parts.setdefault(str((folder.parent).relative_to(root)), []).append(found)
            continue
        name = folder.name if folder == root else str(folder.relative_to(root))
        if not found.verifiable:
            findings.append(Finding(name, True, "not verifiable: an older version wrote it, without checksums"))
            continue
        extra = f"; not written by its step: {', '.join(found.extra[:_SHOWN])}" if found.extra else ""
        extra += f" and {len(found.extra) - _SHOWN} more" if len(found.extra) > _SHOWN else ""
        if not found.damaged:
            findings.append(
                Finding(
                    name, True, f"{counted(found.files, 'file')}, {counted(found.bytes, 'byte')}, as recorded{extra}"
                )
            )
            continue
        findings += [Finding(f"{name}/{file}", False, problem) for file, problem in found.damaged.items()]
        findings.append(Finding(name, False, f"restore these files, or remove {folder} and run its step again{extra}"))
    for name, whole in parts.items():
        detail = (
            f"{counted(sum(of.files for of in whole), 'file')}, "
            f"{counted(sum(of.bytes for of in whole), 'byte')}, as recorded"
        )
        findings.append(Finding(name, True, f"{counted(len(whole), 'video')}: {detail}"))
    return findings


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB


def _package(module: str, package: str) -> Finding:
    try:
        import_module(module)
    except Exception as error:
        hint = HEADLESS if "libGL" in str(error) else f"pip install {package}"
        return Finding(module, False, f"{' '.join(str(error).split())[:120]}; {hint}")
    try:
        return Finding(module, True, version(package))
    except PackageNotFoundError:
        return Finding(module, True, "present")


def _codec() -> Finding:
    try:
        import av

        av.codec.Codec("h264", "r")
        av.codec.Codec("libx264", "w")
    except Exception as error:
        return Finding("H.264", False, f"{error}; pip install --force-reinstall av")
    return Finding("H.264", True, "reads and writes")


def _accelerator() -> Finding:
    try:
        import torch
    except Exception:
        return Finding("accelerator", True, "unknown without torch")
    if not torch.cuda.is_available():
        return Finding("accelerator", True, "none; training runs on the CPU")
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding("accelerator", True, names)


def _optional(module: str, use: str) -> Finding:
    try:
        return Finding(module, True, version(module))
    except PackageNotFoundError:
        return Finding(module, True, f"not installed; {use} (pip install 'reappear[{module}]')")


def _disk(folder: Path) -> Finding:
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        return Finding("disk", False, f"{there} is not writable; choose another folder")
    free = shutil.disk_usage(there).free / _GIB
    return Finding("disk", free > 1, f"{free:.0f} GiB free at {there}" + ("" if free > 1 else "; free some space"))
