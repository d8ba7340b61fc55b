"""Inner products on a GPU, for linking, which does not import torch."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int


class TorchProducts:
    """`Products` by torch: half precision suffices to propose links, which are then checked exactly."""

    block = 32_768
    tile = (8192, 8192)
    threads = False  # one product fills the device

    def __init__(self, device: str, dtype: torch.dtype = torch.float16) -> None:
        self._device = device
        self._dtype = dtype

    def error(self, width: int) -> float:
        """Two rounded rows, a rounded result, partial sums that a library may round too, and sums in float32."""
        rounded = 0.0 if self._dtype == torch.float32 else 4 * torch.finfo(self._dtype).eps + width**0.5 * 2.0**-23
        return rounded + 1.01 * (width + 8) * 2.0**-23

    def load(self, rows: Float[np.ndarray, "n d"]) -> torch.Tensor:
        """A copy on the device."""
        return torch.tensor(rows, dtype=self._dtype, device=self._device)

    def at_least(self, rows: Any, columns: Any, limit: float) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Products of `limit` or more."""
        inner = (rows @ columns.T).flatten()
        found = (inner >= limit).nonzero()[:, 0]
        return found.cpu().numpy(), inner[found].float().cpu().numpy()
