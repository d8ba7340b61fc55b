"""What holds for every detector, and what each promises for itself."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reappear.core import InputError
from reappear.video import MotionSettings, MotSettings, YoloxSettings, open_footage
from reappear.video.detectors import Detector, YoloxDetector
from reappear.video.detectors.motion import _spread, _usual_height
from reappear.video.overlap import iou
from tests.video.films import SIZE, WALKERS, pictures, write_film, write_truth

FRAMES = 40


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = write_film(tmp_path_factory.mktemp("film") / "a.mp4", pictures(FRAMES))
    write_truth(path.with_suffix(".gt.txt"), FRAMES)
    return path


def yolox_file(path, cells, *, side=64, kind=TensorProto.FLOAT, output=None):
    """An ONNX file that finds the same boxes in every image: `cells` is row → the 85 numbers of that cell."""
    count = sum((side // stride) ** 2 for stride in (8, 16, 32))
    raw = np.zeros((1, count, 85), np.float32)
    for row, values in cells.items():
        raw[0, row, : len(values)] = values
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["raw", "nothing"], ["output"]),
    ]
    constants = [numpy_helper.from_array(raw, "raw"), numpy_helper.from_array(np.float32(0), "zero")]
    graph = helper.make_graph(
        nodes,
        "yolox",
        [helper.make_tensor_value_info("images", kind, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, output or [1, count, 85])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def settings_of(tmp_path):
    weights = yolox_file(tmp_path / "y.onnx", {9: [0.5, 0.5, 0.0, 1.0, 0.9, 0.9]})
    return {"motion": MotionSettings(), "yolox": YoloxSettings(weights=weights), "mot": MotSettings()}


@pytest.mark.parametrize("kind", ["motion", "yolox", "mot"])
def test_every_detector_is_deterministic(film, settings_of, kind):
    def look():
        footage = open_footage(film)
        detector = settings_of[kind].build(footage)
        assert isinstance(detector, Detector)
        return [detector.detect(frame.image, frame.number) for frame in footage.frames()]

    first, second = look(), look()
    assert sum(len(found.box) for found in first) > 10
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.box, b.box)
        assert np.array_equal(a.score, b.score)
        assert np.all((a.score >= 0) & (a.score <= 1))
        assert np.all(a.box[:, 2:] > a.box[:, :2])


@pytest.mark.parametrize("kind", ["motion", "yolox", "mot"])
def test_every_detector_accepts_a_black_frame(film, settings_of, kind):
    detector = settings_of[kind].build(open_footage(film))
    assert len(detector.detect(np.zeros((144, 192, 3), np.uint8), FRAMES + 5).score) >= 0


# motion


def test_motion_finds_walkers_from_the_first_frame_on(film):
    footage = open_footage(film)
    detector = MotionSettings().build(footage)
    hits = 0
    for frame in footage.frames():
        found = detector.detect(frame.image, frame.number)
        true = np.stack([walker.box(frame.number) for walker in WALKERS]).astype(np.float32)
        inside = (true[:, 0] >= 0) & (true[:, 2] <= 192)
        overlaps = iou(found.box, true)
        assert np.all(overlaps.max(axis=1, initial=0) > 0.5), f"frame {frame.number} shows people who are not there"
        hits += int(np.sum(overlaps.max(axis=0, initial=0)[inside] > 0.6))
        if frame.number == 0:
            assert hits == 2
    assert hits > 0.9 * 2 * 32


def test_motion_finds_nothing_in_a_static_video(tmp_path):
    footage = open_footage(write_film(tmp_path / "a.mp4", pictures(20, walkers=())))
    detector = MotionSettings().build(footage)
    assert sum(len(detector.detect(frame.image, frame.number).box) for frame in footage.frames()) == 0


def _exposed(images, gain):
    return [np.clip(image * gain(number), 0, 255).astype(np.uint8) for number, image in enumerate(images)]


def test_motion_ignores_changes_of_exposure(tmp_path):
    """A camera that adapts to a person in front of it: all of the picture changes, and nothing else moves."""
    images = _exposed(pictures(FRAMES), lambda n: (1 + 0.5 * min(max(n - 10, 0), 15) / 15) * np.array([1, 0.95, 1.05]))
    footage = open_footage(write_film(tmp_path / "a.mp4", images))
    detector = MotionSettings().build(footage)
    hits = 0
    for frame in footage.frames():
        true = np.stack([walker.box(frame.number) for walker in WALKERS]).astype(np.float32)
        overlaps = iou(detector.detect(frame.image, frame.number).box, true)
        assert np.all(overlaps.max(axis=1, initial=0) > 0.5), f"frame {frame.number}"
        hits += int(np.sum(overlaps.max(axis=0, initial=0) > 0.6))
    assert hits > 0.85 * 2 * 32


def test_motion_ignores_light_on_a_wall(tmp_path):
    """A person-sized patch that grows lighter with a soft edge, and a person."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    spot = np.clip(1.6 - np.hypot((rows - 70) / 34, (columns - 140) / 16), 0, 1)[..., None]
    ground = np.full((SIZE[1], SIZE[0], 3), 110, np.uint8)
    images = []
    for number in range(FRAMES):
        image = ground + (spot * 8 * min(max(number - 25, 0), 8)).astype(np.uint8)
        left = 5 + 2 * number
        image[40:100, left : left + 20] = (200, 40, 40)
        images.append(image)
    footage = open_footage(write_film(tmp_path / "a.mp4", images))
    detector = MotionSettings().build(footage)
    found = [detector.detect(frame.image, frame.number).box for frame in footage.frames()]
    true = [np.array([[5 + 2 * n, 40, 25 + 2 * n, 100]], np.float32) for n in range(FRAMES)]
    assert all((iou(box, there) > 0.5).all() for box, there in zip(found, true, strict=True))
    assert sum(map(len, found)) > 0.9 * FRAMES


