import pickle
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from reappear.core import InputError, WorkspaceError
from reappear.models import create_model, save_model
from reappear.models.extractors import ColorExtractor, ColorSettings, ModelSettings
from reappear.pipeline import embed as module
from reappear.pipeline.embed import EmbedSettings, embed
from reappear.pipeline.engines import RaySettings
from reappear.pipeline.record import Outcome, run_step
from reappear.pipeline.workspace import Workspace
from reappear.store import ShardWriter, read_embeddings, shard_path, write_table
from reappear.video import encode_jpeg

CROPS = 50
BROKEN = 17


def make_crops(root: Path) -> Workspace:
    work = Workspace(root)
    random = np.random.default_rng(0)

    def fill(staging):
        images = [np.full((40, 20, 3), random.integers(0, 255, 3), np.uint8) for _ in range(CROPS)]
        images = [np.where(random.random((40, 20, 1)) < 0.3, np.uint8(200), image) for image in images]
        with ShardWriter(shard_path(staging, 0)) as shard:
            places = [
                shard.add(f"{i}.jpg", b"no picture" if i == BROKEN else encode_jpeg(image.astype(np.uint8), 90))
                for i, image in enumerate(images)
            ]
        offset, size = np.array(places).T
        write_table(
            staging / "crops.parquet",
            {"video": np.zeros(CROPS, np.int64), "shard": np.zeros(CROPS, np.int64), "offset": offset, "size": size},
        )
        write_table(staging / "tracklets.parquet", {"video": np.array([0]), "crops": np.array([CROPS])})
        write_table(staging / "videos.parquet", {"name": ["film"]})
        return Outcome()

    run_step(work.crops, step="ingest", settings={}, inputs={}, work=fill)
    return work


def test_extractor_without_a_single_vector_fails(work, monkeypatch):
    monkeypatch.setattr(
        ColorExtractor, "__call__", lambda self, images: np.full((len(images), self.width), np.nan, np.float32)
    )
    with pytest.raises(InputError, match=f"vectors that are zero or not finite: {CROPS - 1}"):
        embed(work, "nan", EmbedSettings())
    assert not work.embeddings("nan").exists()


@pytest.fixture
def work(tmp_path):
    return make_crops(tmp_path)


def test_vectors_are_unit_length_and_zero_for_unreadable_images(work):
    record = embed(work, "c", EmbedSettings())
    vectors, meta = read_embeddings(work.embeddings("c"))
    assert vectors.dtype == np.float16
    assert (meta["rows"], meta["width"], meta["extractor"]) == (CROPS, ColorExtractor().width, "color")
    norms = np.linalg.norm(vectors.astype(np.float32), axis=1)
    assert norms[BROKEN] == 0
    assert np.allclose(np.delete(norms, BROKEN), 1, atol=2e-3)
    assert record.dropped == {"images that cannot be decoded": 1}
    files = ["meta.json", "parts.json", "record.json", "vectors.npy"]
    assert sorted(path.name for path in work.embeddings("c").iterdir()) == files


def test_batch_size_does_not_change_vectors(work):
    embed(work, "a", EmbedSettings(batch=7))
    embed(work, "b", EmbedSettings(batch=64))
    assert np.array_equal(read_embeddings(work.embeddings("a"))[0], read_embeddings(work.embeddings("b"))[0])


def test_flip_adds_the_vector_of_the_mirrored_crop(work, monkeypatch):
    def left_and_right(self, images):
        out = np.zeros((len(images), self.width), np.float32)
        for row, image in zip(out, images, strict=True):
            row[0], row[1] = image[:, :10].mean(), image[:, 10:].mean()
        return out

    monkeypatch.setattr(ColorExtractor, "__call__", left_and_right)
    embed(work, "plain", EmbedSettings())
    embed(work, "flip", EmbedSettings(flip=True))
    plain, flip = (np.delete(read_embeddings(work.embeddings(name))[0], BROKEN, 0) for name in ("plain", "flip"))
    assert not np.array_equal(plain[:, 0], plain[:, 1])
    assert np.allclose(flip[:, :2], np.sqrt(0.5), atol=1e-3)


def test_finished_blocks_are_not_repeated(work, monkeypatch):
    embed(work, "whole", EmbedSettings(batch=5))
    monkeypatch.setattr(module, "_BLOCK", 10)
    ticks = []

    class Stops:
        after = 6

        @contextmanager
        def task(self, title, total, unit):
            def tick(units):
                ticks.append(units)
                if len(ticks) > self.after:
                    raise KeyboardInterrupt

            yield tick

        def note(self, text):
            pass

    with pytest.raises(KeyboardInterrupt):
        embed(work, "parts", EmbedSettings(batch=5), progress=Stops())
    listener = Stops()
    listener.after = 10**6
    ticks.clear()
    record = embed(work, "parts", EmbedSettings(batch=5), progress=listener)
    assert ticks[0] == 20  # two whole blocks of the six batches
    assert sum(ticks) == CROPS
    assert record.dropped == {"images that cannot be decoded": 1}
    assert np.array_equal(read_embeddings(work.embeddings("whole"))[0], read_embeddings(work.embeddings("parts"))[0])


