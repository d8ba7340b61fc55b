"""A model for clips as extractor: its vectors of tracklets link them, and those of crops do all else."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reappear.core import InputError, unit_rows
from reappear.data import decode_image
from reappear.models import Embedder, Preprocessing, create_model
from reappear.models.extractors import ModelSettings
from reappear.pipeline.correlate import CorrelateSettings, correlate
from reappear.pipeline.correlate.choices import LINKED, linked_rows
from reappear.pipeline.correlate.stages import identify
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.store import read_embeddings, read_identities, read_tracklet_vectors, write_tracklet_vectors
from reappear.synthetic import TrackletPlan, embedded_tracklets

from .pretrain_fixture import make_workspace
from .test_correlate import WIDTH, pretend

PLAN = TrackletPlan(people=12, cameras=3, crops=4, swapped=0.05)


def test_average_linkage_compares_tracklets_and_all_else_crops(tmp_path: Path) -> None:
    tracklets, truth = embedded_tracklets(PLAN)
    group = (truth.truth[tracklets.offsets[:-1]] + truth.video) % 12  # who is who by the vectors of tracklets
    drawn = np.random.default_rng(0).normal(0, 0.02, (len(tracklets), tracklets.embeddings.shape[1]))
    vectors = unit_rows(np.eye(tracklets.embeddings.shape[1])[group] + drawn)
    linked = linked_rows(tracklets, vectors.astype(np.float16), tmp_path / "rows.npy")
    settings = CorrelateSettings(thresholds="0.9,0.3")
    plain, _ = identify(tracklets, settings)
    found, _ = identify(tracklets, settings, linked=linked)
    for identity, expected in ((found.assignment.identity, group), (plain.assignment.identity, None)):
        pairs = np.unique(np.stack([identity, group]), axis=1).shape[1]
        assert (pairs == 12) == (expected is not None)
    np.testing.assert_array_equal(found.assignment.tracklet, plain.assignment.tracklet)
    for one, other in zip(found.report["stages"][:-1], plain.report["stages"][:-1], strict=True):
        assert (one["name"], one["crops_kept"]) == (other["name"], other["crops_kept"])


def test_rows_without_a_vector_stay_as_they_are(tmp_path: Path) -> None:
    tracklets, _ = embedded_tracklets(TrackletPlan(people=3, cameras=2, crops=4))
    tracklets.embeddings[5] = 0  # cannot be embedded
    vectors = unit_rows(np.random.default_rng(0).normal(size=(6, 64))).astype(np.float16)
    vectors[3] = 0
    rows = linked_rows(tracklets, vectors, tmp_path / "rows.npy").embeddings
    for crop in range(24):
        expected = vectors[crop // 4] if crop // 4 != 3 and crop != 5 else tracklets.embeddings[crop]
        np.testing.assert_allclose(rows[crop], expected, atol=1e-3)
    assert linked_rows(tracklets, None, tmp_path / "none.npy") is None
    with pytest.raises(InputError, match="do not fit 6 tracklets"):
        linked_rows(tracklets, vectors[1:], tmp_path / "rows.npy")


def test_a_model_for_clips_embeds_crops_and_tracklets(tmp_path: Path) -> None:
    work = make_workspace(tmp_path / "work", people=6, crops=4)
    torch.manual_seed(0)
    arguments = {"network": "cnn6", "width": 4, "frames": 3}
    model = Embedder(
        create_model("grl", **arguments).eval(),
        Preprocessing(height=32, width=16),
        config={"architecture": "grl", "arguments": arguments},
    )
    model.save(tmp_path / "video")
    settings = EmbedSettings(extractor=ModelSettings(name=str(tmp_path / "video")))
    embed(work, "clips", settings)
    vectors, _ = read_embeddings(work.embeddings("clips"))
    made = read_tracklet_vectors(work.embeddings("clips"))
    crops = work.open_crops()
    images = [decode_image(crops.image(crop)) for crop in range(len(crops))]
    np.testing.assert_allclose(vectors, unit_rows(model(images)), atol=2e-3)
    expected = unit_rows(model.tracklets([images[i : i + 4] for i in range(0, len(images), 4)]))
    np.testing.assert_allclose(made, expected, atol=2e-3)
    embed(work, "beside", EmbedSettings(extractor=settings.extractor, beside="clips"))
    assert read_tracklet_vectors(work.embeddings("beside")) is None


def test_correlate_reads_the_vectors_of_tracklets(tmp_path: Path) -> None:
    work = pretend(tmp_path, people=20, videos=3)
    tracklets = len(work.open_crops().offsets) - 1
    group = np.arange(tracklets) % (tracklets // 3)
    vectors = np.random.default_rng(0).normal(size=(tracklets // 3, WIDTH))[group]
    write_tracklet_vectors(work.embeddings("e"), unit_rows(vectors))
    correlate(work, "linked", CorrelateSettings(), embeddings="e")
    found = read_identities(work.identities("linked")).assignment.identity
    same = found[:, None] == found
    expected = group[:, None] == group
    assert (same & expected).sum() > 0.8 * expected.sum()
    assert not (work.identities("linked") / LINKED).exists()
