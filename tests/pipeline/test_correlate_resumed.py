"""Killing `reappear correlate`, and giving it too little."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from reappear.core import SettingsError, StorageError
from reappear.denoise import BLAS, noise_terms
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.engines import Bounded, RaySettings, kept
from reappear.store import read_identities

from .test_correlate import pretend, report_of

FILES = ("identities.parquet", "tracklets.parquet", "links.parquet", "moves.parquet", "refused.parquet")


def same_but_for_time(work, one, other):
    for name in FILES:
        assert (work.identities(one) / name).read_bytes() == (work.identities(other) / name).read_bytes()
    left, right = report_of(work, one), report_of(work, other)
    for row in (*left["stages"], *right["stages"]):
        del row["seconds"]
    assert json.dumps(left) == json.dumps(right)


class Stops:
    """Raises when a note contains some words."""

    def __init__(self, word):
        self.word = word
        self.notes = []

    def task(self, title, total, unit):
        return kept.SILENT.task(title, total, unit)

    def note(self, text):
        self.notes.append(text)
        if self.word in text:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("linking", "after"),
    [
        ("average", "single-tracklet:"),
        ("average", "reallocation:"),
        ("average", "average-link:"),
        ("closure", "single-video:"),
        ("closure", "cross-video:"),
    ],
)
def test_finished_stage_is_not_repeated(tmp_path, linking, after, monkeypatch):
    work = pretend(tmp_path)
    correlate(work, "calm", CorrelateSettings(linking=linking), embeddings="e")
    with pytest.raises(KeyboardInterrupt):
        correlate(work, "stopped", CorrelateSettings(linking=linking), embeddings="e", progress=Stops(after))
    measured = []
    monkeypatch.setattr(
        "reappear.pipeline.correlate.row.noise_terms", lambda *a, **k: measured.append(1) or noise_terms(*a, **k)
    )
    again = Stops("nothing")
    # More memory is what one gives after a failure; it is no reason to start over.
    correlate(work, "stopped", CorrelateSettings(linking=linking, memory="6GB"), embeddings="e", progress=again)
    same_but_for_time(work, "calm", "stopped")
    stages = {
        "average": ["single-tracklet:", "reallocation:", "average-link:"],
        "closure": ["single-tracklet:", "single-video:", "cross-video:"],
    }[linking]
    assert len(measured) == len(stages) - stages.index(after)
    assert "goes on after" in again.notes[0]
    assert not (work.identities("stopped") / "unfinished").exists()


def test_interrupted_stage_continues_with_the_next_block(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "_EVERY", 0.0)
    work = pretend(tmp_path)
    correlate(work, "calm", CorrelateSettings(noise="sampled"), embeddings="e")
    with monkeypatch.context() as patch:
        patch.setattr(kept._Chunks, "write", _write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            correlate(work, "stopped", CorrelateSettings(noise="sampled"), embeddings="e")
    assert list(tmp_path.glob("identities/stopped.partial/unfinished/in-*/*/*.npz"))
    correlate(work, "stopped", CorrelateSettings(noise="sampled"), embeddings="e")
    same_but_for_time(work, "calm", "stopped")


_write = kept._Chunks.write


def _write_and_stop(self, first, results):
    _write(self, first, results)
    raise KeyboardInterrupt


@pytest.mark.slow
def test_kill_at_any_moment_gives_the_same_identities(tmp_path):
    work = pretend(tmp_path, people=2000)
    command = [sys.executable, "-m", "reappear", "correlate", str(tmp_path), "--embeddings", "e"]
    begun = time.monotonic()
    subprocess.run([*command, "--name", "calm"], check=True, capture_output=True)
    length = time.monotonic() - begun
    kills = 0
    for share in (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, None):
        child = subprocess.Popen([*command, "--name", "killed"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            assert child.wait(timeout=share and share * length) == 0
            break
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
    assert kills > 0
    same_but_for_time(work, "calm", "killed")


def test_matrices_in_files_give_the_same_identities(tmp_path, monkeypatch):
    work = pretend(tmp_path)
    correlate(work, "calm", CorrelateSettings(), embeddings="e")
    monkeypatch.setattr(
        "reappear.pipeline.correlate.step.Bounded",
        lambda engine, folder, limit, memory_bytes: Bounded(engine, folder, 0, memory_bytes),
    )
    in_file, widths = Bounded._in_file, []
    monkeypatch.setattr(
        Bounded, "_in_file", lambda self, rows, width: widths.append(width) or in_file(self, rows, width)
    )
    correlate(work, "mapped", CorrelateSettings(), embeddings="e")
    assert widths  # there were matrices, and they lay in files
    same_but_for_time(work, "calm", "mapped")


def test_sampled_noise_has_a_standard_error(tmp_path):
    work = pretend(tmp_path)
    for how in ("exact", "sampled", "none"):
        correlate(work, how, CorrelateSettings(noise=how), embeddings="e")
    exact, sampled, none = (report_of(work, how)["stages"] for how in ("exact", "sampled", "none"))
    for one, other, nothing in zip(exact, sampled, none, strict=True):
        assert other["noise_sample"] == one["identities"] == nothing["identities"]  # few enough to take them all
        assert (other["noise"], other["noise_error"]) == (pytest.approx(one["noise"]), 0)
        assert other["similar_pairs"] == one["similar_pairs"]
        assert "noise_error" not in one
        assert "noise" not in nothing
    assert all(
        (read_identities(work.identities(how)).assignment.identity
         == read_identities(work.identities("exact")).assignment.identity).all()
        for how in ("sampled", "none")
    )  # fmt: skip


def test_too_little_memory_reports_the_required_amount(tmp_path):
    work = pretend(tmp_path)
    with pytest.raises(
        SettingsError,
        match=r"memory: 100MB is too little for 1,440 crops in 240 tracklets; give \d+MB or more",
    ) as error:
        correlate(work, "i", CorrelateSettings(memory="100MB"), embeddings="e")
    enough = str(error.value).split()[-3]
    assert correlate(work, "i", CorrelateSettings(memory=enough), embeddings="e").counts["crops"] == 1440
    with pytest.raises(SettingsError, match=r"memory: must be an amount such as 4GB, 1.5GiB or 800MB, got 'plenty'"):
        correlate(work, "j", CorrelateSettings(memory="plenty"), embeddings="e")


def test_links_beyond_memory_report_the_required_amount(tmp_path, monkeypatch):
    monkeypatch.setattr("reappear.pipeline.correlate.step._MIN_MEMORY_BYTES", 0)
    work = pretend(tmp_path)
    crowd = CorrelateSettings(linking="closure", thresholds="0.2,2", single_video=False, noise="none", memory="1MB")
    with pytest.raises(SettingsError, match="memory: 1MB is too little") as error:
        correlate(work, "i", crowd, embeddings="e")
    enough = str(error.value).split()[-3]  # to the next 10 MB, of which a quarter holds fewer than 240 x 239 / 2 links
    with pytest.raises(SettingsError, match="pairs within 2 would not fit in memory"):
        correlate(work, "i", replace(crowd, memory=enough), embeddings="e")
    assert correlate(work, "i", replace(crowd, memory="4GB"), embeddings="e").counts["crops"] == 1440


def test_full_disk_keeps_finished_work(tmp_path, monkeypatch):
    work = pretend(tmp_path)
    calm = correlate(work, "calm", CorrelateSettings(), embeddings="e")
    with monkeypatch.context() as patch:
        patch.setattr(
            "reappear.pipeline.correlate.step.Bounded",
            lambda engine, folder, limit, memory_bytes: Bounded(engine, folder, 0, memory_bytes),
        )
        patch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
        with pytest.raises(StorageError, match="the disk is full"):
            correlate(work, "full", CorrelateSettings(), embeddings="e")
    assert correlate(work, "full", CorrelateSettings(), embeddings="e").counts == calm.counts
    same_but_for_time(work, "calm", "full")


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_cluster_with_a_lost_worker_gives_the_same_identities(tmp_path, killed, monkeypatch):
    monkeypatch.setattr(kept, "_MANY", 1)
    monkeypatch.setattr(BLAS, "block", 256)  # many pieces, of which few are done when the worker is lost
    work = pretend(tmp_path, people=8000)
    correlate(work, "local", CorrelateSettings(noise="sampled"), embeddings="e")
    loses = _LosesAWorker()
    settings = CorrelateSettings(noise="sampled", engine=RaySettings(workers=2))
    correlate(work, "ray", settings, embeddings="e", progress=loses if killed else kept.SILENT)
    same_but_for_time(work, "local", "ray")
    assert len(loses.killed) == (1 if killed else 0)


class _LosesAWorker(Stops):
    """Kills a worker of this process's own Ray when the first piece of the last stage is done."""

    def __init__(self):
        super().__init__("(never message)")
        self.killed = []

    @contextmanager
    def task(self, title, total, unit):
        def tick(units):
            if title == "average-link" and units and not self.killed:
                workers = [pid for pid in descendants(os.getpid()) if read_proc(pid, "cmdline").startswith("ray::")]
                busy = [pid for pid in workers if "_piece" in read_proc(pid, "cmdline")]
                self.killed = (busy or [pid for pid in workers if "IDLE" in read_proc(pid, "cmdline")])[:1]
                os.kill(self.killed[0], signal.SIGKILL)

        yield tick


def descendants(parent):
    children = {}
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        if status := read_proc(pid, "stat"):
            children.setdefault(int(status.rpartition(")")[2].split()[1]), []).append(pid)
    waiting, found = [parent], []
    while waiting:
        mine = children.get(waiting.pop(), [])
        waiting += mine
        found += mine
    return found


def read_proc(pid, what):
    try:
        return Path(f"/proc/{pid}/{what}").read_text()
    except OSError:  # it is gone
        return ""