def test_vectors_that_are_not_finite_become_zero_and_are_counted(work, monkeypatch):
    def sick(self, images):
        out = np.ones((len(images), self.width), np.float32)
        out[0] = np.nan
        return out

    monkeypatch.setattr(ColorExtractor, "__call__", sick)
    record = embed(work, "sick", EmbedSettings(batch=50))
    assert record.dropped == {"images that cannot be decoded": 1, "vectors that are zero or not finite": 1}
    assert not read_embeddings(work.embeddings("sick"))[0][0].any()


def test_invalid_inputs_are_refused(work, tmp_path):
    with pytest.raises(InputError, match="has no crops yet"):
        embed(Workspace(tmp_path / "none"), "x", EmbedSettings())
    embed(work, "x", EmbedSettings())
    assert embed(work, "x", EmbedSettings()).already_done
    with pytest.raises(WorkspaceError, match=r"another extractor\.stripes \(12, now 6\)"):
        embed(work, "x", EmbedSettings(extractor=ColorSettings(stripes=6)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "extractor", [ColorSettings(), ModelSettings(name="resnet18", height=64, width=32)], ids=["color", "network"]
)
def test_cluster_gives_the_same_vectors(work, extractor):
    embed(work, "here", EmbedSettings(extractor=extractor, batch=7))
    embed(work, "there", EmbedSettings(extractor=extractor, batch=7, engine=RaySettings(workers=2)))
    here, there = (work.embeddings(name) / "vectors.npy" for name in ("here", "there"))
    if isinstance(extractor, ColorSettings):
        assert here.read_bytes() == there.read_bytes()
    else:  # its workers have other numbers of threads, by which torch rounds
        bits = [np.load(path).view(np.int16).astype(int) for path in (here, there)]
        assert np.abs(bits[0] - bits[1]).max() <= 1
    engine = EmbedSettings(extractor=extractor, batch=7, engine=RaySettings(workers=1))
    assert embed(work, "here", engine).already_done, "the engine changes nothing"


def test_extractor_is_loaded_once_per_worker():
    embedder = module._Embedder(ColorSettings(), flip=True)
    assert embedder.extractor is embedder.extractor
    sent = pickle.loads(pickle.dumps(embedder))
    assert "extractor" not in vars(sent)
    assert (sent.settings, sent.flip) == (ColorSettings(), True)


def test_workspace_may_be_moved(work, tmp_path_factory):
    network = create_model("cnn6", width=4)
    config = {"architecture": "cnn6", "arguments": {"width": 4}, "height": 32, "width": 16}
    save_model(work.model("small"), network, config | {"mean": [0.5] * 3, "std": [0.5] * 3}, card="")
    embed(work, "a", EmbedSettings(extractor=ModelSettings(name=str(work.model("small")))))
    moved = Workspace(tmp_path_factory.mktemp("elsewhere") / "work")
    work.root.rename(moved.root)
    assert embed(moved, "a", EmbedSettings(extractor=ModelSettings(name=str(moved.model("small"))))).already_done


def test_embeddings_beside_others_are_both_less_their_means(work: Workspace) -> None:
    embed(work, "first", EmbedSettings(extractor=ColorSettings(stripes=2)))
    embed(work, "second", EmbedSettings(extractor=ColorSettings(stripes=3)))
    record = embed(work, "both", EmbedSettings(extractor=ColorSettings(stripes=3), beside="first"))
    both, meta = read_embeddings(work.embeddings("both"))
    parts = [np.asarray(read_embeddings(work.embeddings(name))[0], np.float64) for name in ("first", "second")]
    known = np.arange(CROPS) != BROKEN
    expected = []
    for part in parts:
        centred = part - part[known].mean(0)
        expected.append(centred / np.linalg.norm(centred, axis=1, keepdims=True) / np.sqrt(2))
    np.testing.assert_allclose(both[known], np.concatenate(expected, axis=1)[known], atol=1e-3)
    assert not both[BROKEN].any()
    assert meta["width"] == both.shape[1] == record.counts["width"] == sum(part.shape[1] for part in parts)
    assert record.dropped == {"images that cannot be decoded": 1}


def test_embeddings_beside_depend_on_the_others(work: Workspace) -> None:
    embed(work, "first", EmbedSettings(extractor=ColorSettings(stripes=2)))
    embed(work, "both", EmbedSettings(beside="first"))
    with pytest.raises(InputError, match="there: both, first"):
        embed(work, "lost", EmbedSettings(beside="none_such"))
    shutil.rmtree(work.embeddings("first"))
    embed(work, "first", EmbedSettings(extractor=ColorSettings(stripes=4)))
    with pytest.raises(WorkspaceError, match="beside"):
        embed(work, "both", EmbedSettings(beside="first"))
