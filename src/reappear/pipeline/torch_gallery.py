"""A gallery on a GPU: the backend that ranking takes from above."""

import numpy as np
import torch
from jaxtyping import Float, Int

from reappear.metrics import Block


class TorchGallery:
    """As `metrics.NumpyGallery`, with the similarities made and counted where torch holds them.

    Args:
        gallery: Features; copied to the device.
        scale: Factor of each row.
        device: Such as "cuda".
    """

    def __init__(
        self, gallery: Float[np.ndarray, "g d"], scale: Float[np.ndarray, " g"], *, device: str = "cuda"
    ) -> None:
        self._device = torch.device(device)
        self._gallery = torch.tensor(gallery, device=self._device)
        self._scale = torch.tensor(scale, device=self._device)

    def wrong_before(self, block: Block) -> Int[np.ndarray, "b m"]:
        """See `metrics.Gallery`."""
        matches = block.findable.sum(axis=1)
        order = np.argsort(-matches, kind="stable")
        block, matches = block[order], matches[order]
        similarity = self._similarity(block)
        same, there = self._same(block)
        own = similarity.gather(1, same)
        bars = torch.where(self._put(block.findable), own - self._put(block.tie), -torch.inf)
        bars = bars.sort(dim=1, descending=True).values
        similarity[torch.nonzero(there)[:, 0], same[there]] = -torch.inf  # images of the same person are not wrong
        wrong = torch.full(bars.shape, -1, device=self._device)
        for match in range(matches.max(initial=0)):
            rows = slice(np.count_nonzero(matches > match))  # the first, since they are in this order
            wrong[rows, match] = (similarity[rows] >= bars[rows, match, None]).sum(dim=1)
        out = np.empty(block.same.shape, np.int64)
        out[order] = wrong.cpu().numpy()
        return out

    def nearest(self, block: Block, length: int) -> tuple[Int[np.ndarray, "b k"], Float[np.ndarray, "b k"]]:
        """See `metrics.Gallery`."""
        similarity = self._similarity(block)
        same, there = self._same(block)
        passed_over = there & ~self._put(block.findable)
        similarity[torch.nonzero(passed_over)[:, 0], same[passed_over]] = -torch.inf
        shown = min(length, similarity.shape[1])
        found = similarity.sort(dim=1, descending=True, stable=True)
        value, index = found.values[:, :shown].cpu().numpy(), found.indices[:, :shown].cpu().numpy()
        gone = np.isneginf(value)
        out = np.full((len(value), length), -1, np.int64), np.full((len(value), length), np.nan, np.float32)
        distance = block.offset[:, None] - value
        out[0][:, :shown], out[1][:, :shown] = np.where(gone, -1, index), np.where(gone, np.nan, distance)
        return out

    def histograms(
        self, block: Block, bins: int, upper: float
    ) -> tuple[Int[np.ndarray, "b bins"], Int[np.ndarray, "b bins"]]:
        """See `metrics.Gallery`."""
        similarity = self._similarity(block)
        place = ((self._put(block.offset)[:, None] - similarity) * (bins / upper)).clamp(0, bins - 1).long()
        place[similarity.isneginf()] = bins
        same, there = self._same(block)
        mine = torch.where(self._put(block.findable), place.gather(1, same), bins)
        place[torch.nonzero(there)[:, 0], same[there]] = bins
        matches, others = (self._count(places, bins + 1)[:, :bins].cpu().numpy() for places in (mine, place))
        return matches, others

    def _similarity(self, block: Block) -> torch.Tensor:
        similarity = self._put(block.query) @ self._gallery.T
        similarity *= self._scale
        similarity[:, self._put(block.hidden)] = -torch.inf
        return similarity

    def _same(self, block: Block) -> tuple[torch.Tensor, torch.Tensor]:
        same = self._put(block.same)
        return same.clamp(min=0), same >= 0

    def _count(self, places: torch.Tensor, bins: int) -> torch.Tensor:
        counts = torch.zeros(len(places), bins, dtype=torch.int64, device=self._device)
        return counts.scatter_add_(1, places, torch.ones_like(places))

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, device=self._device)
