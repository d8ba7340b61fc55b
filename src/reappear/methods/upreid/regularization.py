"""Intra-identity (I²) regularisation for methods with a student and an EMA teacher (UP-ReID, Yang et al. 2022).

From the abstract: consistency between the augmented and the original image, and a contrast among the patches of each
image. How, is ours; see docs/upreid.md.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from reappear.core import InputError, SettingsError, generator
from reappear.losses import PatchContrastLoss, PatchVectors, relation_divergence
from reappear.methods.network import Network
from reappear.methods.setup import Setup, try_size
from reappear.models.heads import ProjectionHead
from reappear.models.maps import map_shape, pool_patches
from reappear.train import parallel
from reappear.train.batch import PatchBatch
from reappear.train.metrics_log import Row
from reappear.train.patches import adjacent_patches, locate_patches, patch_grid
from reappear.train.schedule import Stages
from reappear.train.task import Phase

from .settings import IntraIdentityOption, IntraIdentitySettings

_VIEWS = 2  # global ones, of which patches are compared


class PatchEncoder(nn.Module):
    """A network from views to features, vectors, and vectors of the patches of the first views.

    Args:
        network: With a `patch_head`, if there are patches.
        mode: Whether patches are given by their boxes, or their pixels; see `IntraIdentitySettings`.
    """

    def __init__(self, network: Network, mode: str) -> None:
        super().__init__()
        self.network, self.mode = network, mode

    def forward(
        self, views: list[UInt8[Tensor, "ids images 3 _ _"]], patches: Tensor | None = None, *, gather: bool = True
    ) -> tuple[Float[Tensor, "views ids images d"], Float[Tensor, "views ids images b"], Tensor | None]:
        """Features and vectors of all views, and vectors (v n patches width) of patches of the first v.

        Args:
            views: RGB 0-255.
            patches: Boxes (v n patches 4) as shares of the view, or pixels (v n patches 3 h w); None = no patches.
            gather: Whether batch norm may gather running statistics from the first view.
        """
        if patches is None:
            return *self.network.encode(views, gather=gather)[:2], None
        head: Any = self.network.patch_head
        if self.mode == "roi":
            features, vectors, maps = self.network.encode(views, mapped=len(patches), gather=gather)
            pooled = torch.cat([pool_patches(*pair) for pair in zip(maps, patches, strict=True)]).flatten(0, 1)
        else:
            features, vectors, _ = self.network.encode(views, gather=gather)
            pooled = self.network.pooled(patches.flatten(0, 2), gather=False)
        return features, vectors, head.embed(pooled).view(*patches.shape[:3], -1)


class IntraIdentity:
    """The two terms, for a student and a teacher, which get a head of patches if patches are compared.

    Args:
        setup: Settings, images, and where it runs.
        settings: At least one weight is above 0.
        student: Gets a `patch_head`.
        teacher: Gets a copy of it.
        temperature: Of similarities to anchors, if the settings have none.
    """

    def __init__(
        self,
        setup: Setup[Any],
        settings: IntraIdentitySettings,
        student: Network,
        teacher: Network,
        *,
        temperature: float,
    ) -> None:
        self.setup, self.settings = setup, settings
        self.student, self.teacher = (PatchEncoder(network, settings.mode) for network in (student, teacher))
        self._temperature = settings.anchor_temperature or temperature
        self._across = isinstance(settings, IntraIdentityOption) and settings.across_images
        self._grid = patch_grid(*settings.grid).to(setup.device)
        adjacent = adjacent_patches(*settings.grid)
        self._contrast = PatchContrastLoss(
            adjacent if settings.ignore_adjacent else torch.zeros_like(adjacent),
            temperature=settings.patch_temperature,
            positives=settings.positives,
            hardest=settings.hardest_negatives,
            max_similarity=settings.max_similarity,
        ).to(setup.device)
        self._warmup = settings.global_warmup * len(setup.table) / setup.training.images_per_step  # steps
        if settings.local_weight:
            self._add_patch_heads(student, teacher)

    def _add_patch_heads(self, student: Network, teacher: Network) -> None:
        """Heads of patches, apart from those of whole images, so that patches of one image may differ."""
        settings, training = self.settings, self.setup.training
        rows, columns = settings.grid
        height, width = training.height, training.width
        backbone: Any = student.backbone
        if settings.mode == "crop":
            try_size(training.backbone, backbone, height // rows, width // columns)
            features = backbone.num_features
        else:
            try:
                features, *size = map_shape(backbone, height, width)
            except InputError as error:
                raise SettingsError(f"{settings.path}.mode: {error}, or take crop") from error
            if size[0] < rows or size[1] < columns:
                raise SettingsError(
                    f"{settings.path}.patch_rows: {rows}x{columns} patches, and the map of {training.backbone} is "
                    f"{size[0]}x{size[1]} at {height}x{width}; take fewer, larger images, or mode crop"
                )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(training.seed, "patch head").integers(1 << 62)))
            head = ProjectionHead(
                features, hidden=settings.patch_head_hidden or features, width=settings.patch_head_width
            )
        student.patch_head = head.to(next(student.head.parameters()))
        teacher.patch_head = copy.deepcopy(student.patch_head).requires_grad_(False)

    def phase(self, stages: Stages = ((0.0, 1),)) -> Phase:
        """As `Setup.views`, of `PatchBatch`."""
        crop = self.settings.local_weight > 0 and self.settings.mode == "crop"
        return self.setup.views(stages, with_images=True, patches=self.settings.grid if crop else None)

    def locate(self, batch: PatchBatch) -> tuple[Tensor | None, Bool[Tensor, "v n patches"]]:
        """Patches of the two global views, as a `PatchEncoder` takes them, and which of them are visible."""
        if not self.settings.local_weight:
            return None, torch.ones(_VIEWS, 0, 0, dtype=torch.bool)
        if self.settings.mode == "crop":
            after = len(batch.boxes)  # views of the image, before those of patches
            pixels = [torch.stack(batch.views[after + k :: _VIEWS], 2).flatten(0, 1) for k in range(_VIEWS)]
            patches = torch.stack(pixels)
            return patches, torch.ones(patches.shape[:3], dtype=torch.bool, device=patches.device)
        found = [
            locate_patches(self._grid, batch.boxes[k].flatten(0, 1), batch.flipped[k].flatten()) for k in range(_VIEWS)
        ]
        boxes, shares = (torch.stack(parts) for parts in zip(*found, strict=True))
        # The share of a patch that is all visible may be rounded to a little less than 1.
        return boxes, (shares > 0) & (shares >= self.settings.visibility - 1e-6)

    @torch.no_grad()
    def originals(self, batch: PatchBatch) -> tuple[Float[Tensor, "n b"], Float[Tensor, "n patches width"] | None]:
        """Vectors of the images as they are, and of their patches; batch norm keeps no statistics of these passes."""
        settings, image = self.settings, [batch.image]
        by_student = settings.reference == "online" and settings.global_weight > 0
        patches = parts = None
        if settings.local_weight:
            flat = batch.image.flatten(0, 1)
            patches = self._grid.expand(1, len(flat), -1, -1)
            if settings.mode == "crop":
                patches = _cells(flat, *settings.grid)[None]
        if settings.local_weight or not by_student:
            _, vectors, parts = self.teacher(image, patches, gather=False)
        if by_student:
            _, vectors, _ = self.student(image, gather=False)
        return vectors[0].flatten(0, 1), None if parts is None else parts[0]

    def consistency(
        self,
        compared: Float[Tensor, "v n b"],
        reference: Float[Tensor, "n b"],
        bank: Float[Tensor, "k b"],
        keys: Float[Tensor, "n b"],
    ) -> Float[Tensor, ""]:
        """Divergence of a view's similarities to anchors from those of the original, in nats; or 1 - cosine of both.

        Args:
            compared: Vectors of views by the student; the first view counts, or each of them.
            reference: Vectors of the originals.
            bank: Anchors.
            keys: The teacher's vectors of other views of the images: anchors of a view are those of other images.
        """
        compared = compared if self.settings.both_views else compared[:1]
        with torch.autocast(compared.device.type, enabled=False):
            reference, bank, keys = reference.to(bank), bank.detach(), keys.to(bank)
            compared = compared.to(bank)
            kind = self.settings.divergence
            if kind == "cosine":
                return (1 - (compared * reference).sum(-1)).mean()
            anchors = parallel.all_gather(keys) if self.settings.anchors == "batch" else bank
            scores = [rows @ anchors.T / self._temperature for rows in (*compared, reference)]
            if self.settings.anchors == "batch":
                n, first = len(keys), parallel.rank_and_world()[0] * len(keys)
                own = torch.arange(first, first + n, device=keys.device)
                others = torch.arange(len(anchors), device=keys.device) != own[:, None]
                scores = [rows[others].view(n, -1) for rows in scores]
            *views, original = scores
            return torch.stack([relation_divergence(rows, original, kind) for rows in views]).mean()

    def patch_contrast(
        self,
        pairs: list[tuple[PatchVectors, PatchVectors]],
        originals: Tensor | None,
        batch: PatchBatch,
    ) -> Float[Tensor, ""]:
        """Contrast among the patches of each image, in nats.

        Args:
            pairs: The student's patches of a view, and the teacher's of the other view.
            originals: The teacher's patches (n patches width) of the originals, as `originals` gives them.
            batch: Tells the images of an identity.
        """
        unseen = cast(Tensor, originals)
        return torch.stack([self._contrast(u, *self._compared(v, unseen, batch)) for u, v in pairs]).mean()

    def _compared(self, other: PatchVectors, originals: Tensor, batch: PatchBatch) -> tuple[PatchVectors, ...]:
        """Positives, negatives, and patches of other people."""
        ids, images = batch.image.shape[:2]
        own = PatchVectors(
            torch.stack([other.vectors, originals], 1),
            torch.stack([other.visible, torch.ones_like(other.visible)], 1),
        )
        alike = own
        if self._across and images > 1:
            alike = PatchVectors(*(rows.view(ids, -1, *rows.shape[2:]).repeat_interleave(images, 0) for rows in own))
        if self.settings.negatives == "image":
            return alike, own
        identity = batch.identity.repeat_interleave(images)
        differs = identity[:, None] != parallel.all_gather(identity)
        visible = parallel.all_gather(other.visible.contiguous())
        strangers = PatchVectors(parallel.all_gather(other.vectors.contiguous()), differs[..., None] & visible)
        return alike, own, strangers

    def weigh(
        self, step: int, consistency: Callable[[], Tensor], patch_contrast: Callable[[], Tensor]
    ) -> tuple[Tensor, Callable[[], Row]]:
        """The weighted sum of both terms, each computed where it has a weight, and their values for the metrics."""
        settings = self.settings
        rise = min(1.0, step / self._warmup) if self._warmup else 1.0
        terms = {
            name: (weight, term())
            for name, weight, term in (
                ("consistency", rise * settings.global_weight, consistency),
                ("patch_contrast", settings.local_weight, patch_contrast),
            )
            if weight
        }
        total = sum((weight * value for weight, value in terms.values()), torch.zeros((), device=self.setup.device))
        return total, partial(_values, {name: value.detach() for name, (_, value) in terms.items()})


def regularization(
    setup: Setup[Any], settings: IntraIdentitySettings, student: Network, teacher: Network, *, temperature: float
) -> IntraIdentity | None:
    """The two terms; None if neither has a weight."""
    return IntraIdentity(setup, settings, student, teacher, temperature=temperature) if settings.is_on else None


def _values(terms: dict[str, Tensor]) -> Row:
    return {name: value.item() for name, value in terms.items()}


def _cells(images: UInt8[Tensor, "n 3 h w"], rows: int, columns: int) -> UInt8[Tensor, "n patches 3 cell_h cell_w"]:
    """The cells of a grid of each image, row by row."""
    n, _, height, width = images.shape
    cells = images.view(n, 3, rows, height // rows, columns, width // columns)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
