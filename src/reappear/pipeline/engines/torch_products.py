"""Inner products on a GPU, for linking, which does not import torch."""

import threading
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int


class TorchProducts:
    """`Products` by torch: half precision suffices to propose links, which are then checked exactly."""

    block = 65_536
    tile = (8192, 8192)
    threads = True  # while pairs of a tile are looked at again on the processor, the device takes the next products

    def __init__(self, device: str, dtype: torch.dtype = torch.float16) -> None:
        self._device = device
        self._dtype = dtype
        self._tiles = threading.Semaphore(2)  # on the device at once: one is computed while the other is set up

    def error(self, width: int) -> float:
        """The bound for unit rows: two rounded rows, a rounded result, partial sums that a library may round too.

        Each rounding costs at most eps/2 · Σ|xᵢyᵢ| ≤ eps/2, and eight are allowed for (float16: eps = 2⁻¹⁰). Values
        below the least normal number of float16 lose up to 2⁻²⁵ each, together √width · 2⁻²⁴ at most; sums in float32
        cost width · 2⁻²⁴.
        """
        rounded = 0.0 if self._dtype == torch.float32 else 4 * torch.finfo(self._dtype).eps + width**0.5 * 2.0**-23
        return rounded + 1.01 * (width + 8) * 2.0**-23

    def load(self, rows: Float[np.ndarray, "n d"]) -> torch.Tensor:
        """A copy on the device."""
        return torch.tensor(rows, device=self._device).to(self._dtype)

    def at_least(
        self, rows: Any, columns: Any, limit: "float | Float[np.ndarray, ' r']"
    ) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Products of `limit` or more."""
        least = torch.as_tensor(limit, dtype=torch.float32, device=self._device).reshape(-1, 1)
        with self._tiles:
            inner = rows @ columns.T
            found = (inner >= least).flatten().nonzero()[:, 0]
            inner = inner.flatten()
            return found.cpu().numpy(), inner[found].float().cpu().numpy()
