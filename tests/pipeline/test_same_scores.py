"""One model has one mAP: in validation during training, in evaluate, and by its embedder from Python."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from reappear.core import ImageTable
from reappear.data import decode_image, read, read_image
from reappear.methods.cion.settings import DinoSettings
from reappear.metrics import rank
from reappear.models import Embedder
from reappear.models.extractors import ModelSettings
from reappear.pipeline.evaluate import EvaluateSettings, evaluate_one
from reappear.pipeline.pretrain import PretrainSettings, pretrain

from .pretrain_fixture import jpeg, make_validation_set, make_workspace


def test_validation_evaluate_and_python_give_the_same_map(tmp_path: Path) -> None:
    people = make_validation_set(tmp_path / "people", people=12)
    sizes = [(70, 40), (20, 9), (48, 12), (18, 40)]  # of images for an input of 32x16: they shrink, grow, or both
    for i, path in enumerate(sorted(people.rglob("*.jpg"))):
        height, width = sizes[i % 4]
        path.write_bytes(jpeg(cv2.resize(decode_image(path.read_bytes()), (width, height))))
    work = make_workspace(tmp_path / "w")
    settings = PretrainSettings(
        method=DinoSettings(prototypes=16),
        backbone="cnn6",
        arguments={"width": 4},
        height=32,
        width=16,
        local_height=16,
        local_width=8,
        steps=4,
        images_per_step=8,
        validation=people,
        validation_every=4,
    )
    pretrain(work, "m", settings)

    rows = [json.loads(line) for line in (work.model("m") / "metrics.jsonl").read_text().splitlines()]
    validation = next(row["validation_map"] for row in rows if row["step"] == 4)

    extractor = ModelSettings(name=str(work.model("m")))
    evaluated = evaluate_one(work, "e", EvaluateSettings(extractor=extractor, bootstrap=10, batch=5), data=people)

    embedder = Embedder.load(work.model("m"))

    def vectors(part: ImageTable) -> np.ndarray:
        return embedder([decode_image(read_image(path)) for path in part.path.tolist()])

    table = read("market1501", people)
    query, gallery = table.where("query"), table.where("gallery")
    ranking = rank(
        vectors(query),
        vectors(gallery),
        query_ids=query.identity,
        gallery_ids=gallery.identity,
        query_cameras=query.camera,
        gallery_cameras=gallery.camera,
    )
    assert 0.05 < validation < 0.95
    assert evaluated.counts["mean_ap"] == pytest.approx(validation, abs=1e-6)
    assert ranking.mean_ap == pytest.approx(validation, abs=1e-6)
