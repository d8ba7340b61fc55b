import errno
import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from reappear.core import EngineError, process_pool


def _meet(folder: Path) -> int:
    """Ends when two processes are in it."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    return os.getpid()


def _both(pool: ProcessPoolExecutor, folder: Path) -> set[int]:
    """The processes of a pool of two."""
    folder.mkdir()
    return set(pool.map(_meet, [folder] * 2))


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_workers_ignore_signals_to_the_group(tmp_path: Path) -> None:
    with process_pool(2) as pool:
        before = _both(pool, tmp_path / "before")
        for pid in before:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert _both(pool, tmp_path / "after") == before
    assert all(_gone(pid) for pid in before)


def test_killed_worker_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught, process_pool(2) as pool:  # noqa: PT012
        pids = _both(pool, tmp_path / "both")
        busy = [pool.submit(_sleep, 600) for _ in range(2)]
        victim = min(pids)
        os.kill(victim, signal.SIGKILL)
        for job in busy:
            job.result()
    message = str(caught.value)
    assert f"{victim} (SIGKILL)" in message
    assert all(str(pid) not in message for pid in pids - {victim})
    assert "memory" in message
    assert "\n" not in message
    assert all(_gone(pid) for pid in pids)


@pytest.mark.timeout(300)
def test_stopping_does_not_wait_for_workers() -> None:
    with pytest.raises(KeyboardInterrupt), process_pool(1) as pool:  # noqa: PT012
        pool.submit(_sleep, 0).result()
        pool.submit(_sleep, 600)
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["semaphores", "start"])
def test_workers_that_cannot_start_are_one_line(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Without /dev/shm, and at the limit of processes."""
    number = errno.EROFS if when == "semaphores" else errno.EAGAIN

    def fail(*given: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((multiprocessing, "Lock") if when == "semaphores" else (SpawnProcess, "start")), fail)
    with pytest.raises(EngineError, match=os.strerror(number).lower()), process_pool(1) as pool:
        pool.submit(_sleep, 0)
