import numpy as np

from reappear.core import Assignment
from reappear.store import Identities, read_identities, read_table, write_identities


def test_identities_round_trip(tmp_path):
    assignment = Assignment(np.array([0, 0, -1, 1, 2]), np.array([0, 1, 0]))
    links = {
        "stage": np.array(["cross_video"]),
        "first": np.array([0]),
        "second": np.array([2]),
        "distance": np.ones(1),
    }
    moves = {
        "stage": np.array(["single_tracklet"]),
        "crop": np.array([2]),
        "source": np.array([0]),
        "target": np.array([-1]),
        "distance": np.array([0.7]),
    }
    write_identities(tmp_path, Identities(assignment, links, moves, {"n_s": [0.4, 0.1]}))
    back = read_identities(tmp_path)
    assert back.assignment.tracklet.tolist() == assignment.tracklet.tolist()
    assert back.assignment.identity.tolist() == [0, 1, 0]
    assert back.links["second"].tolist() == [2]
    assert back.moves["stage"].tolist() == ["single_tracklet"]
    assert back.report == {"n_s": [0.4, 0.1]}
    assert read_table(tmp_path / "identities.parquet")["identity"].tolist() == [0, 0, -1, 1, 0]
