import os
import signal
import time
from pathlib import Path

import pytest

from reappear.core import EngineError, process_pool


def _pid(_: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_workers_ignore_signals_to_the_group() -> None:
    with process_pool(2) as pool:
        before = set(pool.map(_pid, range(8)))
        for pid in before:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert set(pool.map(_pid, range(8))) <= before
    assert all(_gone(pid) for pid in before)


def test_killed_worker_is_named() -> None:
    with pytest.raises(EngineError) as caught, process_pool(2) as pool:  # noqa: PT012
        pids = set(pool.map(_pid, range(8)))
        busy = [pool.submit(_sleep, 60) for _ in range(2)]
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


def test_stopping_does_not_wait_for_workers(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), process_pool(1) as pool:  # noqa: PT012
        pool.submit(_pid, 0).result()
        pool.submit(_sleep, 60)
        raise KeyboardInterrupt
    assert time.monotonic() - begun < 30
