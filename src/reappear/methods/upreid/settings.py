"""Settings of UP-ReID. The paper's text was not to be had: those of its two terms are ours, see docs/upreid.md."""

from typing import Annotated, ClassVar, Literal

from annotated_types import Interval

from reappear.core import CountOrZero, Fraction, NotNegative, Only, Positive, SettingsError, settings
from reappear.methods.moco.settings import MocoSettings
from reappear.methods.settings import Width
from reappear.train.settings import TrainSettings

GridSide = Annotated[int, Interval(ge=1, le=64)]


@settings
class IntraIdentitySettings:
    """Intra-identity regularisation: consistency with the original image, and contrast among its patches."""

    path: ClassVar[str] = "method"  # of these settings

    global_weight: Annotated[
        NotNegative, "weight of the consistency of a view with the original image (lambda_g); 1 as that of the contrast"
    ] = 1.0
    local_weight: Annotated[
        NotNegative, "weight of the contrast among the patches of an image (lambda_l); 1 as that of the contrast"
    ] = 1.0
    global_warmup: Annotated[
        NotNegative,
        "passes over the images in which lambda_g rises from 0, because the queue is random at first",
        Only("global_weight"),
    ] = 1.0
    anchors: Annotated[
        Literal["bank", "batch"],
        "a view and its original are to be as similar to these: bank = upreid's queue, which needs no further memory, "
        "or cion's prototypes; batch = keys of the step's other images",
        Only("global_weight"),
    ] = "bank"
    anchor_temperature: Annotated[
        Positive | None,
        "temperature of similarities to anchors; that of the method if not given",
        Only("global_weight"),
    ] = None
    divergence: Annotated[
        Literal["kl", "sym_kl", "js", "cosine"],
        "between a view and its original: kl(original, view), as the original is the reference; cosine = 1 - cosine of "
        "both, which also forces equal vectors",
        Only("global_weight"),
    ] = "kl"
    reference: Annotated[
        Literal["ema", "online"],
        "network that encodes the original: the teacher, as it is stabler, or the student",
        Only("global_weight"),
    ] = "ema"
    both_views: Annotated[
        bool,
        "both views are compared with the original, not the first alone: one more view for the student of upreid",
        Only("global_weight"),
    ] = False
    mode: Annotated[
        Literal["roi", "crop"],
        "patches are cut from the last feature map, which costs little, or from the original image before each is "
        "augmented and encoded by itself",
        Only("local_weight"),
    ] = "roi"
    patch_rows: Annotated[
        GridSide, "rows of patches of the original image; 4 strips: people stand", Only("local_weight")
    ] = 4
    patch_columns: Annotated[GridSide, "columns of patches of the original image", Only("local_weight")] = 1
    visibility: Annotated[
        Fraction, "least share of a patch that a view must show for the patch to count in it", Only("local_weight")
    ] = 0.5
    patch_head_hidden: Annotated[
        Width | None,
        "width of the hidden layer of the head of patches; that of the features if not given",
        Only("local_weight"),
    ] = None
    patch_head_width: Annotated[Width, "width of the vectors of patches that are compared", Only("local_weight")] = 128
    patch_temperature: Annotated[Positive, "temperature of the contrast among patches", Only("local_weight")] = 0.2
    positives: Annotated[
        Literal["hardest", "mean"],
        "which of a patch's positives counts: the least similar one, or the mean of all",
        Only("local_weight"),
    ] = "hardest"
    hardest_negatives: Annotated[
        CountOrZero, "negatives of a patch that count, the most similar ones; 0 = all", Only("local_weight")
    ] = 0
    ignore_adjacent: Annotated[
        bool, "patches that share an edge are no negatives: two of one garment may look the same", Only("local_weight")
    ] = False
    max_similarity: Annotated[
        Fraction,
        "negatives more similar than this are left out, as they may look the same; 1 = none, which is one rule less",
        Only("local_weight"),
    ] = 1.0
    negatives: Annotated[
        Literal["image", "step"],
        "negatives of a patch: other patches of its image, as the abstract has it, or also the same patch of the "
        "step's other people",
        Only("local_weight"),
    ] = "image"

    @property
    def is_on(self) -> bool:
        """Whether either term has a weight."""
        return self.global_weight > 0 or self.local_weight > 0

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.patch_rows, self.patch_columns

    def check_terms(self, training: TrainSettings) -> None:
        """Refuses a grid of one patch or that does not fit, and a step of one image without others as anchors."""
        rows, columns = self.grid
        if self.local_weight and rows * columns < 2:
            raise SettingsError(
                f"{self.path}.patch_rows: patches are compared with each other, and there is one; take 2"
            )
        if self.local_weight and self.mode == "crop" and (training.height % rows or training.width % columns):
            raise SettingsError(
                f"{self.path}.patch_rows: images of {training.height}x{training.width} cannot be cut into "
                f"{rows}x{columns} equal patches; take divisors of height and width"
            )
        if self.global_weight and self.anchors == "batch" and training.images_per_step // training.accumulate < 2:
            raise SettingsError(
                f"{self.path}.anchors: batch needs two images in each part of a step, got images_per_step "
                f"{training.images_per_step} and accumulate {training.accumulate}"
            )


@settings
class UpReidSettings(IntraIdentitySettings, MocoSettings):
    """UP-ReID: MoCo-v2 with intra-identity regularisation; rebuilt from the published abstract, details are ours."""

    kind: Literal["upreid"] = "upreid"  # type: ignore[assignment]

    def check(self, training: TrainSettings) -> None:
        """Refuses what `moco` refuses, and patches that do not fit."""
        MocoSettings.check(self, training)
        self.check_terms(training)


@settings
class IntraIdentityOption(IntraIdentitySettings):
    """Intra-identity regularisation beside another method; off unless a weight is given."""

    path: ClassVar[str] = "method.intra_identity"

    global_weight: Annotated[
        NotNegative, "weight of the consistency of a view with the original image (lambda_g); 0 = off"
    ] = 0.0
    local_weight: Annotated[NotNegative, "weight of the contrast among the patches of an image (lambda_l); 0 = off"] = (
        0.0
    )
    across_images: Annotated[
        bool,
        "a patch's positives are the same patch in all images of the identity, not in the views of its own alone",
        Only("local_weight"),
    ] = True
