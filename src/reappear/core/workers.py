"""Worker processes that end with the main process."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

from .errors import EngineError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh (spawned) processes that end when this one does, even when it is killed.

    Otherwise an orphan would keep writing into a folder that the restarted command also writes into. Workers
    ignore SIGINT and SIGTERM, which Ctrl-C, `timeout`, Slurm and Kubernetes send to every process of a group: this
    process decides, and ends them when it is stopped itself.

    Raises:
        EngineError: A worker was killed, or none can start.
    """
    context = _WorkerContext()
    require_semaphores()
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield pool
    except BlockingIOError as error:
        raise _cannot_start(error) from error
    except BrokenProcessPool as error:
        pool.shutdown(wait=True, cancel_futures=True)
        raise EngineError(killed_worker(context.killed())) from error
    except BaseException as error:
        if not isinstance(error, Exception):  # stopped: do not wait for running jobs
            context.end_all()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def require_semaphores() -> None:
    """Makes what every pool of processes needs of the machine, and removes it.

    Raises:
        EngineError: It cannot be made, as where /dev/shm is missing or read-only.
    """
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise _cannot_start(error) from error


def _cannot_start(error: OSError) -> EngineError:
    return EngineError(
        f"worker processes cannot start ({(error.strerror or str(error)).lower()}); check /dev/shm and the limit of "
        "processes (`ulimit -u`), or run without workers (--workers 1; of a training, 0)"
    )


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes and threads started inside never receive SIGINT and SIGTERM; this thread receives them afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def killed_worker(dead: Sequence[BaseProcess]) -> str:
    """The message about worker processes that were killed."""
    which = ", ".join(f"{worker.pid} ({_reason(worker.exitcode)})" for worker in dead) or "(unknown)"
    return (
        f"worker process {which} was killed, perhaps by the kernel for lack of memory (or of space in /dev/shm); "
        "run the same command again, with fewer workers if memory is short"
    )


class _Worker(SpawnProcess):
    """Ends with its parent process."""

    ended = False  # by `terminate`

    def start(self) -> None:
        resource_tracker.ensure_running()  # starting it later would unblock signals
        with signals_blocked():
            super().start()

    def run(self) -> None:
        threading.Thread(target=_exit_with_parent, daemon=True).start()
        super().run()

    def terminate(self) -> None:
        """SIGKILL, as SIGTERM is blocked."""
        if not wait([self.sentinel], timeout=0):  # `is_alive` is still true while it is being killed
            self.ended = True
            self.kill()


class _WorkerContext(SpawnContext):
    """Remembers the workers that it started."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[_Worker] = []

    def Process(self, *args: Any, **kw: Any) -> _Worker:  # type: ignore[override]  # noqa: N802 - the name of multiprocessing
        worker = _Worker(*args, **kw)
        self._started.append(worker)
        return worker

    def end_all(self) -> None:
        for worker in self._started:
            worker.terminate()

    def killed(self) -> list[_Worker]:
        """Workers that did not end by themselves, nor by `end_all`."""
        return [worker for worker in self._started if worker.exitcode and not worker.ended]


def _reason(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
