"""Labels of a workspace by name: the same crops, identities and reasons wherever they are used."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from reappear.core import InputError, SettingsError
from reappear.data import OWN_LABELS, Images, decode_image, read, read_image
from reappear.pipeline.evaluate.splits import read_split
from reappear.pipeline.export_data import ExportDataSettings, export_data
from reappear.pipeline.labels import crop_images, labelled_crops
from reappear.pipeline.pretrain import PretrainSettings, pretrain
from reappear.pipeline.validation import held_out, validation_crops
from reappear.pipeline.workspace import Workspace
from reappear.store import read_table, write_table

from .pretrain_fixture import make_workspace


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """8 people in 2 videos, 3 crops each; the last is of nobody; the set gave labels to the first 40."""
    work = make_workspace(tmp_path_factory.mktemp("labels"))
    columns = read_table(work.crops / "crops.parquet")
    label = np.where(np.arange(48) < 40, columns["tracklet"], -1)
    write_table(work.crops / "crops.parquet", columns | {"label": label})
    return work


EXPECTED = {  # identities, and crops that are left out by reason
    "instance": (48, {}),
    "tracklet": (16, {}),
    "given": (14, {"without an identity": 8}),
    "true": (8, {"not in the ground truth": 1}),
    "found": (8, {}),
}


def test_every_name_of_labels_is_tested() -> None:
    assert EXPECTED.keys() == OWN_LABELS.keys() | {"found"}


@pytest.mark.parametrize("labels", OWN_LABELS)
def test_identities_cannot_have_the_name_of_other_labels(work: Workspace, labels: str) -> None:
    with pytest.raises(SettingsError, match=labels):
        work.identities(labels)


@pytest.mark.parametrize("labels", EXPECTED)
def test_training_evaluation_and_export_have_the_same_identities(work: Workspace, tmp_path: Path, labels: str) -> None:
    identities, dropped = EXPECTED[labels]
    table, left_out = labelled_crops(work, labels)
    assert left_out == dropped
    assert len(np.unique(table.identity)) == identities
    assert len(table) == 48 - sum(dropped.values())

    if labels == "instance":
        with pytest.raises(InputError, match="no image is left for the query"):
            read_split(
                f"workspace,identities={labels}:{work.root}", split="first-image", identities=None, query_camera=None
            )
    else:
        split = read_split(
            f"workspace,identities={labels}:{work.root}", split="first-image", identities=None, query_camera=None
        ).table
        assert sorted(split.identity.tolist()) == sorted(table.identity.tolist())

    record = export_data(work, tmp_path / "out", ExportDataSettings(), identities=labels)
    assert record.counts == {"crops": len(table), "identities": identities}
    assert record.dropped == dropped

    settings = PretrainSettings(steps=0, backbone="cnn6", arguments={"width": 4})
    own = pretrain(work, f"of-{labels}", settings, labels=labels)
    assert (own.counts["crops"], own.counts["identities"], own.dropped) == (len(table), identities, dropped)


@pytest.mark.parametrize("labels", EXPECTED)
def test_crops_by_number_and_by_path_are_the_same_images(work: Workspace, labels: str) -> None:
    table, _ = labelled_crops(work, labels)
    paths = read("workspace", work.root, identities=labels)
    images = crop_images(work, table)
    for row in (0, len(table) - 1):
        crop = int(table.path[row])
        np.testing.assert_array_equal(images[row], decode_image(read_image(paths.path[crop])))
        for name in ("identity", "camera", "sequence", "frame"):
            assert getattr(table, name)[row] == getattr(paths, name)[crop]


def test_a_row_of_crops_has_camera_tracklet_and_order(work: Workspace) -> None:
    table, _ = labelled_crops(work, "tracklet")
    store = work.open_crops()
    assert table.camera.tolist() == store.camera.tolist()
    assert table.cameras == ("camera 0", "camera 1")
    assert table.sequence.tolist() == store.crops["tracklet"].tolist()
    assert table.frame.tolist() == store.crops["frame"].tolist()
    assert np.isnan(table.time).all()


def test_unknown_frames_are_places_in_the_tracklet(work: Workspace, tmp_path: Path) -> None:
    other = Workspace(shutil.copytree(work.root, tmp_path / "w"))
    columns = read_table(other.crops / "crops.parquet")
    write_table(other.crops / "crops.parquet", columns | {"frame": np.full(48, -1)})
    assert labelled_crops(other, "instance")[0].frame.tolist() == [0, 1, 2] * 16


def test_labels_that_the_workspace_lacks_are_refused(work: Workspace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'lost'.*instance, tracklet, given, true, found"):
        labelled_crops(work, "lost")
    with pytest.raises(SettingsError, match=r"\.\./found"):
        labelled_crops(work, "../found")
    other = make_workspace(tmp_path / "w")
    with pytest.raises(InputError, match="label"):
        labelled_crops(other, "given")
    columns = read_table(other.crops / "crops.parquet")
    write_table(other.crops / "crops.parquet", columns | {"truth": np.full(48, -1)})
    with pytest.raises(InputError, match=r"no crop has an identity.*'true'"):
        labelled_crops(other, "true")


def test_identities_of_other_crops_are_refused(work: Workspace, tmp_path: Path) -> None:
    other = Workspace(shutil.copytree(work.root, tmp_path / "w"))
    found = read_table(other.identities("found") / "identities.parquet")
    write_table(other.identities("found") / "identities.parquet", {name: column[1:] for name, column in found.items()})
    with pytest.raises(InputError, match="'found' are of other crops"):
        labelled_crops(other, "found")


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    (tmp_path / "query").mkdir()
    (tmp_path / "query" / "0001_c1s1_000000_00.jpg").write_bytes(b"no image")
    images = Images(read("market1501", tmp_path))
    with pytest.raises(InputError, match=r"0001_c1s1_000000_00\.jpg.*not an image; remove it"):
        images[0]


def test_held_out_people_are_queries_and_gallery_across_videos(work: Workspace) -> None:
    crops, (table, _) = work.open_crops(), labelled_crops(work, "tracklet")
    held = held_out(crops, table, share=0.25, seed=1)
    chosen = table.select(held)
    assert len(chosen) == 12  # two people of the ground truth, in both videos
    split = validation_crops(crops, chosen)
    query, gallery = split.where("query"), split.where("gallery")
    assert sorted(gallery.path.tolist()) == sorted(chosen.path.tolist())
    assert len(query) == 4
    assert {*zip(query.identity.tolist(), query.camera.tolist(), strict=True)} == {
        *zip(gallery.identity.tolist(), gallery.camera.tolist(), strict=True)
    }
