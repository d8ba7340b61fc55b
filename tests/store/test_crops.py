import numpy as np
import pytest

from reappear.store import CropStore, ShardWriter, shard_path, write_table


@pytest.fixture
def crops(tmp_path):
    with ShardWriter(shard_path(tmp_path, 4)) as shard:
        places = np.array([shard.add(str(i), bytes([i]) * (i + 1)) for i in range(5)])
    write_table(
        tmp_path / "crops.parquet",
        {
            "video": np.array([0, 0, 0, 1, 1]),
            "tracklet": np.array([0, 0, 1, 2, 2]),
            "shard": np.full(5, 4),
            "offset": places[:, 0],
            "size": places[:, 1],
        },
    )
    write_table(
        tmp_path / "tracklets.parquet",
        {
            "video": np.array([0, 0, 1]),
            "start": np.array([0.0, 1.0, 0.5]),
            "end": np.array([0.5, 1.0, 2.0]),
            "crops": np.array([2, 1, 2]),
        },
    )
    write_table(
        tmp_path / "videos.parquet",
        {
            "path": ["a.mp4", "b.mp4"],
            "camera": ["yard", "door"],
            "width": np.array([8, 8]),
            "height": np.array([6, 6]),
            "rate": np.array([10.0, 25.0]),
            "frames": np.array([3, 4]),
            "truth": np.array([True, False]),
        },
    )
    return CropStore(tmp_path)


def test_images_are_in_the_order_of_the_table(crops):
    assert len(crops) == 5
    assert list(crops.images()) == [bytes([i]) * (i + 1) for i in range(5)]
    assert crops.image(3) == bytes([3]) * 4


def test_tracklets_and_videos(crops):
    assert crops.offsets.tolist() == [0, 2, 3, 5]
    assert [(video.id, video.path.name, video.size, video.camera) for video in crops.videos] == [
        (0, "a.mp4", (8, 6), "yard"),
        (1, "b.mp4", (8, 6), "door"),
    ]
    assert crops.camera.tolist() == [1, 1, 1, 0, 0]  # numbered by name: door 0, yard 1
    assert not crops.has_truth
    tracklets = crops.tracklet_set(np.eye(5, dtype=np.float32))
    assert (len(tracklets), tracklets.origin.tolist()) == (3, [0, 0, 1, 2, 2])
