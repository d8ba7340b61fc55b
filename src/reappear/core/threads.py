"""Threads around BLAS instead of inside it."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")


def thread_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`function(item)` for each item, in their order, in as many threads as BLAS would take.

    Each thread has a BLAS of one thread, so that what lies between products is shared out too, and no core waits for
    the others at the end of each product. That wait is most of the time where other programs want the same cores.

    Args:
        function: Spends its time in numpy, which lets the other threads go on meanwhile.
        items: Taken as the work goes on, two for each thread ahead.
    """
    blas = _blas()
    threads = max((library.num_threads for library in blas.lib_controllers), default=1)
    if threads == 1 or _here.busy or (isinstance(items, Sized) and len(items) < 2):
        yield from map(function, items)
        return
    pool = _pool(threads)
    waiting: deque[Future[R]] = deque()
    with blas.limit(limits=1):
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # after an error, or when the caller stops early
            wait(piece for piece in waiting if not piece.cancel())


@cache
def _blas() -> ThreadpoolController:
    """Looked for once, which takes milliseconds; numpy's is there from the start."""
    return ThreadpoolController().select(user_api="blas")


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Started once, which takes milliseconds too."""
    return ThreadPoolExecutor(threads, initializer=lambda: setattr(_here, "busy", True))


class _Here(threading.local):
    busy = False  # true in threads of a pool: one that waited for others of its pool might wait for ever


_here = _Here()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads stay behind in the parent