def test_motion_accepts_a_video_of_one_frame(tmp_path):
    footage = open_footage(write_film(tmp_path / "a.mp4", pictures(1)))
    detector = MotionSettings().build(footage)
    assert all(len(detector.detect(frame.image, frame.number).box) == 0 for frame in footage.frames())


def test_usual_height_is_fitted_to_single_people():
    random = np.random.default_rng(3)
    foot = random.uniform(100, 300, 200)
    height = (20 + 0.3 * foot) * random.normal(1, 0.05, 200)
    height[::5] *= 1.8  # every fifth is a group
    box = np.stack([np.zeros(200), foot - height, np.full(200, 20.0), foot], axis=1).astype(np.float32)
    usual = _usual_height(box)
    at = np.array([120, 200, 290], np.float32)
    assert np.allclose(usual(at), 20 + 0.3 * at, rtol=0.05)
    assert _usual_height(box[:10]) is None


def test_every_prefix_of_the_learning_order_is_spread():
    order = _spread(100)
    assert sorted(order) == list(range(100))
    assert max(np.diff(sorted(order[:16]))) < 20
    assert _spread(0) == []
    assert _spread(1) == [0]


# yolox


def test_yolox_decodes_its_grid(tmp_path):
    # Row 9 of an 8×8 grid of stride 8 is column 1, line 1; row 64 + 5 of a 4×4 grid of stride 16 is column 1, line 1.
    cells = {
        9: [0.5, 0.25, np.log(2), np.log(3), 0.9, 0.8],
        64 + 5: [0.5, 0.5, 0.0, 0.0, 0.5, 0.5],
        0: [0.5, 0.5, 0.0, 0.0, 1.0, 0.0, 1.0],  # a bicycle
    }
    weights = yolox_file(tmp_path / "y.onnx", cells)
    detector = YoloxDetector(weights, score=0.2)
    found = detector.detect(np.zeros((32, 128, 3), np.uint8), 0)  # shown at half size in the 64×64 input
    order = np.argsort(-found.score)
    assert np.allclose(found.score[order], [0.72, 0.25])
    x, y = 8 * 1.5, 8 * 1.25
    assert np.allclose(found.box[order][0], 2 * np.array([x - 8, y - 12, x + 8, y + 12]), atol=1e-4)
    assert np.allclose(found.box[order][1], 2 * np.array([16, 16, 32, 32]), atol=1e-4)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.UINT8])
