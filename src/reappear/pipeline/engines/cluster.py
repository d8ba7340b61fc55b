"""Pieces of work as tasks of a Ray cluster."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from reappear.core import LOCAL, STOP_SIGNALS, EngineError, InputError, MissingExtra, counted, signals_blocked

from .choose import RaySettings

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

_RETRIES = 4
_AHEAD = 2  # pieces under way for each worker: one at work, one at hand
_PATIENCE = 60.0  # seconds in which a cluster must answer, and Ray be imported
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leaves the accelerator variables unchanged, without a warning
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # of pieces no longer awaited
}
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # every port on the loopback interface, as on those systems


class Cluster:
    """Pieces are tasks of a Ray that is running. What a lost worker was doing, another does again."""

    def __init__(self, ray: Any) -> None:
        self.memory_bytes = LOCAL.memory_bytes
        self._ray = ray
        self._piece = ray.remote(_piece).options(num_cpus=1, max_retries=_RETRIES, retry_exceptions=False)
        self._most = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))

    def zeros(self, rows: int, width: int) -> Float[np.ndarray, "rows width"]:
        """See `Engine.zeros`: in the memory of this process; workers have a copy of their own."""
        return LOCAL.zeros(rows, width)

    def map(self, function: Callable[[S, T], R], shared: S, items: Iterable[T]) -> Iterator[R]:
        """`function(shared, item)` for each item, a few at a time for each worker.

        Raises:
            EngineError: Workers died on the same piece over and over, or reappear is not installed where they are.
        """
        held = [self._ray.put(shared)]  # in a list, so that a worker opens it once and not for each piece
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(self._piece.remote(function, held, item))
                if len(waiting) >= self._most:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:  # after an error, or where the caller has seen enough
            for task in waiting if self._ray.is_initialized() else ():  # else `cancel` would look for a Ray for minutes
                self._ray.cancel(task)

    def _result(self, task: Any) -> Any:
        wrong = self._ray.exceptions
        try:
            return self._ray.get(task)
        except wrong.RayTaskError as error:
            if isinstance(error.cause, ModuleNotFoundError):
                raise EngineError(
                    f"a worker of the Ray cluster failed: {error.cause}; "
                    f"install this version of reappear on every machine"
                ) from error
            raise error.cause from error
        except (wrong.WorkerCrashedError, wrong.OutOfMemoryError, wrong.NodeDiedError, wrong.ObjectLostError) as error:
            raise EngineError(
                f"Ray lost a piece of work {counted(_RETRIES + 1, 'time')} ({type(error).__name__}); "
                f"give its machines more memory or fewer workers, then run the same command again"
            ) from error


_shared: dict[str, Any] = {}


def _piece(function: Callable[[Any, Any], Any], held: list[Any], item: Any) -> Any:
    """What a worker does. It keeps what the pieces of one call share until the next call."""
    name = held[0].hex()
    if name not in _shared:
        import ray

        _shared.clear()
        _shared[name] = ray.get(held[0])
    return function(_shared[name], item)


@contextmanager
def cluster(settings: RaySettings, memory: int) -> Iterator[Cluster]:
    """Joins a Ray cluster, or starts a Ray instance that is reachable only from this machine, and leaves it at the end.

    The folder of sockets and logs of a Ray that was started here is removed with it.

    Args:
        settings: Which.
        memory: Bytes of shared memory for matrices and results, where one is started here.

    Raises:
        MissingExtra: Ray is not installed.
        InputError: There is no cluster at the address.
    """
    address = settings.address or os.environ.get("RAY_ADDRESS")
    for name, value in (_QUIET if address else _QUIET | _ALONE).items():
        os.environ.setdefault(name, value)  # Ray reads them when it is imported
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("engine ray needs Ray: pip install 'reappear[ray]'") from error
    # Ray prints what happens to its workers; stdout is for results.
    with redirect_stdout(sys.stderr):
        if ray.is_initialized():
            yield Cluster(ray)
            return
        session: Path | None = None
        if address:
            _join(ray, address)
        else:
            with _signals_kept():
                context: Any = ray.init(
                    address="local",
                    num_cpus=settings.workers or len(os.sched_getaffinity(0)),
                    object_store_memory=memory,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            session = Path(context.address_info["session_dir"])
        try:
            yield Cluster(ray)
        finally:
            ray.shutdown()
            if session is not None:
                _remove_session(session)


def _remove_session(session: Path) -> None:
    """Removes the folder of a Ray that has ended, and the link `session_latest` that leads to it."""
    latest = session.with_name("session_latest")
    with suppress(OSError):  # another Ray of this user may have taken the link meanwhile
        if latest.readlink().name == session.name:
            latest.unlink()
    shutil.rmtree(session, ignore_errors=True)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray's processes do not receive SIGINT and SIGTERM, and this one handles them as it did before Ray came."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with signals_blocked():
            yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _join(ray: Any, address: str) -> None:
    """Ray itself would go on asking for minutes, so another process asks first."""
    lost = (
        f"no Ray cluster answers at {address}; start one with `ray start --head`, correct engine.address, or set "
        f"RAY_AUTH_MODE=token for a cluster that asks for a token"
    )
    host, _, port = address.rpartition("://")[2].partition(":")
    if port:
        try:
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
        except (OSError, ValueError) as error:
            raise InputError(f"{lost} ({error})") from error
    ask = [sys.executable, "-c", "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False)", address]
    try:
        subprocess.run(ask, check=True, capture_output=True, timeout=_PATIENCE)  # noqa: S603 no shell sees it
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{lost} (asked for {_PATIENCE:.0f} s)") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise InputError(f"{lost} ({reason[-1]})") from error
    with _signals_kept():
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
