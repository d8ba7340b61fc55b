import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from reappear.core import LOCAL, Engine, EngineError, InputError, MissingExtra
from reappear.pipeline.engines import RaySettings, open_engine
from reappear.pipeline.engines.cluster import Cluster

MEMORY = 100_000_000


def _product(shared: np.ndarray, item: int) -> np.ndarray:
    return shared * item


def _dies_once(folder: Path, item: int) -> int:
    if item == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def _dies_always(shared: int, item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def _refuses(shared: int, item: int) -> int:
    raise InputError(f"row {item} is bad")


@pytest.fixture(scope="class")
def two_workers():
    with open_engine(RaySettings(workers=2), MEMORY) as engine:
        yield engine


@pytest.mark.slow
class TestRay:
    def test_cluster_results_equal_local_results(self, two_workers):
        matrix = np.arange(6.0).reshape(2, 3)
        assert isinstance(two_workers, Engine)
        found = two_workers.map(_product, matrix, iter(range(20)))
        for mine, here in zip(found, LOCAL.map(_product, matrix, range(20)), strict=True):
            assert np.array_equal(mine, here)

    def test_items_are_consumed_lazily(self, two_workers):
        taken = []
        found = two_workers.map(_product, np.ones(1), (taken.append(i) or i for i in range(1000)))
        assert next(found) == 0
        assert len(taken) < 20
        found.close()

    def test_work_of_a_lost_worker_is_repeated(self, two_workers, tmp_path):
        assert list(two_workers.map(_dies_once, tmp_path, range(8))) == [i * i for i in range(8)]
        assert (tmp_path / "died").exists()

    def test_errors_keep_their_class(self, two_workers):
        with pytest.raises(InputError, match=r"^row 0 is bad$"):
            list(two_workers.map(_refuses, 0, range(3)))

    def test_item_that_kills_workers_is_an_engine_error(self, two_workers):
        with pytest.raises(EngineError, match=r"Ray lost a piece of work 5 times .* run the same command again"):
            list(two_workers.map(_dies_always, 0, range(1)))


def test_pieces_of_a_cluster_that_was_left_are_not_cancelled():
    """Ray would connect again, or try to for minutes."""
    ray = Mock(**{"cluster_resources.return_value": {"CPU": 1}, "is_initialized.return_value": True})
    one, other = (Cluster(ray).map(_product, 1, range(10)) for _ in range(2))
    next(one), next(other)
    one.close()
    assert ray.cancel.call_count == 1
    ray.is_initialized.return_value = False
    other.close()
    assert ray.cancel.call_count == 1


def test_missing_ray_has_an_install_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingExtra, match=r"engine ray needs Ray: pip install 'reappear\[ray\]'"),
        open_engine(RaySettings(), MEMORY),
    ):
        pass


def test_unreachable_cluster_is_an_engine_error(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    where = f"127.0.0.1:{port}"
    message = f"no Ray cluster answers at {where}; "
    with pytest.raises(InputError, match=message), open_engine(RaySettings(address=where), MEMORY):
        pass
    monkeypatch.setenv("RAY_ADDRESS", where)
    with pytest.raises(InputError, match=message), open_engine(RaySettings(), MEMORY):
        pass
    with pytest.raises(InputError, match="no Ray cluster answers"), open_engine(RaySettings(address="a:b"), MEMORY):
        pass


@pytest.mark.slow
def test_own_session_folder_is_removed_after_use():
    """Also after an error; in a process of its own, beside the Ray of the other tests."""
    script = """
import sys
from pathlib import Path
from reappear.pipeline.engines import RaySettings, open_engine
try:
    with open_engine(RaySettings(workers=1), 80 << 20) as engine:
        import ray
        session = Path(ray.get_runtime_context().worker.node.address_info["session_dir"])
        assert session.is_dir()
        found = engine.map(divmod, 7, range(1, 20))  # which is still open after an error
        assert next(found) == (7, 0)
        if len(sys.argv) > 1:
            raise KeyError
        found.close()
except KeyError:
    pass
latest = session.parent / "session_latest"
print(session.exists(), latest.is_symlink() and latest.readlink().name == session.name)
"""
    for error in ([], ["fail"]):
        done = subprocess.run([sys.executable, "-c", script, *error], capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ("False False\n", 0), done.stderr


@pytest.mark.slow
def test_running_cluster_is_joined_and_not_stopped():
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = os.environ | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "disabled",  # a token in the home folder would close the cluster to Ray's own health check
    }
    start = [*ray, "start", "--head", f"--port={port}", "--num-cpus=1", "--include-dashboard=false", "--block"]
    script = """
import sys
from reappear.pipeline.engines import RaySettings, open_engine
with open_engine(RaySettings(address=sys.argv[1]), 0) as engine:
    found = list(engine.map(divmod, 7, range(1, 4)))
print(found)
"""
    head = subprocess.Popen(start, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ask = [*ray, "health-check", "--address", f"127.0.0.1:{port}"]
        while subprocess.run(ask, env=environment, capture_output=True, check=False).returncode:
            assert head.poll() is None
        for _ in range(2):
            mine = [sys.executable, "-c", script, f"127.0.0.1:{port}"]
            done = subprocess.run(mine, env=environment, capture_output=True, text=True, check=False)
            assert (done.stdout, done.returncode) == ("[(7, 0), (3, 1), (2, 1)]\n", 0), done.stderr
    finally:
        head.terminate()
        head.wait()


@pytest.mark.slow
def test_other_service_at_the_address_is_an_engine_error(capfd, monkeypatch):
    monkeypatch.setattr("reappear.pipeline.engines.cluster._PATIENCE", 10)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and says nothing
        where = f"127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(InputError, match=f"no Ray cluster answers at {where}"),
            open_engine(RaySettings(address=where), MEMORY),
        ):
            pass
    assert capfd.readouterr() == ("", "")


_STOPPED = """
import sys, time
from reappear.cli.signals import exit_on_signals
from reappear.pipeline.engines import RaySettings, open_engine
with exit_on_signals(), open_engine(RaySettings(workers=2), 100_000_000) as engine:
    for _ in engine.map(lambda seconds, item: time.sleep(seconds), 0.1, range(1000)):
        print("working", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_the_group_stop_as_without_ray(number):
    script = [sys.executable, "-c", _STOPPED]
    process = subprocess.Popen(
        script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    process.stderr.readline()  # where stdout goes while Ray runs
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert [line for line in err.splitlines() if line != "working"] == ["reappear: stopped; the same command continues"]
