"""Running statistics of batch norm in a network that is trained on views of several sizes."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norm_layers(network: nn.Module) -> list[_BatchNorm]:
    """Batch norm layers of a network that have running statistics."""
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]


class RunningStatistics:
    """Chooses the forward passes that batch norm gathers running statistics from.

    In training mode batch norm normalises by the batch, so no output and no gradient depends on the choice; the trained
    network does, which normalises by what was gathered.

    Args:
        network: Its batch norm layers gather statistics as before until `gather` is called.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [(layer, layer.momentum) for layer in batch_norm_layers(network)]

    def gather(self, on: bool) -> None:
        """Whether the next forward passes in training mode change the running statistics."""
        for layer, momentum in self._layers:
            # Not `track_running_stats`: gradient checkpointing wants the same tensors saved when it runs a pass again.
            layer.momentum = momentum if on else 0.0
