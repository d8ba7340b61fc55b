"""Cluster Contrast (Dai et al. 2022): unsupervised re-identification, and the second stage of domain adaptation."""

from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.optim.swa_utils import update_bn

from reappear.core import SettingsError, TrainingError, counted, generator, unit_rows
from reappear.losses import IdentityMemory
from reappear.methods.setup import Setup
from reappear.methods.supervised import SupervisedTask
from reappear.metrics import cluster_by_jaccard, score_identities
from reappear.models.embedder import Embedder
from reappear.models.heads import NeckHead
from reappear.models.pooling import GeMBackbone
from reappear.train import parallel
from reappear.train.batch import ImageBatch
from reappear.train.batch_norm import batch_norm_layers
from reappear.train.datasets import Images
from reappear.train.metrics_log import Row
from reappear.train.optimizer import ParameterGroup
from reappear.train.settings import Keep
from reappear.train.task import Labels, Phase, StepResult

from .clusters import cluster_by_average_linkage
from .settings import ClusterContrastSettings

_AT_ONCE = 1024  # images that are decoded together
_BATCH = 256  # images whose mean and variance batch norm takes together


class ClusterContrast(SupervisedTask):
    """In each phase all images are clustered, and their vectors attract the centroid of their cluster.

    Identities of the set are not trained on: they measure the clusters, in the rows of metrics.

    Args:
        setup: Settings, images, and where it runs.
    """

    def __init__(self, setup: Setup[ClusterContrastSettings]) -> None:
        self.settings = settings = setup.method
        super().__init__(
            setup,
            lambda width, identities: NeckHead(width),
            augment=settings.augment,
            images=settings.images,
            extend=GeMBackbone if settings.gem else None,
        )
        if settings.adapt_batch_norm and not batch_norm_layers(self.student.backbone):
            raise SettingsError(
                f"method.adapt_batch_norm yes: backbone {setup.training.backbone} has no batch norm; leave it out"
            )
        self.memory: IdentityMemory | None = None
        self._seen: list[tuple[Tensor, Tensor]] = []  # of this step: vectors and their clusters
        self._clusters: Row = {}
        self._cameras = torch.zeros(0, 0, dtype=torch.bool)  # cameras × clusters that they have images of

    @property
    def _head(self) -> NeckHead:
        return cast(NeckHead, self.student.head)

    def phase(self, step: int, labels: Labels | None) -> Phase:
        """The steps until the next clustering; images that are in no cluster are left out of them."""
        setup, settings = self.setup, self.settings
        if labels is None:
            labels = {"cluster": self._cluster(step)}
        cluster = labels["cluster"]
        self._clusters = self._quality(cluster)
        kept = np.flatnonzero(cluster >= 0)
        table = self._table.select(kept)
        table.identity[:] = cluster[kept]
        wanted, clusters = setup.training.images_per_step // settings.images, int(cluster.max()) + 1
        self._cameras = torch.zeros(int(self._table.camera.max()) + 1, clusters, dtype=torch.bool)
        self._cameras[table.camera, table.identity] = True
        self._cameras = self._cameras.to(setup.device)
        if clusters < wanted:  # as many as there are, in parts that processes can share
            even = parallel.rank_and_world()[1] * setup.training.accumulate
            wanted = max(even, clusters // even * even)
        first = step // settings.phase_steps * settings.phase_steps
        data = self.dataset(_Chosen(setup.images, kept), table, identities=wanted, camera=table.camera)
        return Phase(first, first + settings.phase_steps, data, labels)

    def _cluster(self, step: int) -> Int[np.ndarray, " n"]:
        """Clusters of all images, and the memory of their centroids; computed by the first process for all."""
        settings = self.settings
        cluster, vectors = None, None
        if step == 0 and settings.adapt_batch_norm:
            self._adapt_batch_norm()
        if parallel.rank_and_world()[0] == 0:
            vectors = self._vectors(calibrate=step == 0)
            if settings.clusters == "average":
                cluster = cluster_by_average_linkage(vectors, self.setup.table.camera, z=settings.z)
            else:
                cluster = cluster_by_jaccard(
                    vectors, radius=settings.radius, least=settings.least, k1=settings.k1, k2=settings.k2
                )
        cluster = parallel.broadcast_object(cluster)
        clusters = int(cluster.max()) + 1
        if clusters < 2:
            name, value = ("z", settings.z) if settings.clusters == "average" else ("radius", settings.radius)
            change = "raise" if (clusters == 0) == (name == "radius") else "lower"
            raise TrainingError(
                f"step {step}: {counted(clusters, 'cluster')} of {counted(len(cluster), 'image')}, and two are needed; "
                f"{change} method.{name} {value}, or start from better weights"
            )
        self._remember(torch.zeros(clusters, self._head.neck.num_features))
        memory = cast(IdentityMemory, self.memory)
        if vectors is not None:
            kept = np.flatnonzero(cluster >= 0)
            members = torch.from_numpy(cluster[kept]).to(self.setup.device)
            memory.fill(torch.from_numpy(vectors[kept]).to(memory.centroids), members)
        parallel.broadcast_tensor(memory.centroids)
        return cluster

    def _adapt_batch_norm(self) -> None:
        """Estimates the backbone's batch norm statistics from all images, not augmented (AdaBN, Li et al. 2016).

        They are means over batches of random images. Each process computes them, as batch norm may be synchronised.
        """
        embedder, images, count = self.export("student"), self.setup.images, len(self._table)
        order = generator(self.setup.training.seed, "batch norm").permutation(count)
        batches = (
            torch.from_numpy(embedder.preprocessing([images[row] for row in rows.tolist()]))
            for rows in np.array_split(order, -(-count // _BATCH))
        )
        update_bn(batches, embedder.backbone, self.setup.device)

    def _vectors(self, *, calibrate: bool = False) -> Float[np.ndarray, "n d"]:
        """Unit vectors of all images, not augmented.

        Args:
            calibrate: Whether the neck takes its statistics from them: those that it begins with are of no image, so
                the first centroids would lie elsewhere than the vectors of the first steps.
        """
        embedder, images, neck = self.export("student"), self.setup.images, self._head.neck
        embedder.feature = "before"
        count = len(self._table)
        features = np.concatenate(
            [
                embedder([images[row] for row in range(begin, min(begin + _AT_ONCE, count))])
                for begin in range(0, count, _AT_ONCE)
            ]
        )
        if calibrate and neck.running_mean is not None and neck.running_var is not None:
            neck.running_mean.copy_(torch.from_numpy(features.mean(0)))
            neck.running_var.copy_(torch.from_numpy(features.var(0)))
        neck.eval()
        with torch.no_grad():
            vectors = neck(torch.from_numpy(features).to(self.setup.device))
        neck.train()
        return unit_rows(vectors.cpu().numpy(), name="image")

    def _remember(self, centroids: Float[Tensor, "k d"]) -> None:
        settings = self.settings
        weight = next(self.student.parameters())
        self.memory = IdentityMemory(*centroids.shape, temperature=settings.temperature, momentum=settings.momentum)
        self.memory.to(weight)
        self.memory.centroids.copy_(centroids)

    def _quality(self, cluster: Int[np.ndarray, " n"]) -> Row:
        """Number of clusters, the share of images in them, and their F1 where the set knows who is who."""
        row: Row = {"clusters": int(cluster.max()) + 1, "clustered": float((cluster >= 0).mean())}
        truth = self._table.identity
        if len(np.unique(truth)) == len(truth):
            return row
        scores = score_identities(truth, cluster)
        return {**row, "pseudo_label_f1": scores.pairwise_f1, "pseudo_label_precision": scores.pairwise_precision}

    def training_step(self, batch: ImageBatch, step: int) -> StepResult:
        """Cross-entropy of the images of a step, or of a part of it, to the centroids of all clusters."""
        memory = cast(IdentityMemory, self.memory)
        features = self.distributed(batch.images.flatten(0, 1))
        cluster = batch.identity.repeat_interleave(batch.images.shape[1])
        vectors = self._head.embed(torch.cat([features, parallel.gather_others(features)]))[: len(features)]
        self._seen.append((vectors.detach(), cluster))
        among = self._cameras[batch.camera.flatten()] if self.settings.negatives == "camera" else None
        return StepResult(memory(vectors, cluster, among), partial(self._metrics, vectors.detach(), cluster))

    def after_step(self, step: int) -> None:
        """Moves the centroids towards the vectors of all processes."""
        memory = cast(IdentityMemory, self.memory)
        vectors, cluster = (parallel.all_gather(torch.cat(parts)) for parts in zip(*self._seen, strict=True))
        (memory.update_hardest if self.settings.hard else memory.update)(vectors, cluster)
        self._seen.clear()

    def on_step_skipped(self) -> None:
        """The memory is not updated."""
        self._seen.clear()

    def parameter_groups(self) -> list[ParameterGroup]:
        """All in one group; all decay."""
        return [ParameterGroup([p for p in self.student.parameters() if p.requires_grad])]

    def export(self, keep: Keep) -> Embedder:
        """The backbone with its neck; vectors are the features after it."""
        super().export(keep)
        network, training, config = self.student, self.setup.training, {}
        if self.settings.gem:
            config = {"architecture": "gem", "arguments": {"network": training.backbone, **training.arguments}}
        return Embedder(network.backbone, network.preprocessing, neck=self._head.neck, config=config)

    @torch.no_grad()
    def _metrics(self, vectors: Float[Tensor, "n d"], cluster: Int[Tensor, " n"]) -> Row:
        """Mean cosine with the own centroid, the share of images nearest to it, and the clusters of the phase."""
        centroids = cast(IdentityMemory, self.memory).centroids
        cosines = vectors.to(centroids.dtype) @ centroids.T
        return {
            "positive_similarity": cosines.gather(1, cluster[:, None]).mean().item(),
            "found": (cosines.argmax(1) == cluster).float().mean().item(),
            **self._clusters,
        }

    def state_dict(self) -> dict[str, Any]:
        """Student and centroids."""
        state = super().state_dict()
        return state if self.memory is None else {**state, "centroids": self.memory.centroids}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        super().load_state_dict(state)
        if "centroids" in state:
            self._remember(state["centroids"])


class _Chosen:
    """Some images, by their numbers."""

    def __init__(self, images: Images, rows: Int[np.ndarray, " n"]) -> None:
        self._images, self._rows = images, rows

    def __getitem__(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._images[int(self._rows[image])]
