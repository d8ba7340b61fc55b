import io

import av
import cv2
import numpy as np
import pytest

from reappear.synthetic import World, imagine, record, shoot, shoot_probe


@pytest.fixture(scope="module")
def world() -> World:
    return imagine(
        people=4, probe_people=3, cameras=2, films=1, appearances=2, returns=0.0, size=(240, 180), rate=4.0, seed=0
    )


@pytest.fixture(scope="module")
def film(world: World) -> tuple[bytes, str]:
    video = io.BytesIO()
    truth = record(world, world.films[0], video)
    return video.getvalue(), truth


def decoded(video: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_film_decodes_to_the_frames_that_were_painted(world: World, film: tuple[bytes, str]) -> None:
    frames = decoded(film[0])
    assert len(frames) == world.films[0].frames
    for number, painted in shoot(world, world.films[0], (0, 17, world.films[0].frames - 1)):
        assert frames[number].shape == (180, 240, 3)
        assert np.abs(frames[number].astype(int) - painted.image).mean() < 12


def test_the_film_says_its_rate_and_codec(film: tuple[bytes, str]) -> None:
    with av.open(io.BytesIO(film[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 4)


def test_truth_is_the_painted_boxes_that_can_be_seen(world: World, film: tuple[bytes, str]) -> None:
    rows = np.loadtxt(io.StringIO(film[1]), delimiter=",")
    assert (rows[:, 8] >= world.visible).all()
    assert rows[:, 0].min() >= 1 + 2  # half a second without people
    assert set(rows[:, 1]) == {walk.person for walk in world.films[0].walks}
    for number, frame in shoot(world, world.films[0], (20, 30)):
        mine = rows[rows[:, 0] == number + 1]
        seen = frame.visibility >= world.visible
        np.testing.assert_array_equal(mine[:, 1], frame.person[seen])
        np.testing.assert_array_equal(mine[:, 2:4], frame.box[seen, :2])
        np.testing.assert_array_equal(mine[:, 2:4] + mine[:, 4:6], frame.box[seen, 2:])


def test_filming_again_from_the_description_gives_the_same_bytes(world: World, film: tuple[bytes, str]) -> None:
    again = World.from_yaml(world.to_yaml())
    video = io.BytesIO()
    assert record(again, again.films[0], video) == film[1]
    assert video.getvalue() == film[0]


def test_another_seed_gives_other_frames(world: World) -> None:
    other = imagine(people=2, probe_people=0, cameras=1, films=1, size=(240, 180), rate=4.0, seed=1)
    ((_, a),) = shoot(world, world.films[0], [12])
    ((_, b),) = shoot(other, other.films[0], [12])
    assert (a.image != b.image).mean() > 0.5


def test_probe_shots_show_each_person_at_several_moments(world: World) -> None:
    shots = shoot_probe(world, world.probe[0])
    ids = [shot.person for shot in shots]
    assert set(ids) <= {5, 6, 7}
    assert len(set(ids)) >= 2
    for person in set(ids):
        moments = [shot.frame for shot in shots if shot.person == person]
        assert len(moments) == len(set(moments)) <= world.shots
    for shot in shots:
        tall, wide = shot.image.shape[:2]
        assert 1.0 < tall / wide < 6
        image = cv2.imdecode(np.frombuffer(shot.jpeg(), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == shot.image.shape
        assert np.abs(image[..., ::-1].astype(int) - shot.image).mean() < 8
