"""Inner products and nearest neighbours on a GPU, for linking, which does not import torch."""

import threading
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch.nn.functional import pad

from reappear.denoise.linking import read
from reappear.denoise.neighbors import Neighbors, Search

_LARGE = 32 << 30  # bytes of a device that holds more rows, so that fewer are copied to it again and again
_FIRST = 2048  # columns from which the first bounds are taken
_EXACT_BYTES = 256 << 20  # of the terms of sums that are taken at once


class TorchProducts:
    """`Products` by torch: half precision suffices to propose links, which are then checked exactly."""

    block = 65_536
    tile = (8192, 8192)
    threads = True  # while pairs of a tile are looked at again on the processor, the device takes the next products

    def __init__(self, device: str, dtype: torch.dtype = torch.float16) -> None:
        self._device = device
        self._dtype = dtype
        if device.startswith("cuda") and torch.cuda.get_device_properties(device).total_memory >= _LARGE:
            self.block = 4 * self.block
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

    def nearest(self, centers: Float[np.ndarray, "n d"], block: Search) -> Neighbors:
        """The neighbours of a block's rows, bit for bit those of the processor.

        Products in `dtype` propose; the sums in float64 that decide are taken here as well, in numpy's order.
        """
        rows = torch.tensor(read(centers, slice(block.begin, block.end)), device=self._device)
        tops = range(0, len(rows), self.tile[0])
        strips = [_Strip(rows[top : top + self.tile[0]], block.begin + top, block, self._dtype) for top in tops]
        low, high = max(0, block.begin - block.reach), min(len(centers), block.end + block.reach)
        for left in range(low, high, self.block):
            right = min(left + self.block, high)
            own = (left, right) == (block.begin, block.end)
            columns = rows if own else torch.tensor(read(centers, slice(left, right)), device=self._device)
            proposing = columns.to(self._dtype)
            for strip in strips:
                strip.look(columns, proposing, left)
        index = torch.cat([strip.index for strip in strips]).to(torch.int32)
        return Neighbors(index.cpu().numpy(), torch.cat([strip.cosine for strip in strips]).cpu().numpy())


class _Strip:
    """Some rows, and their neighbours among the nodes that they were compared with so far, lowest numbers first.

    Attributes:
        index: As of `Neighbors`.
        cosine: As of `Neighbors`.
    """

    def __init__(self, rows: Float[torch.Tensor, "r d"], top: int, block: Search, dtype: torch.dtype) -> None:
        self._rows, self._proposing, self._top, self._block = rows, rows.to(dtype), top, block
        self._error = block.products.error(rows.shape[1])  # with room for the rounding of limits to float32
        self._limit = torch.full((len(rows),), torch.finfo(torch.float32).min, device=rows.device)
        self.index = torch.full((len(rows), block.k), -1, device=rows.device)
        self.cosine = torch.full((len(rows), block.k), -torch.inf, device=rows.device)

    def look(self, columns: Float[torch.Tensor, "c d"], proposing: Float[torch.Tensor, "c d"], left: int) -> None:
        """Compares with the nodes from `left` on, as far as they are within reach."""
        begin = max(left, self._top - self._block.reach)
        right = min(left + len(columns), self._top + len(self._rows) + self._block.reach)
        while begin < right:
            first = begin == max(0, self._top - self._block.reach)
            width = self._block.products.tile[1]
            end = min(begin + (min(width, _FIRST) if first else width), right)
            tile = slice(begin - left, end - left)
            self._compare(columns[tile], proposing[tile], begin, first)
            begin = end

    def _compare(
        self, columns: Float[torch.Tensor, "c d"], proposing: Float[torch.Tensor, "c d"], left: int, first: bool
    ) -> None:
        inner = self._proposing @ proposing.T
        self._leave_out(inner, left)
        if first and len(columns) >= self._block.k:
            least = inner.topk(self._block.k).values[:, -1].float()
            self._limit = torch.maximum(self._limit, least - 2 * self._error)
        row, column = (inner >= self._limit[:, None]).nonzero(as_tuple=True)
        del inner
        cosine = torch.empty(len(row), device=row.device)
        step = max(1, _EXACT_BYTES // (8 * columns.shape[1]))
        for some in (slice(begin, begin + step) for begin in range(0, len(row), step)):
            cosine[some] = numpy_sum(self._rows[row[some]].double().mul_(columns[column[some]])).float()
        cosine += 0  # -0 is 0, as in numpy's sums
        self._merge(row, column + left, cosine)

    def _leave_out(self, inner: Float[torch.Tensor, "r c"], left: int) -> None:
        """A node itself, and those out of reach: -inf."""
        reach, right, bottom = self._block.reach, left + inner.shape[1], self._top + len(inner)
        if (left >= bottom and right - 1 - self._top <= reach) or (right <= self._top and bottom - 1 - left <= reach):
            return
        gap = torch.arange(left, right, dtype=torch.int32, device=inner.device) - torch.arange(
            self._top, bottom, dtype=torch.int32, device=inner.device
        ).unsqueeze(1)
        inner.masked_fill_((gap == 0) | (gap.abs_() > reach), -torch.inf)

    def _merge(
        self, row: Int[torch.Tensor, " m"], column: Int[torch.Tensor, " m"], cosine: Float[torch.Tensor, " m"]
    ) -> None:
        """Keeps the nearest; of equally near ones those that came first, which have the lowest numbers."""
        if not len(row):
            return
        count = torch.bincount(row, minlength=len(self._rows))
        place = self._block.k + torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
        room = (0, int(count.max()))
        table, index = pad(self.cosine, room, value=-torch.inf), pad(self.index, room, value=-1)
        table[row, place], index[row, place] = cosine, column
        order = table.sort(dim=1, descending=True, stable=True).indices[:, : self._block.k]
        self.cosine, self.index = table.gather(1, order), index.gather(1, order)
        self._limit = torch.maximum(self._limit, self.cosine[:, -1] - self._error)


def numpy_sum(terms: Num[torch.Tensor, "*b n"]) -> Num[torch.Tensor, "*b"]:
    """Sums over the last axis with the same bits as numpy's: eight sums side by side, of up to 128 terms each time."""
    count = terms.shape[-1]
    if count > 128:
        half = count // 2 - count // 2 % 8
        if 2 * half == count:
            both = numpy_sum(terms.reshape(*terms.shape[:-1], 2, half))
            return both[..., 0] + both[..., 1]
        return numpy_sum(terms[..., :half]) + numpy_sum(terms[..., half:])
    whole = count - count % 8
    if whole:
        sums = terms[..., :8]
        for begin in range(8, whole, 8):
            sums = sums + terms[..., begin : begin + 8]
        while sums.shape[-1] > 1:
            sums = sums[..., ::2] + sums[..., 1::2]
        total = sums[..., 0]
    else:
        whole, total = 1, terms[..., 0]
    for place in range(whole, count):
        total = total + terms[..., place]
    return total
