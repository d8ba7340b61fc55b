import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from reappear.train import parallel

CPU = torch.device("cpu")


def test_alone_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    network = nn.Linear(2, 2)
    with parallel.processes(CPU) as (rank, world):
        assert (rank, world) == (0, 1)
        assert parallel.share_gradients(network) is network
        assert parallel.share_statistics(network, CPU) is network
        assert parallel.any_process(True, CPU)
        assert not parallel.any_process(False, CPU)


_TWO = """
import torch
from torch import nn
from reappear.losses import IdentityDistillationLoss
from reappear.train import parallel
device = torch.device("cpu")
with parallel.processes(device) as (rank, world):
    assert world == 2
    assert parallel.any_process(rank == 1, device)
    assert not parallel.any_process(False, device)
    assert parallel.tell("folder" if rank == 0 else None) == "folder"
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    shared = parallel.share_gradients(network)
    shared(torch.full((1, 1), float(rank + 1))).sum().backward()
    assert network.weight.grad.item() == 1.5
    loss = IdentityDistillationLoss(2, center_momentum=0.0)
    loss.update_center(torch.full((1, 1, 1, 2), float(rank)))
    assert loss.center.tolist() == [0.5, 0.5]
"""


@pytest.mark.slow
def test_two_processes_share_flags_words_gradients_and_the_center(tmp_path) -> None:
    script = tmp_path / "two.py"
    script.write_text(_TWO)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
