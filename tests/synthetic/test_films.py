import io

import av
import cv2
import numpy as np
import pytest

from reappear.synthetic import World, WorldSettings, encode_film, generate_world, render_film, render_test_images


@pytest.fixture(scope="module")
def world() -> World:
    return generate_world(
        WorldSettings(
            people=4, test_people=3, cameras=2, films=1, appearances=2, returns=0.0, width=240, height=180, rate=4.0
        )
    )


@pytest.fixture(scope="module")
def film(world: World) -> tuple[bytes, str]:
    video = io.BytesIO()
    truth = encode_film(world, world.films[0], video)
    return video.getvalue(), truth


def decode(video: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_video_decodes_to_the_rendered_frames(world: World, film: tuple[bytes, str]) -> None:
    frames = decode(film[0])
    assert len(frames) == world.films[0].frames
    for number, rendered in render_film(world, world.films[0], (0, 17, world.films[0].frames - 1)):
        assert frames[number].shape == (180, 240, 3)
        assert np.abs(frames[number].astype(int) - rendered.image).mean() < 12


def test_video_has_the_rate_and_codec(film: tuple[bytes, str]) -> None:
    with av.open(io.BytesIO(film[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 4)


def test_ground_truth_is_the_rendered_boxes_of_visible_people(world: World, film: tuple[bytes, str]) -> None:
    rows = np.loadtxt(io.StringIO(film[1]), delimiter=",")
    assert (rows[:, 8] >= world.visible).all()
    assert rows[:, 0].min() >= 1 + 2  # half a second without people
    assert set(rows[:, 1]) == {walk.person for walk in world.films[0].walks}
    for number, frame in render_film(world, world.films[0], (20, 30)):
        mine = rows[rows[:, 0] == number + 1]
        seen = frame.visibility >= world.visible
        np.testing.assert_array_equal(mine[:, 1], frame.person[seen])
        np.testing.assert_array_equal(mine[:, 2:4], frame.box[seen, :2])
        np.testing.assert_array_equal(mine[:, 2:4] + mine[:, 4:6], frame.box[seen, 2:])


def test_world_read_from_yaml_gives_the_same_bytes(world: World, film: tuple[bytes, str]) -> None:
    again = World.from_yaml(world.to_yaml())
    video = io.BytesIO()
    assert encode_film(again, again.films[0], video) == film[1]
    assert video.getvalue() == film[0]


def test_another_seed_gives_other_frames(world: World) -> None:
    other = generate_world(
        WorldSettings(people=2, test_people=0, cameras=1, films=1, width=240, height=180, rate=4.0, seed=1)
    )
    ((_, a),) = render_film(world, world.films[0], [12])
    ((_, b),) = render_film(other, other.films[0], [12])
    assert (a.image != b.image).mean() > 0.5


def test_test_images_show_each_person_at_several_moments(world: World) -> None:
    images = render_test_images(world, world.test_films[0])
    ids = [one.person for one in images]
    assert set(ids) <= {5, 6, 7}
    assert len(set(ids)) >= 2
    for person in set(ids):
        moments = [one.frame for one in images if one.person == person]
        assert len(moments) == len(set(moments)) <= world.test_images
    for one in images:
        tall, wide = one.image.shape[:2]
        assert 1.0 < tall / wide < 6
        image = cv2.imdecode(np.frombuffer(one.jpeg(), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == one.image.shape
        assert np.abs(image[..., ::-1].astype(int) - one.image).mean() < 8
