import numpy as np

from reappear.video.overlap import area, intersection, iou

A = np.array([[0, 0, 4, 4], [0, 0, 0, 0]], np.float32)
B = np.array([[2, 2, 6, 6], [4, 0, 8, 4], [0, 0, 4, 4], [5, 5, 3, 3]], np.float32)


def test_overlaps():
    assert intersection(A, B).tolist() == [[4, 0, 16, 0], [0, 0, 0, 0]]
    assert area(B).tolist() == [16, 16, 16, 0]
    assert np.allclose(iou(A, B), [[4 / 28, 0, 1, 0], [0, 0, 0, 0]])
    assert iou(A, B[:0]).shape == (2, 0)
