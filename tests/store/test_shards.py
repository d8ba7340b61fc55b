import multiprocessing
import os
import pickle
import signal
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reappear.core import InputError
from reappear.store import ShardReader, ShardWriter, members, shard_path


def write(folder, shard, named):
    with ShardWriter(shard_path(folder, shard)) as writer:
        return [writer.add(name, data) for name, data in named]


@settings(max_examples=25, deadline=None)
@given(blobs=st.lists(st.binary(max_size=2000), max_size=8), more=st.lists(st.binary(max_size=2000), max_size=4))
def test_members_are_read_also_after_appending(tmp_path_factory, blobs, more):
    folder = tmp_path_factory.mktemp("s")
    first = write(folder, 3, [(f"{i}.jpg", blob) for i, blob in enumerate(blobs)])
    second = write(folder, 3, [(f"more-{i}.jpg", blob) for i, blob in enumerate(more)])
    reader = ShardReader(folder)
    everything = list(zip([*first, *second], [*blobs, *more], strict=True))
    for (offset, size), blob in reversed(everything):
        assert reader.read(3, offset, size) == blob
    assert [(offset, size) for _, offset, size in members(shard_path(folder, 3))] == [place for place, _ in everything]


def test_shard_is_an_ordinary_tar(tmp_path):
    write(tmp_path, 0, [("a.jpg", b"abc"), ("b.jpg", b"")])
    with tarfile.open(shard_path(tmp_path, 0)) as tar:
        assert tar.getnames() == ["a.jpg", "b.jpg"]
        assert tar.extractfile("a.jpg").read() == b"abc"


def test_failed_write_keeps_the_old_shard(tmp_path):
    write(tmp_path, 0, [("a", b"abc")])
    before = shard_path(tmp_path, 0).read_bytes()

    def fail():
        with ShardWriter(shard_path(tmp_path, 0)) as writer:
            writer.add("b", b"def")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert shard_path(tmp_path, 0).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_or_short_shard_is_refused(tmp_path):
    reader = ShardReader(tmp_path)
    with pytest.raises(InputError, match=r"shard-00001\.tar is missing"):
        reader.read(1, 0, 1)
    ((offset, size),) = write(tmp_path, 0, [("a", b"abc")])
    with pytest.raises(InputError, match="shorter than its index says"):
        reader.read(0, offset + 10**6, size)


def _read_many(reader, places, out):
    out.put([reader.read(0, offset, size) for offset, size in places for _ in range(50)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_reader_works_before_and_after_a_fork(tmp_path, method):
    blobs = [bytes([i]) * 700 for i in range(20)]
    places = write(tmp_path, 0, [(str(i), blob) for i, blob in enumerate(blobs)])
    reader = ShardReader(tmp_path)
    assert reader.read(0, *places[0]) == blobs[0]
    context = multiprocessing.get_context(method)
    out = context.Queue()
    others = [context.Process(target=_read_many, args=(reader, places[i::2], out)) for i in range(2)]
    for other in others:
        other.start()
    for _ in range(200):
        assert all(reader.read(0, *place) == blob for place, blob in zip(places, blobs, strict=True))
    found = [out.get(timeout=300) for _ in others]
    for other in others:
        other.join()
    assert {blob for blobs_found in found for blob in blobs_found} == set(blobs)


def test_reader_survives_pickling(tmp_path):
    ((offset, size),) = write(tmp_path, 0, [("a", b"abc")])
    reader = ShardReader(tmp_path)
    reader.read(0, offset, size)
    assert pickle.loads(pickle.dumps(reader)).read(0, offset, size) == b"abc"


def _write_for_ever(folder):
    for _ in range(10**6):
        write(folder, 0, [("more", b"x" * 5000)])


def test_kill_while_appending_keeps_existing_members(tmp_path):
    blobs = [bytes([i]) * 3000 for i in range(10)]
    places = write(tmp_path, 0, [(str(i), blob) for i, blob in enumerate(blobs)])
    context = multiprocessing.get_context("fork")
    for wait in (0.03, 0.11, 0.2):
        other = context.Process(target=_write_for_ever, args=(tmp_path,))
        other.start()
        time.sleep(wait)
        os.kill(other.pid, signal.SIGKILL)
        other.join()
        reader = ShardReader(tmp_path)
        assert [reader.read(0, *place) for place in places] == blobs
        assert [size for _, _, size in members(shard_path(tmp_path, 0))][:10] == [3000] * 10


def test_more_shards_than_may_be_open_at_once(tmp_path, monkeypatch):
    from reappear.store import shards

    def open_files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    monkeypatch.setattr(shards, "_MOST_OPEN", 3)
    places = []
    for number in range(8):
        with shards.ShardWriter(shards.shard_path(tmp_path, number)) as writer:
            places.append(writer.add("x", bytes([number])))
    before = open_files()
    reader = shards.ShardReader(tmp_path)
    for _ in range(2):
        assert [reader.read(n, *places[n]) for n in range(8)] == [bytes([n]) for n in range(8)]
    assert open_files() - before == 3
