import numpy as np
import pytest

from reappear.metrics import RetrievalTask, most_seen, score_cameras
from reappear.metrics.ranking import rank


def test_each_pair_of_cameras_is_a_ranking_of_its_own():
    rng = np.random.default_rng(0)
    ids, cameras = np.repeat(np.arange(10), 6), np.tile([1, 2, 5], 20)
    rows = rng.normal(size=(10, 6))[ids] + 0.8 * rng.normal(size=(60, 6))
    asked = np.arange(60) % 6 < 2  # of cameras 1 and 2
    query, gallery = {}, {}
    for side, mine in ((query, asked), (gallery, ~asked)):
        side.update(rows=rows[mine], ids=ids[mine], cameras=cameras[mine])

    def search(first, second):
        return {
            "query": query["rows"][first],
            "gallery": gallery["rows"][second],
            "query_ids": query["ids"][first],
            "gallery_ids": gallery["ids"][second],
            "query_cameras": query["cameras"][first],
            "gallery_cameras": gallery["cameras"][second],
        }

    everything = search(slice(None), slice(None))
    found = score_cameras(RetrievalTask.of(everything.pop("query"), everything.pop("gallery"), **everything))
    assert found.cameras.tolist() == [1, 2, 5]
    for row, first in enumerate((1, 2)):
        for column, second in enumerate((1, 2, 5)):
            if first == second:
                assert found.queries[row, column] == 0
                assert np.isnan(found.mean_ap[row, column])
                continue
            alone = search(query["cameras"] == first, gallery["cameras"] == second)
            expected = rank(alone.pop("query"), alone.pop("gallery"), **alone)
            assert found.queries[row, column] == expected.valid.sum()
            assert found.mean_ap[row, column] == pytest.approx(expected.mean_ap)
            assert found.first_right[row, column] == pytest.approx(expected.cmc[0])
    assert (found.queries[2] == 0).all()


def test_people_seen_by_most_cameras_come_first_then_those_in_most_images():
    ids = np.array([7, 7, 7, 2, 2, 5, 5, 5, -1, -1, 3, 3])
    cameras = np.array([0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 2, 1])
    assert [most_seen(ids, cameras, count).tolist() for count in range(5)] == [[], [5], [2, 5], [2, 3, 5], [2, 3, 5, 7]]