@pytest.mark.parametrize("output", [None, [1, "n", "d"]])
def test_yolox_of_other_types_and_open_shapes(tmp_path, kind, output):
    cells = {9: [0.5, 0.25, np.log(2), np.log(3), 0.9, 0.8]}
    found = YoloxDetector(yolox_file(tmp_path / "y.onnx", cells, kind=kind, output=output)).detect(
        np.zeros((32, 128, 3), np.uint8), 0
    )
    assert np.allclose(found.score, [0.72])
    assert found.box.dtype == np.float32


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.INT64, "int64"), (TensorProto.DOUBLE, "double")])
def test_yolox_refuses_other_input_types(tmp_path, kind, name):
    with pytest.raises(InputError, match=name) as error:
        YoloxDetector(yolox_file(tmp_path / "y.onnx", {}, kind=kind))
    assert "\n" not in str(error.value)


def test_frames_of_another_size_use_the_first_processing_size(film):
    footage = open_footage(film)
    one, two = (MotionSettings().build(footage) for _ in range(2))
    large = [frame.image for frame in footage.frames()]
    found = [one.detect(image, i).box for i, image in enumerate(large)]
    sizes = [two.detect(image if i % 3 else image.repeat(2, 0).repeat(2, 1), i).box for i, image in enumerate(large)]
    assert sum(map(len, found)) > 10
    for i, (a, b) in enumerate(zip(found, sizes, strict=True)):
        assert np.array_equal(a, b if i % 3 else b / 2)


def test_yolox_drops_the_worse_of_two_boxes_of_one_person(tmp_path):
    cells = {9: [0.5, 0.5, 1.0, 1.0, 0.9, 0.9], 10: [-0.4, 0.5, 1.0, 1.0, 0.9, 0.8], 40: [0.5, 0.5, 1, 1, 0.9, 0.7]}
    detector = YoloxDetector(yolox_file(tmp_path / "y.onnx", cells))
    found = detector.detect(np.zeros((64, 64, 3), np.uint8), 0)
    assert np.allclose(np.sort(found.score), [0.63, 0.81])


def test_yolox_refuses_what_is_not_yolox(tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx does not exist"):
        YoloxDetector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(InputError, match="cannot be read as an ONNX model"):
        YoloxDetector(tmp_path / "text.onnx")


@pytest.mark.real
def test_yolox_refuses_an_embedding_network(real_data):
    with pytest.raises(InputError, match="is it an embedding network"):
        YoloxDetector(real_data / "weights" / "osnet_x0_25_msmt17.onnx")


@pytest.mark.real
def test_yolox_finds_real_people(real_data):
    footage = open_footage(real_data / "video" / "pets2009_s2l1_view1_480x360.mp4")
    detector = YoloxSettings(weights=real_data / "weights" / "yolox_nano.onnx").build(footage)
    counts = [len(detector.detect(frame.image, 0).box) for frame in footage.frames(only=frozenset(range(0, 200, 40)))]
    assert 3 <= np.mean(counts) <= 10


# mot


def test_mot_returns_the_boxes_of_the_file(film):
    detector = MotSettings(ids="video").build(open_footage(film))
    found = detector.detect(np.zeros((1, 1, 3), np.uint8), 3)
    assert found.identity.tolist() == [7, 9]
    assert np.allclose(found.box, [walker.box(3) for walker in WALKERS])
    assert MotSettings().build(open_footage(film)).detect(np.zeros((1, 1, 3), np.uint8), 3).identity is None


def test_mot_prefers_detections_and_leaves_out_low_scores(tmp_path):
    film = write_film(tmp_path / "a.mp4", pictures(2))
    write_truth(tmp_path / "a.gt.txt", 2)
    (tmp_path / "a.det.txt").write_text("1,-1,0,0,10,20,0.9\n1,-1,50,0,10,20,0.2\n")
    (tmp_path / "other-a.txt").write_text("1,-1,0,0,10,20,0.9\n" * 3)
    image = np.zeros((1, 1, 3), np.uint8)
    footage = open_footage(film)
    assert len(MotSettings(score=0.5).build(footage).detect(image, 0).box) == 1
    assert len(MotSettings(boxes="other-{stem}.txt").build(footage).detect(image, 0).box) == 3


def test_mot_lists_searched_files_and_refuses_missing_ids(tmp_path):
    film = write_film(tmp_path / "a.mp4", pictures(2))
    with pytest.raises(InputError, match=r"has no boxes: .*a\.det\.txt and .*a\.gt\.txt"):
        MotSettings().build(open_footage(film))
    (tmp_path / "a.det.txt").write_text("1,-1,0,0,10,20,0.9\n")
    with pytest.raises(InputError, match=r"without an id \(-1\)"):
        MotSettings(ids="video").build(open_footage(film))
