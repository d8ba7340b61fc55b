import importlib
import multiprocessing
import os
import threading
import time

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from reappear.core import thread_map


def blas_threads():
    """Not of the library in faiss, which has a number for each thread."""
    blas = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {library["num_threads"] for library in blas if "faiss" not in library["filepath"]}


@pytest.fixture(params=[1, 3])
def threads(request):
    with threadpool_limits(request.param, "blas"):
        yield request.param


def test_results_are_ordered_and_lazy(threads):
    taken = []

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    results = thread_map(lambda item: item + 10, items())
    assert next(results) == 10
    assert len(taken) <= 2 * threads + 1
    assert list(results) == list(range(11, 30))
    assert list(thread_map(str, [])) == []


def test_items_run_in_parallel_with_one_blas_thread_each():
    meeting = threading.Barrier(2, timeout=300)

    def meet(item):
        meeting.wait()
        return blas_threads()

    with threadpool_limits(2, "blas"):
        assert list(thread_map(meet, range(4))) == [{1}, {1}, {1}, {1}]
        assert blas_threads() == {2}


def test_thread_map_can_be_nested(threads):
    importlib.import_module("faiss")  # its BLAS does not take the limit for one thread from another
    sums = thread_map(lambda item: sum(thread_map(lambda inner: item * inner, range(5))), range(8))
    assert list(sums) == [10 * item for item in range(8)]
    assert blas_threads() == {threads}


@pytest.mark.parametrize("wrong", [ValueError, KeyboardInterrupt])
def test_error_in_an_item_is_raised(threads, wrong):
    done = []

    def fail(item):
        done.append(item)
        if item == 2:
            raise wrong("piece 2")

    with pytest.raises(wrong, match="piece 2"):
        list(thread_map(fail, range(100)))
    assert len(done) <= 3 + 2 * threads
    assert blas_threads() == {threads}


def test_closing_early_cancels_pending_items(threads):
    begun, ended = [], []

    def slow(item):
        begun.append(item)
        time.sleep(0.01)
        ended.append(item)

    results = thread_map(slow, range(1000))
    next(results)
    results.close()
    assert sorted(begun) == sorted(ended)
    assert len(begun) <= 2 * threads + 1
    assert blas_threads() == {threads}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_process_has_its_own_threads():
    with threadpool_limits(2, "blas"):
        assert list(thread_map(str, range(3))) == ["0", "1", "2"]
        context = multiprocessing.get_context("fork")
        child = context.Process(target=lambda: os._exit(len(list(thread_map(str, range(3))))))
        child.start()
        child.join(300)
        try:
            assert child.exitcode == 3
        finally:
            child.kill()
