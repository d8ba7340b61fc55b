"""Makes the batches of coming steps ahead, in worker processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import cv2
from torch.utils.data import DataLoader, Dataset, get_worker_info

from reappear.core import EngineError, ReappearError, killed_worker, require_semaphores, signals_blocked

from .batch import Batch
from .datasets import StepDataset


def load_batches(data: StepDataset, start: int, steps: int, *, workers: int, pin: bool = False) -> Iterator[Batch]:
    """The batches of steps `start` to `steps`, made ahead by `workers` processes, or here when 0.

    Workers ignore SIGINT and SIGTERM and end with this process, as those of `core.process_pool`.

    Raises:
        EngineError: A worker was killed, none can start, or there is too little shared memory for its batches.
    """
    if workers:
        require_semaphores()
    loader = DataLoader(
        _NoRaise(data),
        batch_size=None,
        sampler=range(start, steps),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # workers inherit the blocked signals
        pin_memory=pin,
        worker_init_fn=_begin_worker,
    )
    others, on_child = set(multiprocessing.active_children()), signal.getsignal(signal.SIGCHLD)
    with signals_blocked():
        made = iter(loader)  # here and not at the first step: it draws one of PyTorch's random numbers
    if signal.getsignal(signal.SIGCHLD) is not on_child:
        signal.signal(signal.SIGCHLD, on_child)  # PyTorch's raises an error wherever this process happens to be
    return _received(made, set(multiprocessing.active_children()) - others)


def _received(made: Iterator[Batch | ReappearError], processes: Collection[BaseProcess]) -> Iterator[Batch]:
    while True:
        try:
            batch = next(made)
        except StopIteration:
            return
        except (RuntimeError, EOFError, OSError) as error:  # which of them depends on what the worker was doing
            gone = wait([process.sentinel for process in processes], timeout=1) if processes else []
            if killed := [process for process in processes if process.sentinel in gone]:
                for process in killed:
                    process.join()  # for its exit code
                raise EngineError(killed_worker(killed)) from error
            raise
        if isinstance(batch, ReappearError):
            raise batch
        yield batch


class _NoRaise(Dataset[Batch | ReappearError]):
    """Gives back what the data raise, which PyTorch would wrap into a traceback of many lines.

    A batch moves into shared memory here: PyTorch would do it in a thread of the worker, whose errors are lost, and
    the training would wait for that batch without end.
    """

    def __init__(self, data: StepDataset) -> None:
        self._data = data

    def __getitem__(self, step: int) -> Batch | ReappearError:
        try:
            batch = self._data[step]
        except ReappearError as error:
            return error
        if get_worker_info() is None:
            return batch
        try:
            return batch.share_memory()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            return EngineError(
                f"too little shared memory for a batch ({reason}); give /dev/shm more (of a container: shm-size), "
                "or set workers to 0"
            )


def _begin_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # each worker is one process on one core
    threading.Thread(target=_exit_for_parent, daemon=True).start()


def _exit_for_parent() -> None:
    """SIGTERM, which is blocked in every thread, counts when it comes from the process that trains."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
